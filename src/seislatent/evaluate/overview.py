"""One figure of what a store holds: how many records where, of which magnitudes, distances and signal-to-noise ratios."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from seislatent.data.splits import SPLITS
from seislatent.data.store import Store
from seislatent.evaluate.report import COLOURS, Picture

KM_PER_DEG = 111.195
_MOST_BARS = 8
"""Bars of a panel at most; the rest is one bar."""
_MOST_POINTS = 20_000
"""Points of the scatter at most, evenly taken from the table."""


def overview(store: Store) -> Picture:
    """The figure of a store."""
    table, rejected = store.metadata, store.rejected
    name = str(store.about.get("recipe", store.path.name))
    kept, left = len(table), len(rejected)
    return Picture(
        name="overview",
        caption=f"{name}: {kept} records, {left} left out. By split: counts, magnitudes, distances, signal-to-noise ratios;"
        " magnitude over distance; why records were left out.",
        width_in=11,
        height_in=6.5,
        draw=lambda canvas: _draw(canvas, table, rejected, f"{name}: {kept:,} records, {left:,} left out"),
    )


def _draw(canvas: Figure, table: pd.DataFrame, rejected: pd.DataFrame, title: str) -> None:
    canvas.suptitle(title, x=0.01, ha="left", fontsize=11)
    axes = canvas.subplots(2, 3)
    split = table["split"].astype(str) if "split" in table else pd.Series("none", index=table.index)
    names = [s for s in SPLITS if (split == s).any()] + sorted(set(split) - set(SPLITS))
    _counts(axes[0, 0], table, split, names)
    _histogram(axes[0, 1], magnitude(table), split, names, "magnitude")
    distance = distance_km(table)
    _histogram(axes[0, 2], np.log10(distance.where(distance > 0)), split, names, "epicentral distance, km", powers=True)
    _histogram(axes[1, 0], snr_db(table), split, names, "SNR of the best component, dB")
    _scatter(axes[1, 1], distance, magnitude(table), split, names)
    _reasons(axes[1, 2], rejected)


def magnitude(table: pd.DataFrame) -> pd.Series:
    """Of each record's event, NaN where it is not known."""
    return _number(table, ["source_magnitude"])


def distance_km(table: pd.DataFrame) -> pd.Series:
    """Epicentral where it is known, else hypocentral."""
    found = _number(table, ["path_ep_distance_km"])
    found = found.fillna(_number(table, ["path_ep_distance_deg"]) * KM_PER_DEG)
    return found.fillna(_number(table, ["path_hyp_distance_km"]))


def snr_db(table: pd.DataFrame) -> pd.Series:
    """Of the best component, from the quality columns, else as the source tells it."""
    columns = [c for c in table if str(c).startswith("trace_") and str(c).endswith("_snr_db")]
    if columns:
        return table[columns].apply(pd.to_numeric, errors="coerce").max(axis=1)
    return _number(table, ["trace_snr_db"])


def _number(table: pd.DataFrame, columns: Sequence[str]) -> pd.Series:
    value = pd.Series(np.nan, index=table.index)
    for column in columns:
        if column in table:
            value = value.fillna(pd.to_numeric(table[column], errors="coerce"))
    return value


def _colour(names: Sequence[str], name: str) -> str:
    return COLOURS[[*names].index(name) % len(COLOURS)]


def _counts(axes: Axes, table: pd.DataFrame, split: pd.Series, names: Sequence[str]) -> None:
    """Records of each class (label, category or set), by split."""
    column = next((c for c in ("label", "trace_category", "source_type", "dataset") if c in table and table[c].notna().any()), None)
    classes = table[column].astype(str) if column else pd.Series("records", index=table.index)
    order = [*classes.value_counts().index]
    classes = classes.where(classes.isin(order[: _MOST_BARS - 1]), "others") if len(order) > _MOST_BARS else classes
    counts = pd.crosstab(classes, split).reindex(columns=pd.Index(names), fill_value=0)
    counts = counts.reindex(counts.sum(axis=1).sort_values().index)
    left = np.zeros(len(counts))
    for name in names:
        axes.barh(counts.index.astype(str), counts[name], height=0.5, left=left, color=_colour(names, name), label=name, zorder=2)
        left += counts[name].to_numpy()
    axes.set_xlabel("records")
    axes.set_ylim(-0.75, max(len(counts), 3) - 0.25)
    axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=len(names), fontsize=9, handlelength=1.2, borderaxespad=0.2)


def _histogram(axes: Axes, values: pd.Series, split: pd.Series, names: Sequence[str], label: str, powers: bool = False) -> None:
    known = values[np.isfinite(values)]
    axes.set_xlabel(label)
    if known.empty:
        return _nothing(axes)
    low, high = float(known.min()), float(known.max())
    edges = [*map(float, np.linspace(low, high if high > low else low + 1, 31))]
    for name in names:
        part = known[split[known.index] == name]
        axes.hist(part, edges, histtype="step", lw=1.4, color=_colour(names, name))
    axes.set_yscale("log")
    axes.set_ylim(bottom=0.7)
    axes.set_ylabel("records")
    if powers:
        _ticks_of_powers(axes.xaxis, low, high)
    missing = len(values) - len(known)
    if missing:
        axes.set_title(f"not known for {missing}", fontsize=8, loc="right", pad=2)
    return None


def _ticks_of_powers(axis: Any, low: float, high: float) -> None:
    """1, 2, 5, 10, 20, ... on an axis of logarithms."""
    steps = (1, 2, 5) if high - low > 0.8 else (1, 1.5, 2, 3, 4, 5, 6, 7, 8, 9)
    ticks = [10.0**p * m for p in range(int(np.floor(low)), int(np.ceil(high)) + 1) for m in steps]
    ticks = [t for t in ticks if low - 0.05 <= np.log10(t) <= high + 0.05] or [10**low]
    if len(ticks) > 9:
        ticks = [t for t in ticks if np.isclose(np.log10(t) % 1, 0)]
    axis.set_ticks([np.log10(t) for t in ticks], [f"{t:g}" for t in ticks])


def _scatter(axes: Axes, distance: pd.Series, magnitudes: pd.Series, split: pd.Series, names: Sequence[str]) -> None:
    axes.set_xlabel("epicentral distance, km")
    axes.set_ylabel("magnitude")
    known = np.flatnonzero(((distance > 0) & np.isfinite(magnitudes)).to_numpy())
    if not len(known):
        return _nothing(axes)
    known = known[:: -(-len(known) // _MOST_POINTS)]
    for name in names:
        rows = known[(split == name).to_numpy()[known]]
        axes.plot(np.log10(distance.iloc[rows]), magnitudes.iloc[rows], ".", ms=3, color=_colour(names, name), alpha=0.6)
    shown = np.log10(distance.iloc[known])
    _ticks_of_powers(axes.xaxis, float(shown.min()), float(shown.max()))
    return None


def _reasons(axes: Axes, rejected: pd.DataFrame) -> None:
    counts = rejected["reason"].value_counts() if len(rejected) else pd.Series(dtype=int)
    axes.set_xlabel("records left out")
    if counts.empty:
        return _nothing(axes, "none")
    shown = counts[:_MOST_BARS]
    if len(counts) > _MOST_BARS:
        shown = pd.concat([counts[: _MOST_BARS - 1], pd.Series({"other reasons": counts[_MOST_BARS - 1 :].sum()})])
    shown = shown[::-1]
    bars = axes.barh([str(name)[:40] for name in shown.index], shown.to_numpy(), height=0.5, color=COLOURS[7], zorder=2)
    axes.set_ylim(-0.75, max(len(shown), 3) - 0.25)
    axes.bar_label(bars, fontsize=8, padding=2)
    axes.margins(x=0.15)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    return None


def _nothing(axes: Axes, word: str = "not known") -> None:
    axes.set_xticks([])
    axes.set_yticks([])
    axes.text(0.5, 0.5, word, ha="center", va="center", transform=axes.transAxes, color="0.5")
