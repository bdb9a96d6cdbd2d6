"""Reliability of probabilities: by hand, with weights, at the ends of the scale."""

from __future__ import annotations

import pytest
import torch

from seislatent.errors import SeislatentError
from seislatent.metrics.calibration import reliability


def test_by_hand():
    p = torch.tensor([[0.95, 0.05], [0.95, 0.05], [0.15, 0.85], [0.45, 0.55]])
    it = reliability(p, torch.tensor([0, 1, 1, 0]), bins=10)
    assert it.weight.tolist() == pytest.approx([0, 0, 0, 0, 0, 0.25, 0, 0, 0.25, 0.5])
    assert it.right[9] == 0.5 and it.right[8] == 1 and it.right[5] == 0 and it.right[0].isnan()
    assert float(it.error) == pytest.approx(0.5 * 0.45 + 0.25 * 0.15 + 0.25 * 0.55)


def test_weights_and_certainty():
    p = torch.tensor([[1.0, 0.0], [1.0, 0.0]])
    it = reliability(p, torch.tensor([0, 1]), weight=torch.tensor([3.0, 1.0]))
    assert float(it.error) == pytest.approx(0.25) and it.right[-1] == 0.75


def test_probabilities_that_hold_have_no_error():
    dice = torch.Generator().manual_seed(0)
    sure = 0.5 + 0.5 * torch.rand(200_000, generator=dice)
    label = (torch.rand(200_000, generator=dice) > sure).long()
    assert reliability(torch.stack([sure, 1 - sure], 1), label).error < 0.005


def test_refusals():
    with pytest.raises(SeislatentError, match="a row per record"):
        reliability(torch.ones(3, 2), torch.zeros(2, dtype=torch.long))
    with pytest.raises(SeislatentError, match="a row per record"):
        reliability(torch.ones(0, 2), torch.zeros(0, dtype=torch.long))
