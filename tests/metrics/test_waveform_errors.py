import math

import pytest
import torch

from seislatent.errors import SeislatentError
from seislatent.metrics.waveform import waveform_errors


def test_values_by_hand():
    found = waveform_errors(torch.tensor([[[1.0, 2.0, 3.0]]]), torch.tensor([[[1.0, 0.0, 4.0]]]), 40.0)
    assert found.mse.shape == (1, 1)
    assert found.mse.item() == pytest.approx(5 / 3) and found.mae.item() == pytest.approx(1)
    assert found.snr_db.item() == pytest.approx(10 * math.log10(17 / 5))


@pytest.mark.parametrize("amplitude", [1e9, 1.0, 1e-9])
def test_ratio_does_not_depend_on_the_unit(amplitude):
    x, e = torch.randn(2, 5, 1, 1000, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    found = waveform_errors(amplitude * (x + 0.1 * e), amplitude * x, 40.0)
    torch.testing.assert_close(found.snr_db, torch.full((5, 1), 20.0, dtype=torch.float64), atol=0.6, rtol=0)


def test_silence_identity_and_nan_have_stated_values():
    one, zero = torch.ones(1, 4), torch.zeros(1, 4)
    assert waveform_errors(one, one, 40.0).snr_db == math.inf
    assert waveform_errors(one, zero, 40.0).snr_db == -math.inf
    assert waveform_errors(zero, one, 40.0).snr_db == 0
    silent = waveform_errors(zero, zero, 40.0)
    assert silent.mse == 0 and silent.mae == 0 and silent.snr_db.isnan()
    assert waveform_errors(one * math.nan, one, 40.0).mse.isnan()
    assert waveform_errors(one[:, :0], one[:, :0], 40.0).mse.isnan()
    assert waveform_errors(one[:, :1], 2 * one[:, :1], 40.0).mae == 1
    counts = torch.tensor([[2_000_000_000, -2_000_000_000]], dtype=torch.int32)
    assert waveform_errors(-counts, counts, 40.0).mae == 4e9


def test_an_offset_counts_as_signal():
    x = torch.randn(1, 100, dtype=torch.float64)
    assert waveform_errors(0 * x + 1e3, x + 1e3, 40.0).snr_db > 50


def test_other_shapes_are_told():
    with pytest.raises(SeislatentError, match=r"\(2, 3\).*\(2, 4\)"):
        waveform_errors(torch.zeros(2, 3), torch.zeros(2, 4), 40.0)


@pytest.mark.parametrize(
    ("x", "rate_hz", "words"),
    [
        (torch.ones(2, 3), 0.0, "sampling rate of 0.0 Hz"),
        (torch.ones(2, 3), math.nan, "sampling rate of nan Hz"),
        (torch.ones(2, 3) + 0j, 40.0, "estimate is complex"),
        (torch.ones(2, 3, device="meta"), 40.0, "on meta and the reference on cpu"),
    ],
)
def test_what_cannot_be_compared_is_told(x, rate_hz, words):
    with pytest.raises(SeislatentError, match=words):
        waveform_errors(x, torch.ones(2, 3), rate_hz)
