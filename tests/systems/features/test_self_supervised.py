"""Contrastive and masked features: views, spans, what heads stand on, learning."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from lightning_fabric import Fabric
from two_features import NAMES as SHARED
from two_features import five_steps

from seislatent import catalog, stores
from seislatent.batch import Batch
from seislatent.data.record_batches import RecordBatches, RecordBatchesConfig
from seislatent.data.record_views import RecordViews
from seislatent.engine import checkpoint
from seislatent.engine.recipe import Recipe
from seislatent.engine.trainer import Engine
from seislatent.errors import SeislatentError
from seislatent.losses.contrastive import nt_xent
from seislatent.prepare.augment import AugmentConfig
from seislatent.signal.peak import levelled
from seislatent.systems.features.contrastive import Contrastive, ContrastiveConfig
from seislatent.systems.features.masked import Masked, MaskedConfig

NAMES = ["features/contrastive", "features/masked"]


def records(count, seed=0, samples=540):
    """Oscillations of 0.5 to 4 Hz under a decaying envelope [b 3 t]."""
    dice = torch.Generator().manual_seed(seed)
    t = torch.arange(samples) / 20
    rate, phase, onset = (torch.rand(3, count, 3, 1, generator=dice) * torch.tensor([3.5, 6.0, 10.0]).view(3, 1, 1, 1)).unbind()
    since = (t - onset[:, :1]).clamp_min(0)
    return torch.sin(2 * torch.pi * (0.5 + rate) * t + phase) * since * torch.exp(-since / 4)


def views(batch, seed=0):
    """The same records with noise and another polarity."""
    dice = torch.Generator().manual_seed(seed)
    return Batch(x=batch, target=-batch + 0.05 * torch.randn(batch.shape, generator=dice))


@pytest.mark.parametrize("name", NAMES)
def test_heads_stand_on_what_they_stand_on_in_the_autoencoder(name):
    system, x = catalog.build(name), records(3)
    other = catalog.build("features/autoencoder")
    assert system.features(x).shape == other.features(x).shape == (3, 128, 68)
    assert system.encoder.state_dict().keys() == other.encoder.state_dict().keys() and system.trunk() == [system.encoder]
    assert (system.sampling_rate_hz, system.samples) == (20, 540)
    torch.testing.assert_close(system.embed(x * 1e-9 + 1e-9), system.embed(x), rtol=0, atol=1e-3)
    assert system.embed(torch.zeros(2, 3, 540)).isfinite().all()


def learnt(name, config, steps, make, rate=3e-3):
    torch.manual_seed(0)
    system = catalog.build(name, config)
    engine = Engine(system, Recipe(rates={"model": rate}, steps=steps), Fabric(accelerator="cpu", devices=1))
    for step in range(steps):
        engine.step(make(step))
    return system.eval()


def test_contrast_overfits_eight_records():
    x = records(8)
    fresh = catalog.build("features/contrastive", {"maps": 16}).measures(views(x))
    system = learnt("features/contrastive", {"maps": 16}, 60, lambda step: views(x, step))
    told = system.measures(views(x, 1000))
    assert told["found"].mean() == 1 and fresh["found"].mean() < 0.9
    assert told["contrast"].mean() < 0.3 * fresh["contrast"].mean()


def test_contrast_is_that_of_its_codes():
    torch.manual_seed(0)
    system, batch = Contrastive(ContrastiveConfig(maps=8, temperature=0.5)), views(records(6))
    (turn,) = system.turns(batch)
    told = nt_xent(system.codes(batch.x), system.codes(batch.target), 0.5)
    torch.testing.assert_close(turn.terms["contrast"], told)
    maps = system.features(batch.x)
    torch.testing.assert_close(system.embed(batch.x), torch.cat([maps.mean(2), maps.amax(2)], 1))
    with pytest.raises(SeislatentError, match="record_views"):
        list(system.turns(Batch(x=batch.x)))


def test_masked_overfits_eight_records():
    x = records(8)
    torch.manual_seed(1)
    given = Masked(MaskedConfig()).given(8, 540).expand_as(x)
    batch = Batch(x=x, mask=given)
    system = learnt("features/masked", {"maps": 32}, 300, lambda step: batch, rate=1e-2)
    told, nothing = system.measures(batch)["hidden"].mean(), levelled(x).x.abs()[~given].mean()
    assert told < 0.45 * nothing, f"{told:.4f} of {nothing:.4f}"


@pytest.mark.parametrize("share", [0.2, 0.4, 0.7])
def test_the_share_that_is_hidden(share):
    system = Masked(MaskedConfig(share=share, maps=4))
    torch.manual_seed(0)
    given = system.given(400, 540)
    assert given.shape == (400, 1, 540) and (~given).float().mean() == pytest.approx(share, abs=0.02)
    edges = (~given).float().mean((0, 1))  # no place is spared
    assert edges[:20].mean() == pytest.approx(share, abs=0.05) and edges[-20:].mean() == pytest.approx(share, abs=0.05)
    assert not torch.equal(given, system.given(400, 540))


def test_hidden_samples_are_not_seen_and_alone_are_learnt():
    torch.manual_seed(0)
    system, x = Masked(MaskedConfig(maps=8)), records(4)
    mask = torch.ones(4, 3, 540, dtype=torch.bool)
    mask[:, :, 200:220] = False
    valid = torch.ones_like(mask)
    valid[:, 1] = False
    (turn,) = system.turns(Batch(x=x, mask=mask, valid=valid))
    its = levelled(x).x
    y = system.decoder(system.encoder(its * mask))
    torch.testing.assert_close(turn.terms["hidden"], (y - its)[:, ::2, 200:220].abs().mean((1, 2)))
    (all_given,) = system.turns(Batch(x=x, mask=torch.ones_like(mask)))
    assert all_given.terms["hidden"].tolist() == [0, 0, 0, 0]
    with pytest.raises(SeislatentError, match="share of 1"):
        Masked(MaskedConfig(share=1.0))


# -- views from a store -----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    keys = {"events": "30", "classes": "[earthquake]"}
    stores.prepare("data/synthetic_kong", None, out := tmp_path_factory.mktemp("s") / "s", recipe_keys=keys)
    return Path(out)


def dataset(store, kind=RecordViews, **augment):
    keys = {"start": "beginning", "length": 540, "augment": AugmentConfig(**augment)}
    return kind(RecordBatchesConfig(**keys), [store], batch=8, seed=3)


def test_views_are_two_batches_of_the_same_records(store):
    made = dataset(store, reversed=0.5, rotated=1.0).batch(5, 0, 1)
    plain = dataset(store, RecordBatches, reversed=0.5, rotated=1.0).batch(5, 0, 1)
    assert (
        torch.equal(made.x, plain.x) and not torch.equal(made.x, made.target) and made.target.abs().amax((1, 2)).tolist() == [1] * 8
    )
    # whatever is turned, Z is the same but for its sign and its scale
    z, other = made.x[:, 0], made.target[:, 0]
    same = ((z * other).sum(1) / (z.norm(dim=1) * other.norm(dim=1))).abs()
    torch.testing.assert_close(same, torch.ones(8), rtol=0, atol=1e-4)


def test_views_are_shared_by_processes_and_repeated(store):
    it = dataset(store, reversed=0.5, shift_s=1.0)
    whole, parts = it.batch(2, 0, 1), [it.batch(2, rank, 2) for rank in (0, 1)]
    for name in ("x", "target"):
        assert torch.equal(getattr(whole, name), torch.cat([getattr(part, name) for part in parts]))
    dev = it.of("dev")
    assert len(dev) + len(it) + len(it.of("test")) == 30
    for one, two in zip(dev.once(), dev.once(), strict=True):
        assert torch.equal(one.x, two.x) and torch.equal(one.target, two.target) and not torch.equal(one.x, one.target)


def test_views_that_are_no_views(store):
    with pytest.raises(SeislatentError, match="teach nothing"):
        dataset(store)
    with pytest.raises(SeislatentError, match="leave `target` empty"):
        RecordViews(RecordBatchesConfig(target="x"), [store], batch=8, seed=0)
    assert next(dataset(store, dropped=0.5).of("dev").once()).target.isfinite().all()


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    folder = tmp_path_factory.mktemp("two")
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    command = [sys.executable, *launcher, Path(__file__).with_name("two_features.py"), folder]
    ran = subprocess.run(command, env=os.environ | {"OMP_NUM_THREADS": "1"}, capture_output=True, text=True, timeout=300)
    assert ran.returncode == 0, ran.stderr[-3000:]
    return folder


@pytest.mark.parametrize("name", SHARED)
def test_two_processes_equal_one(name, two):
    whole, told = five_steps(name, Fabric(accelerator="cpu", devices=1))
    (zero, log), (one, _) = (checkpoint.read(two / f"{name.replace('/', '_')}.{rank}") for rank in (0, 1))
    assert all(torch.equal(zero[k], one[k]) for k in zero)
    for key, value in whole.items():
        torch.testing.assert_close(zero[key], value, rtol=0, atol=1e-10, msg=lambda text, key=key: f"{key}: {text}")
    assert [line.keys() for line in log["log"]] == [line.keys() for line in told["log"]]
