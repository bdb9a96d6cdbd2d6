"""The tables: which name means which system, dataset and baseline; presets and models.

A preset is presets/<family>/<name>.yaml: `system`, a name in SYSTEMS; `config`, what differs from its defaults; `recipe`, how it
learns; `data`, with `dataset`, a name in DATASETS, and its settings. What it has learnt ships as
weights/<family>/<name>.safetensors, or is made by `seislatent.training`.
"""

from __future__ import annotations

import hashlib
import html
import json
import pydoc
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from seislatent import __version__, config
from seislatent.config import Nested
from seislatent.engine import checkpoint
from seislatent.errors import SeislatentError, unknown
from seislatent.model import Model
from seislatent.shipped import PRESETS, WEIGHTS
from seislatent.systems.base import System
from seislatent.systems.codec.eqcodec import EQCodec
from seislatent.systems.features.autoencoder import Autoencoder
from seislatent.systems.features.contrastive import Contrastive
from seislatent.systems.features.heads import ArrivalHead, ClassifierHead
from seislatent.systems.features.masked import Masked
from seislatent.systems.features.picker import PhasePicker
from seislatent.systems.features.points import PointHead
from seislatent.systems.symmetric.symae import SymAE

SYSTEMS: dict[str, type[System]] = {
    "codec/eqcodec": EQCodec,
    "features/autoencoder": Autoencoder,
    "features/contrastive": Contrastive,
    "features/masked": Masked,
    "features/classifier": ClassifierHead,
    "features/arrival": ArrivalHead,
    "features/points": PointHead,
    "features/picker": PhasePicker,
    "symmetric/symae": SymAE,
}

BASELINES: dict[str, str] = {
    f"baseline/{name}": f"seislatent.evaluate.{place}"
    for name, place in {
        "mdct": "baselines.mdct.Mdct", "zfp": "baselines.zfp.zfp", "sz3": "baselines.sz3.sz3",
        **{name: f"baselines.lossless.{name}" for name in ("steim1", "steim2", "flac", "blosc2", "zstd")},
        "sta_lta": "detect.StaLta", "aic": "detect.Aic", "ar_pick": "detect.ArPick", "raw_waveform": "disentangle.RawWaveform",
        "linear_stack": "disentangle.LinearStack", "phase_weighted_stack": "disentangle.PhaseWeightedStack",
        "stochastic": "baselines.broadband.Stochastic", "hybrid": "baselines.broadband.Hybrid",
    }.items()
}  # fmt: skip
"""What every claim is judged beside: the full name of what makes each; no system, nothing to learn."""

DATASETS: dict[str, str] = {
    "codec_windows": "seislatent.data.codec_windows.CodecWindows",
    "records": "seislatent.data.record_batches.RecordBatches",
    "record_views": "seislatent.data.record_views.RecordViews",
    "record_groups": "seislatent.data.record_groups.RecordGroups",
    "picking": "seislatent.data.picking_windows.PickingWindows",
    "discrimination": "seislatent.data.discrimination_windows.DiscriminationWindows",
}
"""Where training records come from: the full name of a class, imported when a run needs it."""

V = TypeVar("V")


@dataclass(frozen=True, kw_only=True)
class Preset:
    """A system, its settings, and how it learns: one YAML file."""

    system: str
    """A name of the catalog, such as codec/eqcodec."""
    about: str = ""
    """One line for lists."""
    config: dict[str, Any] = field(default_factory=dict)
    """Keys of the system that differ from its defaults."""
    recipe: dict[str, Any] = field(default_factory=dict)
    """Keys of the recipe that differ from its defaults."""
    data: dict[str, Any] = field(default_factory=dict)
    """`dataset`, a name of the catalog, and its settings."""


class Listing(list[dict[str, Any]]):
    """Rows of a table, one dictionary each."""

    def _repr_html_(self) -> str:
        heads = list(self[0]) if self else []
        lines = [[str(row[h]) for h in heads] for row in self]
        body = "".join("<tr>" + "".join(f"<td>{html.escape(c)}</td>" for c in line) + "</tr>" for line in lines)
        return "<table><tr>" + "".join(f"<th>{html.escape(h)}</th>" for h in heads) + f"</tr>{body}</table>"


def presets() -> dict[str, Path]:
    """Every preset's name and file."""
    found = (p for p in sorted(PRESETS.glob("*/*.yaml")) if p.parent.name not in ("data", "fdsn"))  # of `prepare`, `download`
    return {p.relative_to(PRESETS).with_suffix("").as_posix(): p for p in found}


def preset(name: str | Path) -> Preset:
    """The preset of that name, that YAML file, or a system of that name with its defaults."""
    known = presets()
    if str(name).endswith((".yaml", ".yml")):
        return config.load(Preset, name)
    if str(name) in known:
        return config.load(Preset, known[str(name)])
    if str(name) in SYSTEMS:
        return Preset(system=str(name))
    raise SeislatentError(unknown("system", str(name), {*known, *SYSTEMS}))


def listing() -> Listing:
    """`seislatent.list()`. Every preset: its system, its weights in the package, and a line about it."""
    rows = Listing()
    for name in presets():
        it, weights = preset(name), WEIGHTS / f"{name}.safetensors"
        mb = weights.stat().st_size / 1e6 if weights.exists() else 0.0
        size = "train it" if not mb else f"{mb:.1f} MB" if mb >= 1 else f"{1000 * mb:.0f} kB"
        rows.append({"name": name, "system": it.system, "weights": size, "about": it.about})
    return rows


def baseline(name: str) -> Any:
    """A classical method by its name, such as baseline/mdct."""
    made: Any = pydoc.locate(known(BASELINES, "baseline", name))
    if made is None:
        raise SeislatentError(f"{name}: there is no {BASELINES[name]} in this version of seislatent")
    return made()


def known(table: Mapping[str, V], what: str, name: str) -> V:
    """The entry of a table. Raises SeislatentError that names the nearest."""
    if name not in table:
        raise SeislatentError(unknown(what, name, table))
    return table[name]


def build(name: str, settings: Mapping[str, Any] | None = None, overrides: Mapping[str, Any] | None = None) -> System:
    """A fresh system: its config's defaults, changed by `settings` and, as the command line does, by `overrides`.

    Fields of the config that are `Nested` are built first and handed to the constructor under their names; one that names a preset
    starts from the preset's packaged weights.
    """
    cls = known(SYSTEMS, "system", name)
    made: Any = config.load(cls.Config, settings, overrides, option="--system.")
    inner: dict[str, System] = {}
    for each in fields(made):
        value = getattr(made, each.name)
        if isinstance(value, Nested):
            if value.system in SYSTEMS:
                inner[each.name] = build(value.system, value.config)
            else:
                model = load(value.system)
                inner[each.name] = model.system
                value = Nested(system=model.about["system"], config=config.plain(model.config))
            made = replace(made, **{each.name: value})
    try:
        return cls(made, **inner)
    except (RuntimeError, ValueError, ArithmeticError, MemoryError) as error:
        raise SeislatentError(f"{name} cannot be built with these settings: {' '.join(str(error).split())}") from error


def players(system: System) -> dict[str, int]:
    """How many numbers each player learns."""
    return {name: sum(p.numel() for m in modules for p in m.parameters()) for name, modules in system.players().items()}


def digest(tensors: Mapping[str, Tensor], settings: Mapping[str, Any]) -> str:
    """First 16 hexadecimal digits of SHA-256 over config and weights, whatever order they come in."""
    keys = json.dumps(settings, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(f"{keys}\n{checkpoint.digest(tensors)}".encode()).hexdigest()[:16]


def save(
    path: str | Path,
    system: System,
    name: str,
    about: Mapping[str, Any] | None = None,
    *,
    without: Iterable[str] = (),
    half: bool = False,
) -> Path:
    """Weights and config in one safetensors file, which `load` reads back.

    `name` is the system's in the catalog; `about` may add `name` (the preset), `data`, `representation`. Parts that only training
    needs are left out by their names in `without`; `half` stores numbers in 16 bits.
    """
    if type(system) is not known(SYSTEMS, "system", name):
        raise SeislatentError(f"{name} is {SYSTEMS[name].__name__}, not {type(system).__name__}: give the system's own name")
    gone = tuple(f"{part}." for part in without)
    tensors = {k: v.detach().cpu().contiguous() for k, v in system.state_dict().items() if not k.startswith(gone)}
    if half:
        tensors = {k: v.half() if v.is_floating_point() else v for k, v in tensors.items()}
    settings = config.plain(system.config)
    whole = {"data": None, "representation": None, **(about or {}), "system": name, "config": settings, "version": __version__}
    checkpoint.write(path, tensors, {**whole, "without": [*without], "digest": digest(tensors, settings)})
    return Path(path)


def load(name: str | Path) -> Model:
    """A model by the name of a preset whose weights ship in the package, or from a `.safetensors` file."""
    path = Path(name)
    if str(name).endswith(".safetensors") or path.is_file():
        return _read(path, None)
    if path.is_dir():
        raise SeislatentError(f"{name} is a folder: give the weights in it, such as {path / 'best.safetensors'}")
    return _read(packaged(str(name)), str(name))


def packaged(name: str) -> Path:
    """The weights of a preset in the package. Raises SeislatentError that says how to train it where there are none."""
    preset(name)
    path = WEIGHTS / f"{name}.safetensors"
    if not path.exists():
        raise SeislatentError(f"{name} has no weights in the package: train it with seislatent train {name} --data DIR --out RUN")
    return path


def wrap(system: System, name: str) -> Model:
    """A system in memory, as a model."""
    settings = config.plain(system.config)
    about = {"system": name, "config": settings, "version": __version__}
    return Model(system=system.eval(), name=name, digest=digest(system.state_dict(), settings), about=about)


def _read(path: Path, name: str | None) -> Model:
    tensors, about = checkpoint.read(path)
    kinds = {"system": str, "config": dict, "without": list}
    if not all(isinstance(about.get(key, kind()), kind) for key, kind in kinds.items()) or not {"system", "config"} <= about.keys():
        raise SeislatentError(f"{path}: names no system: give weights that seislatent has written, such as best.safetensors")
    with torch.device("meta"), _Undrawn():  # shapes alone: settings that the file only claims must not cost memory
        check(build(about["system"], about["config"]), tensors, about.get("without", ()), str(path))
    system = build(about["system"], about["config"])
    fill(system, tensors, about.get("without", ()), str(path))
    made = digest(tensors, about["config"])
    if about.get("digest", made) != made:
        raise SeislatentError(f"{path}: its weights are not those of its digest {about['digest']}: it is damaged; fetch it again")
    return Model(system=system.eval(), name=name or about.get("name") or about["system"], digest=made, about=about)


class _Undrawn(TorchFunctionMode):
    """Leaves tensors without memory alone where normal numbers would be drawn: PyTorch imports its compiler for that, a second."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """The call itself, or the tensor as it is."""
        named = kwargs or {}
        if getattr(func, "__name__", "").endswith("normal_"):  # of torch.nn.init, and of tensors
            return args[0] if args else named["tensor"]
        return func(*args, **named)


def fill(system: System, tensors: Mapping[str, Tensor], without: Iterable[str], place: str) -> None:
    """Put stored weights into a system. Raises SeislatentError unless every one fits, but for the parts named in `without`."""
    check(system, tensors, without, place)
    system.load_state_dict(dict(tensors), strict=False)


def check(system: System, tensors: Mapping[str, Tensor], without: Iterable[str], place: str) -> None:
    """Raises SeislatentError unless names and shapes of stored weights are those of the system, but for parts in `without`."""
    own, gone = system.state_dict(), tuple(f"{part}." for part in without)
    for key in sorted({*own, *tensors}):
        if key not in own:
            raise SeislatentError(f"{place}: holds '{key}', which {type(system).__name__} has not: the settings differ")
        if key not in tensors and not key.startswith(gone):
            raise SeislatentError(f"{place}: lacks '{key}' of {type(system).__name__}: the settings differ")
        if key in tensors and tensors[key].shape != own[key].shape:
            shapes = f"{[*tensors[key].shape]} in the file, {[*own[key].shape]} here"
            raise SeislatentError(f"{place}: '{key}' is {shapes}: the settings differ")


def source(it: Preset, overrides: Mapping[str, Any] | None = None) -> tuple[Any, Any]:
    """The class of a preset's dataset, and its config."""
    name = it.data.get("dataset")
    if name is None:
        raise SeislatentError(f"{it.system}: no dataset is named: write data: {{dataset: NAME}}; known: {', '.join(DATASETS)}")
    cls: Any = pydoc.locate(known(DATASETS, "dataset", name))
    if cls is None:
        raise SeislatentError(f"dataset '{name}': there is no {DATASETS[name]} in this version of seislatent")
    return cls, config.load(cls.Config, {k: v for k, v in it.data.items() if k != "dataset"}, overrides, option="--dataset.")
