"""Every name builds, learns, saves and loads; what is no model is refused."""

from __future__ import annotations

import json
import struct
import subprocess
import sys
from dataclasses import dataclass, field

import pytest
import torch

from seislatent import catalog, config, training
from seislatent.batch import Batch
from seislatent.engine import checkpoint
from seislatent.errors import SeislatentError
from seislatent.systems.base import System

TINY_ENCODER = {"system": "features/autoencoder", "config": {"bottleneck": 17, "first": [4], "maps": 5}}
TINY = {
    "codec/eqcodec": {"width": 4, "lstm_layers": 1, "latent": 8, "books": 3, "entries": 16, "discriminator_width": 4},
    "features/autoencoder": {"bottleneck": 17, "first": [4], "maps": 5, "weights": {"waveform": 1.0, "activity": 0.01}},
    "features/contrastive": {"bottleneck": 17, "first": [4], "maps": 5, "hidden": 6, "codes": 4},
    "features/masked": {"bottleneck": 17, "first": [4], "maps": 5, "share": 0.3},
    "features/classifier": {"encoder": TINY_ENCODER, "labels": ["a", "b", "c"], "kernels": 0, "dense": 6, "bank": 8},
    "features/points": {"encoder": TINY_ENCODER, "width": 4, "kernel": 5},
    "features/arrival": {"encoder": TINY_ENCODER, "phases": ["P", "S"], "kernels": 4, "dense": 6},
    "features/picker": {"widths": [4, 6, 6, 8], "dilations": [1, 2], "level_s": 2.0, "samples": 640},
    "symmetric/symae": {"samples": 128, "coherent": 3, "nuisance": 2, "halvings": 3, "width": 8, "shift_s": 2.0, "filter_s": 3.0},
}
"""A config unlike the defaults for each system, small enough for a test."""

KONG = {"components": 3, "length": 540}
RECORDS = {
    "codec/eqcodec": {"margin": 4 * 40},
    "features/autoencoder": KONG,
    "features/contrastive": {**KONG, "views": True},
    "features/masked": KONG,
    "features/classifier": {**KONG, "classes": 3},
    "features/arrival": {**KONG, "arrivals": 2},
    "features/points": {**KONG, "arrivals": 2},
    "features/picker": {"components": 3, "length": 640, "arrivals": 4},
    "symmetric/symae": {"length": 128},
}
"""What each system learns from: keys of `Stub.Config`."""


class Stub:
    """Noise, for any system."""

    @dataclass(frozen=True, kw_only=True)
    class Config:
        window_s: float = 8.0
        """Length of a record at 40 Hz, in s."""
        length: int = 0
        """Length in samples, in its place."""
        margin: int = 0
        """Samples of context on both sides."""
        components: int = 1
        classes: int = 0
        """A label of so many classes goes with each record; 0: no class."""
        arrivals: int = 0
        """Columns of the condition, each a sample number."""
        views: bool = False
        """The target is other noise."""

    def __init__(self, settings, folders, *, batch, seed):
        self.settings, self.folders, self.size, self.seed = settings, folders, batch, seed

    def batch(self, step, rank, world):
        s, n = self.settings, self.size // world
        dice = torch.Generator().manual_seed(self.seed * 1000 + step)
        length = (s.length or int(40 * s.window_s)) + 2 * s.margin
        x = torch.randn(n, s.components, length, generator=dice)
        label = torch.randint(s.classes, (n,), generator=dice) if s.classes else None
        condition = length * torch.rand(n, s.arrivals, generator=dice) if s.arrivals else None
        target = torch.randn(x.shape, generator=dice) if s.views else None
        return Batch(x=x, valid=torch.ones_like(x, dtype=torch.bool), target=target, label=label, condition=condition)


@pytest.fixture
def stub(monkeypatch):
    """The dataset of every preset, replaced by noise."""
    monkeypatch.setitem(catalog.DATASETS, "stub", f"{__name__}.Stub")
    real = catalog.preset

    def preset(name):
        it = real(name)
        data = {"dataset": "stub", **RECORDS[it.system]}
        return it if str(name).endswith(".yaml") else catalog.replace(it, data=data, config=TINY[it.system])

    monkeypatch.setattr(catalog, "preset", preset)
    monkeypatch.setattr(training, "preset", preset)
    return Stub


@pytest.mark.parametrize("name", [*catalog.SYSTEMS])
def test_every_name_builds_saves_and_loads(name, tmp_path):
    system = catalog.build(name, TINY[name])
    assert type(system) is catalog.SYSTEMS[name]
    assert config.plain(system.config) != config.plain(system.Config())
    path = catalog.save(tmp_path / "x.safetensors", system, name, {"name": "mine"})
    model = catalog.load(path)
    assert type(model.system) is catalog.SYSTEMS[name] and model.config == system.config and model.name == "mine"
    assert model.about["version"] == catalog.__version__ and not model.system.training
    for key, value in system.state_dict().items():
        torch.testing.assert_close(model.system.state_dict()[key], value, rtol=0, atol=0)
    assert model.digest == catalog.wrap(system, name).digest and len(model.digest) == 16


@pytest.mark.parametrize("name", [*catalog.presets()])
def test_every_preset_builds(name):
    it = catalog.preset(name)
    assert type(catalog.build(it.system, it.config)) is catalog.SYSTEMS[it.system]
    assert it.about and it.recipe and it.data["dataset"] in catalog.DATASETS
    row = next(r for r in catalog.listing() if r["name"] == name)
    assert row["system"] == it.system


@pytest.mark.parametrize("name", [*catalog.presets()])
def test_every_preset_learns_two_steps(name, tmp_path, stub):
    options = {"steps": 2, "batch": 2, "devices": 1, "accelerator": "cpu", "monitor": "", "patience": 0, "validate_every": 0}
    path = training.train(name, str(tmp_path), tmp_path / "run", recipe=options, dataset={"window_s": "4"})
    model = catalog.load(path)
    assert model.name == name and model.about["data"]["dataset"] == "stub" and model.about["data"]["window_s"] == 4.0
    assert model.version == catalog.__version__
    before = catalog.build(model.about["system"], model.about["config"]).state_dict()
    assert any(not torch.equal(before[k], v) for k, v in model.system.state_dict().items())

    again = training.train(name, str(tmp_path), tmp_path / "run", recipe=options, dataset={"window_s": "4"})
    assert catalog.load(again).digest == model.digest, "the same command goes on, and here there is nothing left to do"
    whole = training.train(tmp_path / "run" / "preset.yaml", str(tmp_path), tmp_path / "same")
    assert catalog.load(whole).digest == model.digest, "preset.yaml holds every setting"

    with pytest.raises(SeislatentError, match="another data"):
        training.train(name, str(tmp_path), tmp_path / "run", recipe=options)
    with pytest.raises(SeislatentError, match="--overwrite"):
        training.train(name, str(tmp_path), tmp_path / "run", recipe=options, dataset={"window_s": "4"}, resume=False)
    other = training.train(name, str(tmp_path), tmp_path / "run", recipe=options, init_from=path, overwrite=True)
    assert other.parent == tmp_path / "run"


def test_a_run_without_records_to_validate_on_does_not_start(tmp_path, stub, monkeypatch):
    monkeypatch.setattr(stub, "held", None, raising=False)
    with pytest.raises(SeislatentError, match=r"dev.*--recipe\.validate_every 0"):
        training.train("codec/eqcodec_small", str(tmp_path), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_folder_of_something_else_is_left_alone(tmp_path, stub):
    (tmp_path / "thesis.tex").write_text("dear to me")
    with pytest.raises(SeislatentError, match="other files"):
        training.train("codec/eqcodec_small", str(tmp_path), tmp_path, overwrite=True)
    assert [p.name for p in tmp_path.iterdir()] == ["thesis.tex"]


def test_weights_that_do_not_fit(tmp_path):
    name = "codec/eqcodec"
    small = catalog.build(name, TINY[name])
    other = catalog.build(name, {**TINY[name], "books": 2})
    with pytest.raises(SeislatentError, match="settings differ"):
        catalog.fill(small, other.state_dict(), (), "here")
    with pytest.raises(SeislatentError, match="lacks"):
        catalog.fill(small, {}, (), "here")
    with pytest.raises(SeislatentError, match="has not"):
        catalog.fill(small, {**small.state_dict(), "extra": torch.zeros(1)}, (), "here")


def test_parts_may_stay_out_and_numbers_may_be_short(tmp_path):
    name = "codec/eqcodec"
    system = catalog.build(name, TINY[name])
    whole = catalog.save(tmp_path / "whole.safetensors", system, name)
    short = catalog.save(tmp_path / "short.safetensors", system, name, without=["discriminators"], half=True)
    assert short.stat().st_size < whole.stat().st_size / 2
    model = catalog.load(short)
    assert model.digest == catalog.load(short).digest != catalog.load(whole).digest
    assert all(v.dtype != torch.float16 for v in model.system.state_dict().values())


def test_weights_that_are_not_those_of_their_digest(tmp_path):
    name = "codec/eqcodec"
    path = catalog.save(tmp_path / "x.safetensors", catalog.build(name, TINY[name]), name)
    tensors, about = checkpoint.read(path)
    tensors["decoder.out.bias"] += 1
    checkpoint.write(path, tensors, about)
    with pytest.raises(SeislatentError, match=f"{about['digest']}: it is damaged"):
        catalog.load(path)


def test_a_preset_without_weights_says_how_to_get_them(monkeypatch, tmp_path):
    monkeypatch.setattr(catalog, "WEIGHTS", tmp_path)
    with pytest.raises(SeislatentError, match="seislatent train codec/eqcodec_small --data DIR --out RUN"):
        catalog.load("codec/eqcodec_small")
    system = catalog.build("codec/eqcodec", TINY["codec/eqcodec"])
    catalog.save(tmp_path / "codec" / "eqcodec_small.safetensors", system, "codec/eqcodec")
    assert catalog.load("codec/eqcodec_small").name == "codec/eqcodec_small"


def test_the_digest_knows_weights_and_config():
    tensors = {"a": torch.arange(3.0), "b": torch.tensor(2)}
    one = catalog.digest(tensors, {"x": 1, "y": 2})
    assert one == catalog.digest({"b": torch.tensor(2), "a": torch.arange(3.0)}, {"y": 2, "x": 1})
    assert one != catalog.digest(tensors, {"x": 1, "y": 3})
    assert one != catalog.digest({**tensors, "b": torch.tensor(3)}, {"x": 1, "y": 2})


@dataclass(frozen=True, kw_only=True)
class HeadConfig:
    classes: int = 2
    codec: config.Nested
    weights: dict[str, float] = field(default_factory=lambda: {"label": 1.0})


class Head(System):
    Config = HeadConfig

    def __init__(self, config, codec):
        super().__init__(config)
        self.codec = codec
        self.head = torch.nn.Linear(codec.config.latent, config.classes)


@pytest.mark.parametrize("inner", ["codec/eqcodec", "codec/eqcodec_small"])
def test_a_system_inside_another_is_built_stored_and_loaded(inner, monkeypatch, tmp_path):
    monkeypatch.setitem(catalog.SYSTEMS, "head", Head)
    monkeypatch.setattr(catalog, "WEIGHTS", tmp_path)
    trained = catalog.build("codec/eqcodec", TINY["codec/eqcodec"])
    catalog.save(tmp_path / "codec" / "eqcodec_small.safetensors", trained, "codec/eqcodec")
    nested = {"system": inner} if inner.endswith("small") else {"system": inner, "config": {"latent": 4, "entries": 16}}
    system = catalog.build("head", {"codec": nested}, {"classes": "3"})
    assert type(system.codec) is catalog.SYSTEMS["codec/eqcodec"]
    assert system.head.weight.shape == (3, 8 if inner.endswith("small") else 4)
    if inner.endswith("small"):
        assert torch.equal(system.codec.quantizer.state_dict()["codebooks"], trained.quantizer.state_dict()["codebooks"])
    path = catalog.save(tmp_path / "head.safetensors", system, "head")
    (tmp_path / "codec" / "eqcodec_small.safetensors").unlink()
    again = catalog.load(path).system  # needs the inner system's own weights no more
    assert all(torch.equal(v, again.state_dict()[k]) for k, v in system.state_dict().items())


def test_unknown_names_are_told():
    for call in (catalog.preset, catalog.load, catalog.build):
        with pytest.raises(SeislatentError, match="did you mean 'codec/eqcodec"):
            call("codec/eqcodek")


def pickled(path):
    """A file that would call the shell if it were unpickled."""
    path.write_bytes(b"cposix\nsystem\n(S'touch ran'\ntR.")


def bare(path):
    """Safetensors that are not ours."""
    head = json.dumps({"a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}).encode()
    path.write_bytes(struct.pack("<Q", len(head)) + head + bytes(4))


def nameless(path):
    """Ours, but of no system."""
    checkpoint.write(path, {"a": torch.zeros(1)}, {"steps": 3})


def foreign(path):
    """Of a system that is not in the catalog."""
    checkpoint.write(path, {"a": torch.zeros(1)}, {"system": "codec/eqcodek", "config": {}})


def boastful(path):
    """Ours, with settings that would take 240 GB."""
    checkpoint.write(path, {"a": torch.zeros(1)}, {"system": "codec/eqcodec", "config": {"width": 200_000}})


def impossible(path):
    """Ours, with settings that no network can have."""
    checkpoint.write(path, {"a": torch.zeros(1)}, {"system": "codec/eqcodec", "config": {"width": -4}})


def listed(path):
    """Ours, but telling a list."""
    checkpoint.write(path, {"a": torch.zeros(1)}, [1])


HOSTILE = [pickled, bare, nameless, foreign, boastful, impossible, listed, lambda p: p.touch(), lambda p: p.write_text("x" * 99)]


@pytest.mark.parametrize("make", HOSTILE)
@pytest.mark.parametrize("suffix", [".safetensors", ".pt"])
def test_what_is_no_model_is_refused(make, suffix, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / f"x{suffix}"
    make(path)
    with pytest.raises(SeislatentError) as told:
        catalog.load(path)
    assert "\n" not in str(told.value) and not (tmp_path / "ran").exists()


def test_a_folder_and_a_missing_file(tmp_path):
    with pytest.raises(SeislatentError, match=r"best\.safetensors"):
        catalog.load(tmp_path)
    with pytest.raises(SeislatentError, match="no checkpoint"):
        catalog.load(tmp_path / "x.safetensors")


def test_models_and_lists_show_themselves():
    model = catalog.wrap(catalog.build("codec/eqcodec", TINY["codec/eqcodec"]), "codec/eqcodec")
    assert model.digest in model._repr_html_() and "<table>" in catalog.listing()._repr_html_()


@pytest.mark.parametrize("name", ["features/picker"])
def test_packaged_weights_load_without_a_compiler(name):
    """Drawing normal numbers on the meta device imports PyTorch's compiler, which takes a second of every command."""
    asked = f"import sys; from seislatent import catalog; catalog.load('{name}'); print('torch._dynamo' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", asked], capture_output=True, text=True, timeout=120, check=True)
    assert done.stdout.split() == ["False"]
