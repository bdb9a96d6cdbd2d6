"""The point-wise head: any embedder, learning, and picks that do not depend on where a record was cut."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from lightning_fabric import Fabric

from seislatent import catalog
from seislatent.batch import Batch
from seislatent.engine.recipe import Recipe
from seislatent.engine.trainer import Engine, owned_once
from seislatent.errors import SeislatentError
from seislatent.waveform import Channel, Waveform

ENCODER = {"system": "features/autoencoder", "config": {"maps": 8, "weights": {"waveform": 1.0}}}
CODEC = {"width": 4, "lstm_layers": 1, "latent": 8, "books": 3, "entries": 16, "weights": {"commit": 0.1}}


def events(count, seed=0, length=540):
    """x [b 3 t] with a P at the vertical and an S on the horizontals, and both sample numbers [b 2]."""
    dice = torch.Generator().manual_seed(seed)
    x = torch.randn(count, 3, length, generator=dice)
    p = 100 + 200 * torch.rand(count, generator=dice)
    s = p + 60 + 60 * torch.rand(count, generator=dice)
    for rows, at, tone in ((slice(0, 1), p, 4.0), (slice(1, 3), s, 2.0)):
        since = (torch.arange(length) - at[:, None]).clamp_min(0) / 20
        x[:, rows] += (40 * torch.sin(2 * torch.pi * tone * since) * torch.exp(-since / 2))[:, None]
    return x, torch.stack([p, s], 1)


@pytest.fixture(scope="module")
def learnt():
    """A head that has learnt 8 records."""
    torch.manual_seed(0)
    system = catalog.build("features/points", {"encoder": ENCODER, "width": 16})
    x, marks = events(8)
    engine = Engine(system, Recipe(rates={"encoder": 5e-3, "head": 5e-3}, steps=250), Fabric(accelerator="cpu", devices=1))
    batch = Batch(x=x, condition=marks, valid=torch.ones_like(x, dtype=torch.bool))
    for _ in range(250):
        engine.step(batch)
    system.eval()
    with torch.no_grad():
        told = system.calibrate(lambda: iter([batch]))
    return system, batch, told


@pytest.mark.parametrize(("encoder", "rate"), [(ENCODER, 20.0), ({"system": "codec/eqcodec", "config": CODEC}, 40.0)])
def test_any_embedder(encoder, rate):
    system = catalog.build("features/points", {"encoder": encoder})
    n = round(27 * rate)
    assert (system.sampling_rate_hz, system.samples, system.margin, system.stride) == (rate, n, n // 4, n - 2 * (n // 4))
    said = system.probabilities(torch.randn(2, 3, n), torch.ones(2, 3, n, dtype=torch.bool))
    assert said.shape == (2, 2, n) and said.min() >= 0 and said.sum(1).max() <= 1 and set(owned_once(system)) == {"encoder", "head"}
    with pytest.raises(SeislatentError, match=f"give .batch, 3, {n}."):
        system.probabilities(torch.zeros(1, 3, n - 1), torch.ones(1, 3, n - 1, dtype=torch.bool))


def test_it_overfits_eight_records(learnt):
    system, batch, told = learnt
    measures = system.measures(batch)
    for phase in "PS":
        assert measures[f"recall_{phase}"].mean() == 1 and measures[f"precision_{phase}"].mean() >= 0.8, told
        assert told[phase]["f1"] > 0.85 and 0 < told[phase]["threshold"] < 1
        assert 0 < system.uncertainty_s(phase, 0.5) < 0.5 or np.isnan(system.uncertainty_s(phase, 0.5))
    assert system.thresholds == {phase: pytest.approx(told[phase]["threshold"]) for phase in "PS"}


def test_what_is_not_known_teaches_nothing(learnt):
    system, batch, _ = learnt
    mask = torch.ones(8, 2, 540, dtype=torch.bool)
    mask[:, 1, 200:] = False
    entropy = system.cross_entropy(Batch(x=batch.x, condition=batch.condition, mask=mask))
    assert not entropy[:, 200:].any() and entropy[:, :200].all()
    with pytest.raises(SeislatentError, match=r"--dataset\.conditions"):
        system.cross_entropy(Batch(x=batch.x, condition=batch.condition[:, :1]))


def test_picks_do_not_depend_on_the_cut(learnt):
    system, batch, _ = learnt
    quiet = np.random.default_rng(0).standard_normal((3, 4000))
    quiet[:, 2000:2540] = batch.x[0].numpy()
    channels = tuple(Channel(network="XX", station="A", code=f"HH{c}", component=c) for c in "ZNE")

    def picks(first, last):
        record = Waveform(data=quiet[:, first:last], sampling_rate_hz=20.0, channels=channels, start_ns=10**18 + first * 5 * 10**7)
        return {(p.phase, round(p.sample + first, 2)) for p in system.pick(record) if 1900 < p.sample + first < 2600}

    system.least.fill_(0.2)
    whole = picks(0, 4000)
    assert whole
    assert whole == picks(700, 3700) == picks(1013, 3801)
