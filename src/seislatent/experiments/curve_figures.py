"""Figures of a learning curve, as the paper draws them (Kong et al., seed 002, figures 5 to 10, S2 to S16, S26 and S27).

Colours are ways, dots are means over repeats, bands one standard deviation. What the grid does not hold is not drawn.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from seislatent.evaluate.report import COLOURS, Picture
from seislatent.experiments.curve_scores import CLASSES, COSTS, KEYS, PICKS, job_of, main_measure, own_rival
from seislatent.experiments.grid import JOBS, WAYS
from seislatent.experiments.running import Trained

COLOUR = {"baseline": COLOURS[0], "schema 1": COLOURS[1], "schema 2": COLOURS[2]}
LINES = ("-", ":")
NAMES = CLASSES | PICKS | COSTS
BINS_S = np.linspace(-10, 10, 81)
SNR_EDGES_DB = (-20, 5, 10, 15, 20, 25, 30, 60)


def curve(axes: Axes, points: pd.DataFrame, measure: str, label: str, **style: Any) -> None:
    """One line over n with its band."""
    if points.empty:
        return
    it = points.sort_values("n")
    n, mean, std = (it[c].to_numpy(float) for c in ("n", measure, f"{measure}_std"))
    (line,) = axes.plot(n, mean, marker=".", label=label, **style)
    std = np.nan_to_num(std)
    axes.fill_between(n, mean - std, mean + std, color=line.get_color(), alpha=0.15, linewidth=0)


def over_n(axes: Axes, measure: str, title: str, ticks: Sequence[int]) -> None:
    """Logarithmic axis of n."""
    axes.set_xscale("log")
    axes.set_xticks(list(ticks), [f"{n:,}" for n in ticks])
    axes.set_xticks([], minor=True)
    axes.set(xlabel="records to train and validate with", ylabel=NAMES[measure], title=title)
    if axes.get_legend_handles_labels()[0]:
        axes.legend(fontsize=7)


def chosen(table: pd.DataFrame, **keys: Any) -> pd.DataFrame:
    """The points with these keys; of several batches the smallest (`n/100`) unless it is asked for."""
    for key, value in keys.items():
        table = table[table[key] == value]
    if "batch" not in keys and len(table):
        rest = [k for k in KEYS if k != "batch"]
        table = table.loc[table.groupby(rest)["batch"].idxmin()]
    return table


# -- figures 5 to 7 and S6 to S8 ----------------------------------------------------------------------------------------------


def compared(figure: Figure, table: pd.DataFrame, name: str, head: str) -> None:
    """Four panels of a set: undercomplete and overcomplete (68 solid, 34 dotted), 34 and 68 frames (over solid, under dotted)."""
    measure, ticks = main_measure(name), sorted(table[table["set"] == name]["n"].unique())
    panels = [
        ("undercomplete", [("under68", "68"), ("under34", "34")]), ("overcomplete", [("over68", "68"), ("over34", "34")]),
        ("34 frames", [("over34", "over"), ("under34", "under")]), ("68 frames", [("over68", "over"), ("under68", "under")]),
    ]  # fmt: skip
    for axes, letter, (title, lines) in zip(figure.subplots(2, 2, sharey=True).flat, "abcd", panels, strict=True):
        for (encoder, told), style in zip(lines, LINES, strict=True):
            for way in WAYS:
                points = chosen(table, set=name, encoder=encoder, head=head, way=way)
                curve(axes, points, measure, f"{way}, {told}", color=COLOUR[way], linestyle=style)
        over_n(axes, measure, f"({letter}) {title}", ticks)


# -- figures S2 to S5 and S12 to S15 --------------------------------------------------------------------------------------------


def individual(figure: Figure, table: pd.DataFrame, encoder: str, head: str, names: Sequence[str]) -> None:
    """Panels of one encoder: accuracy of each classification, spread and median of the picks."""
    panels = [(name, m) for name in names for m in (["accuracy"] if JOBS[job_of(name)] else ["std_absolute_s", "median_s"])]
    grid = figure.subplots(-(-len(panels) // 2), 2, squeeze=False)
    for axes in list(grid.flat)[len(panels) :]:
        axes.set_axis_off()
    for axes, letter, (name, measure) in zip(grid.flat, "abcdefghijklmnop", panels, strict=False):
        for way in WAYS:
            curve(axes, chosen(table, set=name, encoder=encoder, head=head, way=way), measure, way, color=COLOUR[way])
        over_n(axes, measure, f"({letter}) {name}", sorted(table[table["set"] == name]["n"].unique()))


# -- figure 8, and what is ours: the rivals --------------------------------------------------------------------------------------


def linear(figure: Figure, table: pd.DataFrame, name: str, encoder: str) -> None:
    """The three ways against n on a linear axis (figure 8)."""
    axes = figure.subplots()
    for way in WAYS:
        points = chosen(table, set=name, encoder=encoder, head="convolution", way=way)
        curve(axes, points, main_measure(name), way, color=COLOUR[way])
    axes.set(xlabel="records to train and validate with", ylabel=NAMES[main_measure(name)], title=name)
    axes.legend()


def rivals(figure: Figure, table: pd.DataFrame, name: str) -> None:
    """Frozen and fine-tuned: the autoencoder beside other pretrainings, and the baseline."""
    ticks, measure = sorted(table[table["set"] == name]["n"].unique()), main_measure(name)
    encoders = ["over68", *sorted(e for e in table["encoder"].unique() if own_rival(e))]
    for axes, way in zip(figure.subplots(1, 2, sharey=True), WAYS[1:], strict=True):
        base = chosen(table, set=name, encoder="over68", head="convolution", way="baseline")
        curve(axes, base, measure, "baseline", color=COLOURS[6])
        for encoder, colour in zip(encoders, COLOURS, strict=False):
            points = chosen(table, set=name, encoder=encoder, head="convolution", way=way)
            curve(axes, points, measure, encoder, color=colour)
        over_n(axes, measure, f"{name}, {way}", ticks)


# -- figures 9 and S9 ----------------------------------------------------------------------------------------------------------


def errors(figure: Figure, cells: Sequence[Trained], test: pd.DataFrame, name: str, encoder: str, rate_hz: float) -> None:
    """Histograms of picking errors, a panel for each n; all repeats together."""
    mine = [c for c in cells if (c.cell.set, c.cell.encoder, c.cell.head) == (name, encoder, "convolution")]
    sizes = sorted({c.cell.n for c in mine})
    grid = figure.subplots(-(-len(sizes) // 3), min(3, len(sizes)), squeeze=False, sharex=True, sharey=True)
    for axes in list(grid.flat)[len(sizes) :]:
        axes.set_axis_off()
    for axes, letter, n in zip(grid.flat, "abcdefghijkl", sizes, strict=False):
        for way in WAYS:
            found = [(c.answers - test["truth"].to_numpy()) / rate_hz for c in mine if c.cell.n == n and c.cell.way == way]
            if found:
                shown = np.clip(np.concatenate(found), BINS_S[0], BINS_S[-1])
                weight = np.full(len(shown), 1 / len(shown))
                axes.hist(shown, BINS_S, weights=weight, histtype="step", color=COLOUR[way], label=way)  # type: ignore[arg-type]
        axes.set(title=f"({letter}) n = {n:,}", xlabel="found less picked (s)", ylabel="share")
        axes.legend(fontsize=7)


# -- figures 10, S11 and S16 ---------------------------------------------------------------------------------------------------


def cost(figure: Figure, table: pd.DataFrame, names: Sequence[str], encoders: Sequence[str], batch: int) -> None:
    """CPU time to converge against n: a row per encoder, a column per set."""
    grid = figure.subplots(len(encoders), len(names), squeeze=False, sharex="col")
    for row, encoder in enumerate(encoders):
        for column, name in enumerate(names):
            axes, found = grid[row][column], table[(table["set"] == name)]
            for way in WAYS:
                points = chosen(found, encoder=encoder, head="convolution", way=way, **({"batch": batch} if batch else {}))
                curve(axes, points, "seconds", way, color=COLOUR[way])
            over_n(axes, "seconds", f"{name}, {encoder}", sorted(found["n"].unique()))
            axes.set_yscale("log")


# -- figures S26 and S27 ---------------------------------------------------------------------------------------------------------


def by_snr(figure: Figure, cells: Sequence[Trained], test: pd.DataFrame, name: str, encoder: str, rate_hz: float) -> None:
    """Spread of the absolute error against signal-to-noise ratio, for the smallest and the largest n."""
    mine = [c for c in cells if (c.cell.set, c.cell.encoder, c.cell.head) == (name, encoder, "convolution")]
    sizes, edges = sorted({c.cell.n for c in mine}), SNR_EDGES_DB
    place = np.digitize(test["snr_db"].to_numpy(), edges) - 1
    centres = [(a + b) / 2 for a, b in pairwise(edges)]
    centres[0], centres[-1] = edges[1] - 2.5, edges[-2] + 2.5
    for axes, letter, n in zip(np.atleast_1d(figure.subplots(1, 2, sharey=True)), "ab", (sizes[-1], sizes[0]), strict=True):
        for way in ("baseline", "schema 2"):
            found = [c.answers for c in mine if c.cell.n == n and c.cell.way == way]
            rows = [[_spread(a, test, place == k, rate_hz) for k in range(len(centres))] for a in found]
            there = np.isfinite(rows).all(0) if rows else np.zeros(0, bool)
            if there.any():
                mean, std = (f(np.array(rows)[:, there], axis=0) for f in (np.mean, np.std))
                axes.errorbar(np.array(centres)[there], mean, std, marker=".", capsize=2, color=COLOUR[way], label=way)
        axes.set(title=f"({letter}) n = {n:,}", xlabel="signal-to-noise ratio at P (dB)", ylabel=NAMES["std_absolute_s"])
        axes.legend(fontsize=7)


def _spread(answers: Any, test: pd.DataFrame, there: Any, rate_hz: float) -> float:
    """Of fewer than three records, none."""
    if there.sum() < 3:
        return float("nan")
    return float((np.abs(answers[there] - test["truth"].to_numpy()[there]) / rate_hz).std())


# -- hours -------------------------------------------------------------------------------------------------------------------------


def hours(figure: Figure, table: pd.DataFrame, truth: Any, labels: Sequence[str], name: str) -> None:
    """When records of each class begin, by local mean time."""
    axes = figure.subplots()
    axes.hist(
        [table["hour"].to_numpy()[truth == k] for k in range(len(labels))], bins=list(range(25)), label=list(labels),
        color=list(COLOURS[: len(labels)]),
    )  # fmt: skip
    axes.set(xlabel="local mean time (h)", ylabel="records", title=name, xticks=range(0, 25, 3))
    axes.legend()


def paired_with(table: pd.DataFrame, centre: str) -> list[str]:
    """The encoder in the middle, and its undercomplete counterpart where that was trained."""
    under = centre.replace("over", "under")
    return [centre, under] if under != centre and (table["encoder"] == under).any() else [centre]


def pictures(
    table: pd.DataFrame, cells: Sequence[Trained], tests: Mapping[str, pd.DataFrame], rates_hz: Mapping[str, float]
) -> list[Picture]:
    """Every figure for which there is more than one point."""
    names, made = list(dict.fromkeys(table["set"])), []
    centre = "over68" if (table["encoder"] == "over68").any() else str(table["encoder"].iloc[0])

    def add(name: str, caption: str, size: tuple[float, float], draw: Callable[[Figure], None]) -> None:
        made.append(Picture(name=name.replace(":", "-"), caption=caption, width_in=size[0], height_in=size[1], draw=draw))

    for name in names:
        mine = table[table["set"] == name]
        for head, told in (("convolution", "with"), ("dense", "without")):
            if (mine["head"] == head).any():
                caption = f"{name}: {NAMES[main_measure(name)]} {told} the convolution; bands are one standard deviation."
                add(f"{name}_{told}_convolution", caption, (9, 6.5), partial(compared, table=table, name=name, head=head))
        if any(own_rival(e) for e in mine["encoder"]):
            add(f"{name}_rivals", f"{name}: other ways to learn without labels.", (9, 3.6), partial(rivals, table=table, name=name))
        if not JOBS[job_of(name)] and ((mine["encoder"] == centre) & (mine["head"] == "convolution")).any():
            keys: dict[str, Any] = {"cells": cells, "test": tests[name], "name": name, "encoder": centre, "rate_hz": rates_hz[name]}
            add(
                f"{name}_errors",
                f"{name}: errors by n; what lies outside stands in the outermost bins.",
                (9, 5.5),
                partial(errors, **keys),
            )
            add(f"{name}_snr", f"{name}: error against signal-to-noise ratio.", (9, 3.6), partial(by_snr, **keys))
            add(
                f"{name}_linear",
                f"{name}: the three ways, linear axis.",
                (5.5, 3.6),
                partial(linear, table=table, name=name, encoder=centre),
            )
    for encoder in [e for e in dict.fromkeys(table["encoder"]) if e == centre or not own_rival(e)]:
        for head in dict.fromkeys(table[table["encoder"] == encoder]["head"]):
            there = list(dict.fromkeys(table[(table["encoder"] == encoder) & (table["head"] == head)]["set"]))
            draw = partial(individual, table=table, encoder=encoder, head=head, names=there)
            rows = -(-sum(1 if JOBS[job_of(n)] else 2 for n in there) // 2)
            add(f"one_{encoder}_{head}", f"{encoder}, head: {head}; the three ways.", (9, 3.1 * rows), draw)
    for batch in sorted({0, *table["batch"][table["batch"] >= 256]}):
        told = f"batch {batch}" if batch else "batch n/100"
        there = list(dict.fromkeys(table[table["batch"] == batch]["set"])) if batch else names
        add(
            f"cost_{batch or 'n'}",
            f"CPU time to converge, {told}.",
            (3.2 * len(there), 5.5),
            partial(cost, table=table, names=there, encoders=paired_with(table, centre), batch=batch),
        )
    return made
