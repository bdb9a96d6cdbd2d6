"""Windows for the discriminator: classes from arrivals, short noise played forth and back, one batch for all processes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from seislatent import stores
from seislatent.batch import Batch
from seislatent.data.discrimination_windows import DiscriminationWindows, DiscriminationWindowsConfig, Mirrored


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """Synthetic earthquakes and noise, 40 s at 20 Hz."""
    out = tmp_path_factory.mktemp("synthetic") / "store"
    keys = {"events": 40, "sampling_rate_hz": 20.0, "samples": 1400, "p_s": [10.0, 50.0]}
    stores.prepare("data/synthetic_picking", None, out, recipe_keys=keys, split_keys={"shares": [0.6, 0.2, 0.2]}, workers=1)
    return out


@pytest.fixture(scope="module")
def windows(store):
    return DiscriminationWindows(DiscriminationWindowsConfig(), [store], batch=32, seed=0)


def test_both_classes_and_what_is_neither(windows):
    batches = [windows.batch(k, 0, 1) for k in range(4)]
    label = torch.cat([b.label for b in batches])
    assert (label == 0).float().mean() == pytest.approx(0.5, abs=0.15) and (label == 1).sum() > 30
    for b in batches:
        assert b.x.shape == (32, 3, 540) and torch.isfinite(b.x).all() and not b.x[~b.valid].any() and b.condition is None
    again = windows.batch(1, 0, 1)
    assert torch.equal(again.x, batches[1].x) and torch.equal(again.label, batches[1].label)


def test_processes_share_a_batch(windows):
    whole, parts = windows.batch(3, 0, 1), [windows.batch(3, rank, 2) for rank in range(2)]
    assert torch.equal(torch.cat([p.label for p in parts]), whole.label)
    torch.testing.assert_close(torch.cat([p.x for p in parts]), whole.x)


def test_another_split_is_the_same_each_time(windows):
    held = windows.of("dev")
    one, two = next(iter(held.once())), next(iter(held.once()))
    assert torch.equal(one.x, two.x) and held.config.split == "dev" and {0, 1} <= set(one.label.tolist())


@pytest.mark.parametrize(
    ("marks", "known", "label"),
    [
        ([100.0, 200.0], True, 1),
        ([np.nan, 300.0], True, 1),
        ([530.0, np.nan], True, -1),
        ([np.nan, np.nan], True, 0),
        ([np.nan, np.nan], False, -1),
    ],
)
def test_what_makes_a_class(windows, marks, known, label):
    x = torch.randn(1, 3, 540)
    batch = Batch(
        x=x, valid=torch.ones_like(x, dtype=torch.bool), condition=torch.tensor([marks]), mask=torch.full((1, 2, 540), known)
    )
    it = DiscriminationWindows.__new__(DiscriminationWindows)
    it.config = replace(windows.config, truncated=0.0)
    assert it.told(batch, np.random.default_rng(0)).label.tolist() == [label]


def test_short_noise_is_played_forth_and_back():
    class Short:
        npts, length = np.array([4, 4]), 10

        def read(self, records, first, array="x"):
            x = np.zeros((len(records), 1, 10), np.float32)
            for i, at in enumerate(first):
                x[i, 0, -at : -at + 4] = [1, 2, 3, 4]
            return x, x > 0

    x, valid = Mirrored(Short(), np.array([True, False])).read(np.array([0, 1]), np.array([-5, -5]))
    assert x[0, 0].tolist() == [2, 3, 4, 3, 2, 1, 2, 3, 4, 3] and valid[0].all()  # the record itself stays where it is
    assert not valid[1].all()
    assert x[1, 0].tolist() == [0, 0, 0, 0, 0, 1, 2, 3, 4, 0]
