"""The noise discriminator of the package: what it says of a clear record, of noise, of silence and of a dead component."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import seislatent


@pytest.fixture(scope="module")
def model():
    return seislatent.load("features/noise")


@pytest.fixture(scope="module")
def quake():
    """27 s of the earthquake that ObsPy brings along, at 20 Hz, in float64."""
    import obspy

    stream = obspy.read().filter("lowpass", freq=8).resample(20.0)
    return torch.from_numpy(np.stack([stream.select(component=c)[0].data[:540] for c in "ZNE"]))


def test_a_clear_earthquake_in_any_unit(model, quake):
    for scale, offset in ((1.0, 0.0), (1e-9, 0.0), (1e3, 1e6)):
        said = model.system.judge((quake * scale + offset)[None])
        assert said.probabilities[0, 1] > 0.95 and not said.unknown[0]
    alone = torch.full_like(quake, torch.nan)
    alone[0] = quake[0]
    assert model.system.classify(alone[None])[0, 1] > 0.8


def test_noise(model):
    x = torch.from_numpy(np.random.default_rng(0).standard_normal((20, 3, 540)))
    assert (model.system.classify(x)[:, 1] < 0.5).float().mean() >= 0.9
    assert (model.system.classify(x.cumsum(2))[:, 1] < 0.5).float().mean() >= 0.9


@pytest.mark.parametrize("value", [0.0, 12.0, float("nan")])
def test_nothing_is_no_earthquake(model, value):
    said = model.system.judge(torch.full((1, 3, 540), value))
    assert said.unknown.all() and said.probabilities[0].tolist() == [1, 0]


def test_what_it_was_made_with(model):
    told = model.about["calibration"]
    assert told["expected_calibration_error"] < 0.02 and model.about["data"]["dataset"] == "discrimination"
    assert model.system.labels == ("noise", "earthquake") and model.system.config.background == "noise"
