"""Heads on any embedder: shapes, owners, amplitude, records of any length, calibration, learning."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
import pytest
import torch
from lightning_fabric import Fabric
from torch import nn

from seislatent import catalog
from seislatent.batch import Batch
from seislatent.config import Nested
from seislatent.engine.recipe import Recipe
from seislatent.engine.trainer import Engine, owned_once
from seislatent.errors import SeislatentError
from seislatent.systems.base import Embedder, System
from seislatent.systems.features.footing import centred
from seislatent.systems.features.surroundings import Surroundings
from seislatent.waveform import Channel, Waveform


@dataclass(frozen=True, kw_only=True)
class MomentsConfig:
    width: int = 7
    weights: dict[str, float] = field(default_factory=dict)


class Moments(System, Embedder):
    """A vector per record, as a spectrogram autoencoder or SymAE gives: no maps, no rate of its own."""

    Config = MomentsConfig

    def __init__(self, config):
        super().__init__(config)
        self.mix = nn.Linear(540, config.width)

    def embed(self, x):
        x = x / x.abs().amax((1, 2), keepdim=True).clamp_min(1e-30)
        return self.mix(x.square().mean(1))


ENCODERS = {
    "features/autoencoder": {"maps": 8, "weights": {"waveform": 1.0}},
    "codec/eqcodec": {"width": 4, "lstm_layers": 1, "latent": 8, "books": 3, "entries": 16, "weights": {"commit": 0.1}},
    "moments": {},
}


@pytest.fixture(autouse=True)
def moments(monkeypatch):
    monkeypatch.setitem(catalog.SYSTEMS, "moments", Moments)


def built(kind, encoder="features/autoencoder", **keys):
    """A small head."""
    torch.manual_seed(0)
    inner = {"system": encoder, "config": ENCODERS[encoder]}
    return catalog.build(f"features/{kind}", {"encoder": inner, "dense": 16, **keys})


def quakes(count, seed=0, length=540, rate=20.0):
    """Noise in even rows, noise with an onset in odd ones: x [b 3 t], label [b], onset as a sample number (NaN in noise)."""
    dice = torch.Generator().manual_seed(seed)
    x, label = torch.randn(count, 3, length, generator=dice), torch.arange(count) % 2
    onset = length * (0.2 + 0.5 * torch.rand(count, generator=dice))
    since = (torch.arange(length) - onset[:, None]).clamp_min(0) / rate
    wave = 40 * torch.sin(2 * torch.pi * 3 * since) * torch.exp(-since / 3)
    return x + (wave * label[:, None])[:, None], label, torch.where(label > 0, onset, torch.nan)


def learnt(system, batch, steps, rates=None):
    """The system after some steps on one batch."""
    recipe = Recipe(rates=rates or {"encoder": 3e-3, "head": 3e-3}, betas=(0.9, 0.999), steps=steps)
    engine = Engine(system, recipe, Fabric(accelerator="cpu", devices=1))
    for _ in range(steps):
        told = engine.step(batch)
    return system.eval(), told


@pytest.mark.parametrize("encoder", ENCODERS)
@pytest.mark.parametrize("kernels", [0, 32])
def test_any_embedder_carries_a_head(encoder, kernels, tmp_path):
    rate = 40.0 if encoder == "codec/eqcodec" else 20.0
    system = built("classifier", encoder, labels=["a", "b", "c"], kernels=kernels)
    assert (system.sampling_rate_hz, system.samples) == (rate, round(27 * rate)) and system.labels == ("a", "b", "c")
    x = quakes(4, length=system.samples, rate=rate)[0]
    maps, frames = system.footing(x).shape[1:]
    assert system.head.dense.in_features == (kernels or maps) * frames
    said = system.classify(x)
    assert said.shape == (4, 3) and torch.allclose(said.sum(1), torch.ones(4))
    owners = owned_once(system)  # everybody has one owner, the codec's decoder and books rest
    assert {*owners} == {"encoder", "head"}
    learning = {id(p) for ps in owners.values() for p in ps}
    assert all(id(p) not in learning for m in system.frozen() for p in m.parameters())
    path = catalog.save(tmp_path / "x.safetensors", system, "features/classifier")
    torch.testing.assert_close(catalog.load(path).system.classify(x), said)


def test_a_head_stands_on_embedders_alone(monkeypatch):
    class Bare(System):
        Config = MomentsConfig

    monkeypatch.setitem(catalog.SYSTEMS, "bare", Bare)
    with pytest.raises(SeislatentError, match="bare is no embedder"):
        catalog.build("features/classifier", {"encoder": {"system": "bare"}})


@pytest.mark.parametrize(
    ("kind", "keys", "match"),
    [
        ("classifier", {"labels": ["a"]}, "1 labels .* give 2 to 20"),
        ("classifier", {"labels": ["a", "a"]}, "each once"),
        ("classifier", {"labels": [str(i) for i in range(21)]}, "21 labels"),
        ("classifier", {"background": "silence"}, "none of the labels"),
        ("arrival", {"phases": ["Pn"]}, r"give \[P\], \[S\] or \[P, S\]"),
    ],
)
def test_settings_that_cannot_be(kind, keys, match):
    with pytest.raises(SeislatentError, match=match):
        built(kind, **keys)


@pytest.mark.parametrize("scale", [1.0, 1e-9, 1e6])
@pytest.mark.parametrize("offset", [0.0, 1e4])
def test_unit_and_offset_do_not_matter(scale, offset):
    system, x = built("classifier"), quakes(4)[0].double()
    torch.testing.assert_close(system.classify((x + offset) * scale), system.classify(x), rtol=1e-4, atol=1e-4)


def test_missing_samples_are_zero_and_do_not_move_the_mean():
    x = torch.randn(2, 3, 540) + 100
    x[:, 2], x[0, 0, 200:300] = torch.nan, torch.inf
    y = centred(x)
    assert not y[:, 2].any() and not y[0, 0, 200:300].any() and y[0, 0].sum().abs() < 1e-2
    valid = torch.isfinite(x)
    torch.testing.assert_close(centred(torch.where(valid, x, 7.0), valid), y)


@pytest.mark.parametrize("length", [1, 100, 540, 541, 1500])
@pytest.mark.parametrize("components", [1, 3])
def test_records_of_any_length(length, components):
    system = built("classifier", background="noise")
    said = system.judge(torch.randn(2, components, length))
    assert said.probabilities.shape == (2, 2) and torch.isfinite(said.probabilities).all()
    with pytest.raises(SeislatentError, match="1 to 3 components"):
        system.classify(torch.randn(2, 4, 540))


def test_windows_cover_a_record_and_its_loudest_one_speaks():
    x, label, _ = quakes(64)
    system, _ = learnt(built("classifier", background="noise"), Batch(x=x, label=label), 60)
    new, new_label, _ = quakes(20, seed=1)
    one = system.classify(new)
    assert (one.argmax(1) == new_label).float().mean() >= 0.9
    quiet = quakes(40, seed=2)[0][::2]
    long = torch.cat([quiet, new, quiet], 2)  # noise on either side does not hide an earthquake
    assert (system.classify(long)[:, 1] >= one[:, 1] - 0.2)[new_label == 1].all()
    other = built("classifier")  # without a background the loudest window speaks
    other.load_state_dict(system.state_dict())
    cut = system.footing.cut(long)
    loudest = cut.var(3).sum(2).argmax(1)
    torch.testing.assert_close(other.classify(long), other.classify(cut[torch.arange(20), loudest]))


@pytest.mark.parametrize("value", [0.0, 3.0, float("nan")])
def test_what_does_not_move_is_unknown(value):
    system = built("classifier", background="noise")
    said = system.judge(torch.full((2, 3, 700), value))
    assert said.unknown.all() and said.probabilities[:, 0].tolist() == [1, 1]
    assert built("classifier").unknown(torch.full((1, 3, 20), value)).all()


def test_it_overfits_eight_records_and_says_so():
    x, label, _ = quakes(8)
    system, told = learnt(built("classifier"), Batch(x=x, label=label), 60)
    assert told["label"] < 0.05
    measures = system.measures(Batch(x=x, label=label))
    assert measures["accuracy"].mean() == 1 and measures["recall/noise"].tolist() == [1] * 4


def test_schemas_of_table_1():
    x, label, _ = quakes(16)
    batch, first = Batch(x=x, label=label), built("classifier")
    before = {k: v.clone() for k, v in first.state_dict().items()}

    def moved(system, part):
        now = system.state_dict()
        return any(not torch.equal(now[k], before[k]) for k in before if k.startswith(part))

    one, _ = learnt(first, batch, 3, {"head": 1e-2})
    assert moved(one, "head") and not moved(one, "footing")
    two, _ = learnt(one, batch, 3, {"encoder": 5e-5, "head": 5e-5})
    assert moved(two, "footing.encoder.encoder") and not moved(two, "footing.encoder.decoder")


def test_calibration_tells_temperature_and_the_unknown():
    x, label, _ = quakes(256)
    system, _ = learnt(built("classifier", bank=100), Batch(x=x, label=label), 60)
    dev, dev_label, _ = quakes(200, seed=3)
    dev_label[::9] = 1 - dev_label[::9]  # a tenth is mislabelled: the head is too sure

    def records():
        for i in range(0, 200, 50):
            yield Batch(x=dev[i : i + 50], label=dev_label[i : i + 50])

    with torch.no_grad():
        told = system.calibrate(records)
    assert told["records"] == 200 and told["bank"] == 100 and told["temperature"] > 1.2
    assert told["expected_calibration_error"] < told["expected_calibration_error_without_temperature"] > 0.05
    fresh = quakes(200, seed=4)[0]
    assert system.unknown(fresh).float().mean() < 0.06
    sure = system.classify(fresh).max(1).values.mean()
    assert sure == pytest.approx(0.9, abs=0.05)


def test_what_lies_elsewhere_is_unknown():
    dice = torch.Generator().manual_seed(0)
    known = torch.zeros(300, 8)
    known[:, :4] = 1 + 0.2 * torch.randn(300, 4, generator=dice)
    near, far = known[200:] * 5, known[200:].flip(1)  # louder is not farther
    around = Surroundings(8, 100, 5)
    assert around(near).tolist() == [0] * 100
    told = around.settle(known[:200], 0.99)
    assert told["bank"] == 100 and told["neighbours"] == 5
    assert (around(near) > 1).float().mean() < 0.05 and (around(far) > 1).all()
    assert around.settle(known[:1], 0.99) == {"unknown_beyond": None} and not around(far).any()


@pytest.mark.parametrize("phases", [("P",), ("P", "S")])
def test_arrivals_are_learnt_and_missing_ones_masked(phases):
    x, _, onset = quakes(16)
    given = torch.stack([onset, onset + 60], 1)[:, : len(phases)]
    batch = Batch(x=x, condition=given)
    system, told = learnt(built("arrival", phases=list(phases)), batch, 150)
    assert told["arrival"] < 0.4, "s; a constant is off by 2 s"
    measures = system.measures(batch)
    assert len(measures["arrival"]) == 8 * len(phases) and measures["error_s/P"].mean() < 0.4
    found = system.arrivals(x)[:, 0]
    assert float((found - onset)[1::2].abs().mean()) / 20 == pytest.approx(measures["error_s/P"].mean().item(), abs=1e-5)
    if len(phases) == 1:
        torch.testing.assert_close(system.measures(Batch(x=x, label=onset))["arrival"], measures["arrival"])
        none = system.measures(Batch(x=x, label=torch.full((16,), torch.nan)))
        assert len(none["arrival"]) == 0
    with pytest.raises(SeislatentError, match=r"--dataset\.conditions"):
        system.measures(Batch(x=x))


def test_an_arrival_that_was_thrown_below_zero_comes_back():
    """A rectifier at the end has no slope there: without one while it learns, every answer would be sample 0 for good."""
    head = built("arrival")
    with torch.no_grad():
        head.head.out.bias.fill_(-0.5)
        head.head.out.weight.zero_()
    batch = Batch(x=torch.randn(8, 3, head.samples), condition=torch.full((8, 1), 200.0))
    step = torch.optim.Adam(head.head.parameters(), 0.05)
    assert float(head.eval()._samples(batch.x).detach().max()) == 0
    for _ in range(40):
        (turn,) = head.train().turns(batch)
        turn.terms["arrival"].mean().backward()
        step.step()
        step.zero_grad()
    assert float((head.eval()._samples(batch.x) - 200).abs().detach().max()) < 60


def test_a_step_without_any_arrival_changes_nothing():
    system, before = built("arrival"), built("arrival").state_dict()
    x = quakes(4)[0]
    learnt(system, Batch(x=x, label=torch.full((4,), torch.nan)), 1)
    assert all(torch.equal(v, before[k]) for k, v in system.state_dict().items() if "spread" not in k)


def test_a_pick_counts_in_the_records_own_samples():
    system, x = built("arrival"), quakes(2)[0]
    with torch.no_grad():
        told = system.calibrate(lambda: iter([Batch(x=x, label=torch.tensor([100.0, 120.0]))]))
    record = Waveform(
        data=x[1].double().numpy(), sampling_rate_hz=20.0, channels=tuple(Channel(code=f"HH{c}", component=c) for c in "ZNE")
    )
    (pick,) = system.pick(record)
    assert pick.phase == "P" and pick.sample == pytest.approx(float(system.arrivals(x)[1, 0]), abs=1e-2)
    assert pick.uncertainty_s == pytest.approx(told["uncertainty_s"]["P"])
    turned = replace(record, data=record.data[[2, 0, 1]], channels=tuple(record.channels[i] for i in (2, 0, 1)))
    assert system.pick(turned)[0].sample == pick.sample
    fine = replace(record, data=np.repeat(record.data, 5, 1), sampling_rate_hz=100.0)
    assert system.pick(fine)[0].sample == pytest.approx(5 * pick.sample, rel=0.3)
    with pytest.raises(SeislatentError, match="windows of 540"):
        system.arrivals(torch.zeros(1, 3, 541))


def test_an_encoder_with_weights_comes_along(tmp_path):
    encoder = catalog.build("features/autoencoder", ENCODERS["features/autoencoder"])
    path = catalog.save(tmp_path / "encoder.safetensors", encoder, "features/autoencoder")
    system = catalog.build("features/classifier", {"encoder": {"system": str(path)}, "labels": ["x", "y"]})
    assert isinstance(system.config.encoder, Nested) and system.config.encoder.system == "features/autoencoder"
    for key, value in encoder.state_dict().items():
        assert torch.equal(system.footing.encoder.state_dict()[key], value)
