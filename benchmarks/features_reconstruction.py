"""How well do autoencoders give records back? Kong et al., section 4.1, figures 3 and 4.

OMP_NUM_THREADS=1 python benchmarks/features_reconstruction.py train.. --held .. --work DIR --figures docs/systems

Trains a short run for every number of maps and every bottleneck, judges them and `--trained` ones on records of events that none
has seen, beside PCA and an MDCT with as many numbers. Prints the tables of docs/systems/features-autoencoders.md, which tells the
whole command. Runs that are there already are not trained again.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from numpy.typing import NDArray
from torch import Tensor

from seislatent import catalog
from seislatent.batch import Batch
from seislatent.data.store import Store
from seislatent.evaluate.bootstrap import summary
from seislatent.signal.mdct import inverse_mdct, mdct
from seislatent.signal.peak import levelled
from seislatent.training import train

MAPS, FRAMES, PRICED = (8, 16, 32, 64, 128), (68, 34, 17), "128 priced"
BLOCK = 54
"""Of the MDCT, in samples: 2.7 s."""


@dataclass(frozen=True)
class Held:
    """Records to judge on: x [record 3 540] in [-1, 1], the event of each."""

    name: str
    x: Tensor
    events: NDArray[Any]


def read(stores: list[Path], splits: tuple[str, ...]) -> tuple[Tensor, NDArray[Any]]:
    """Records of some splits of stores, levelled, and their events."""
    found, events = [], []
    for path in stores:
        store = Store(path)
        rows = np.flatnonzero(store.metadata["split"].isin(splits))
        found.append(np.stack([store[int(i)].data for i in rows]).astype(np.float32))
        events.append(np.array([f"{path.name} {e}" for e in store.metadata["source_id"].iloc[rows]]))
    return levelled(torch.from_numpy(np.concatenate(found))).x, np.concatenate(events)


def short_run(args: argparse.Namespace, maps: str, frames: int) -> Path:
    """The weights of one point of figure 3."""
    priced = maps == PRICED
    keys = {"bottleneck": str(frames), "maps": maps.split()[0]}
    recipe = {"steps": str(args.steps), "batch": "64", "validate_every": "0", "monitor": "", "patience": "0"}
    out = args.work / f"{maps.replace(' ', '_')}x{frames}"
    preset = "features/autoencoder_over" if priced else "features/autoencoder_under"
    sets = {"balance.sets": args.sets} if args.sets else {}
    return train(preset, [str(p) for p in args.train], out, system=keys, recipe=recipe, dataset=sets)


@torch.no_grad()
def errors(weights: Path, x: Tensor) -> NDArray[Any]:
    """Mean absolute error of each record."""
    system = catalog.load(weights).system
    return torch.cat([system.measures(Batch(x=part))["waveform"] for part in x.split(256)]).numpy()


def principal(seen: Tensor, x: Tensor, number: int) -> NDArray[Any]:
    """Error of each record behind `number` principal components of the records trained on."""
    a, b = seen.flatten(1).double(), x.flatten(1).double()
    mean = a.mean(0)
    axes = torch.linalg.eigh((a - mean).T @ (a - mean))[1][:, -number:]
    return ((b - mean) @ axes @ axes.T + mean - b).abs().mean(1).numpy()


def largest(x: Tensor, number: int) -> NDArray[Any]:
    """Error of each record behind its `number` largest coefficients; where they stand is not counted."""
    c = mdct(x, BLOCK)
    flat = c.flatten(1)
    kept = torch.zeros_like(flat).scatter(1, flat.abs().topk(number, 1).indices, 1.0)
    return (inverse_mdct((flat * kept).view_as(c)) - x).abs().mean((1, 2)).numpy()


def judged(args: argparse.Namespace, weights: dict[str, Path], helds: list[Held]) -> dict[str, Any]:
    """For every method and set: mean error and the interval of it by event."""
    seen = read(args.train, ("train",))[0][: args.pca]
    told: dict[str, Any] = {}
    for held in helds:
        rows = {name: errors(path, held.x) for name, path in weights.items()}
        for frames in FRAMES:
            rows[f"PCA {8 * frames}"] = principal(seen, held.x, 8 * frames)
            rows[f"MDCT {8 * frames}"] = largest(held.x, 8 * frames)
        rows["silence"] = held.x.abs().mean((1, 2)).numpy()
        told[held.name] = {name: summary(row, held.events).plain() for name, row in rows.items()}
    return told


def figure_3(told: dict[str, Any], path: Path) -> None:
    """Error against the bottleneck, a line per number of maps."""
    figure = Figure(figsize=(9, 3.8), layout="constrained")
    at = np.arange(len(FRAMES))
    for ax, (name, rows) in zip(figure.subplots(1, len(told), sharey=True), told.items(), strict=True):

        def line(keys: list[str], label: str, ax: Any = ax, rows: dict[str, Any] = rows, **style: Any) -> None:
            mean, low, high = (np.array([rows[key][part] for key in keys]) for part in ("mean", "low", "high"))
            ax.errorbar(at, mean, [mean - low, high - mean], label=label, capsize=2, **style)

        for k, maps in enumerate(MAPS):
            line([f"{maps} maps, {f}" for f in FRAMES], f"{maps} maps", color=f"C{k}", ls=":" if maps == 8 else "-")
        line([f"{PRICED} maps, {f}" for f in FRAMES], "128 maps, priced", color="C4", ls="--")
        line([f"PCA {8 * f}" for f in FRAMES], "PCA, numbers of 8 maps", color="0.6", ls="-.")
        line([f"MDCT {8 * f}" for f in FRAMES], "MDCT, the same", color="0.3", ls="-.")
        ax.set(title=name, xticks=at, xticklabels=[f"{f}\n{k} layers" for f, k in zip(FRAMES, (3, 4, 5), strict=True)], ylim=0)
        ax.set_xlabel("frames of the bottleneck")
    figure.axes[0].set_ylabel("mean absolute error of [-1, 1]")
    figure.axes[1].legend(fontsize=7)
    figure.savefig(path, dpi=70)


@torch.no_grad()
def figure_4(trained: dict[str, Path], helds: list[Held], path: Path) -> None:
    """A record of each set, and what comes back from the undercomplete and the overcomplete autoencoder."""
    figure = Figure(figsize=(10, 5), layout="constrained")
    axes = figure.subplots(len(helds), 2, squeeze=False)
    for row, held in zip(axes, helds, strict=True):
        mean = held.x.abs().mean((1, 2))
        x = held.x[int((mean - mean.median()).abs().argmin())][None]  # the record of median mean amplitude: none was chosen by eye
        for ax, name in zip(row, ("under", "over"), strict=True):
            y = catalog.load(trained[name]).system.reconstruct(x)  # type: ignore[operator]
            for k, component in enumerate("ENZ"):
                lift = 1.6 * (2 - k)
                source = "ZNE".index(component)
                ax.plot(np.arange(540) / 20, x[0, source] + lift, color="C0", lw=0.7)
                ax.plot(np.arange(540) / 20, y[0, source] + lift, color="C1", lw=0.7)
            error = float((x - y).abs().mean())
            ax.set(title=f"{held.name}, {name}complete, error {error:.3f}", yticks=[0, 1.6, 3.2], yticklabels=["Z", "N", "E"])
    for ax in axes[-1]:
        ax.set_xlabel("s")
    figure.savefig(path, dpi=70)


def table(told: dict[str, Any]) -> None:
    """As in the docs."""
    names = list(told)
    print("| | " + " | ".join(names) + " |\n|---" * 1 + "|---" * len(names) + "|")
    for key in next(iter(told.values())):
        cells = (f"{told[n][key]['mean']:.4f} ({told[n][key]['low']:.4f} to {told[n][key]['high']:.4f})" for n in names)
        print(f"| {key} | " + " | ".join(cells) + " |")


def main() -> None:
    """Train, judge, draw."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("train", nargs="+", type=Path, help="stores to learn from (their split train)")
    parser.add_argument("--synthetic", type=Path, required=True, help="store whose split test is judged on")
    parser.add_argument("--real", nargs="+", type=Path, required=True, help="stores that are judged on whole; none is trained on")
    parser.add_argument("--trained", nargs="+", default=[], metavar="NAME=WEIGHTS", help="longer runs; under and over for figure 4")
    parser.add_argument("--sets", default="", help="balance.sets of the training records")
    parser.add_argument("--work", type=Path, required=True, help="folder of the runs")
    parser.add_argument("--figures", type=Path, required=True, help="folder of the figures")
    parser.add_argument("--steps", type=int, default=1200, help="of a short run, of 64 records each")
    parser.add_argument("--pca", type=int, default=8000, help="records to find principal components of")
    parser.add_argument("--only-train", action="store_true", help="make the short runs and leave")
    args = parser.parse_args()
    torch.set_num_threads(1)
    runs = [(str(m), f) for f in FRAMES for m in (*MAPS, PRICED)]
    weights = {f"{maps} maps, {frames}": short_run(args, maps, frames) for maps, frames in runs}
    if args.only_train:
        return
    trained = {name: Path(path) for name, path in (one.split("=") for one in args.trained)}
    helds = [
        Held("synthetic", *read([args.synthetic], ("test",))),
        Held("real", *read(args.real, ("train", "dev", "test"))),
    ]
    for held in helds:
        print(f"{held.name}: {len(held.x)} records of {len(np.unique(held.events))} events")
    told = judged(args, weights | trained, helds)
    (args.work / "errors.json").write_text(json.dumps(told, indent=1))
    table(told)
    args.figures.mkdir(parents=True, exist_ok=True)
    figure_3(told, args.figures / "features_bottleneck.png")
    if {"over", "under"} <= trained.keys():
        figure_4(trained, helds, args.figures / "features_reconstruction.png")


if __name__ == "__main__":
    main()
