"""Tables and figures of `continuous_picks.py`."""

from __future__ import annotations

import os
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import continuous_days as days
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from seislatent.evaluate.compress import chosen
from seislatent.evaluate.detect_stream import PHASES

SNR_EDGES_DB = (0, 10, 20, 30)
COLOURS = ("#1f6feb", "#d1242f", "#bf8700", "#1a7f37", "#8250df", "#57606a")


def cell(one: dict[str, Any] | None, form: str = ".2f") -> str:
    """A number with its interval."""
    if one is None or one["mean"] is None:
        return "-"
    if one["low"] is None:
        return f"{one['mean']:{form}}"
    high = "open" if one["high"] is None else f"{one['high']:{form}}"
    return f"{one['mean']:{form}} [{one['low']:{form}}, {high}]"


def markdown(result: dict[str, Any]) -> str:
    """The tables."""
    lines = []
    for phase in PHASES:
        heads = ("system", "recall", "threshold", "precision, planted", "false per station-hour: planted", "untouched", "quiet")
        lines += [f"\n{phase}\n", f"| {' | '.join(heads)} |"]
        lines.append("|---|---|---|---|---|---|---|")
        for name, told in ((n, t) for n, t in result["systems"].items() if phase in t):
            rows = [(f"own: {told[phase]['own']['recall']['mean']:.2f}", told[phase]["own"]), *told[phase]["at_recall"].items()]
            for recall, row in rows:
                if row is None:
                    lines.append(f"| {name} | {recall} | not reached | | | | |")
                    continue
                cells = [cell(row[m]) for m in ("precision", "planted", "untouched", "quiet")]
                lines.append(f"| {name} | {recall} | {row['threshold']:.3f} | {' | '.join(cells)} |")
        heads = ("system", *result["bins"], "median, MAD (s)")
        lines += [f"\n{phase}: share found, by SNR, at its own threshold\n", f"| {' | '.join(heads)} |"]
        lines.append("|---" * (len(result["bins"]) + 2) + "|")
        for name, told in ((n, t) for n, t in result["systems"].items() if phase in t):
            one = told[phase]["found"]
            lines.append(f"| {name} | " + " | ".join(one["shares"]) + f" | {one['median_s']:+.3f}, {one['mad_s']:.3f} |")
    lines.append("\nAt equal recall, times as many false picks as the first baseline (quiet):\n")
    lines += [f"- {name}, {phase}, recall {r}: {cell(v)}" for name, phase, r, v in result["times"]]
    return "\n".join(lines) + "\n"


def shares(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """By SNR and group, the share that is found; residuals of what is."""
    table = pd.DataFrame(rows)
    cells = []
    for low, high in pairwise(SNR_EDGES_DB):
        here = table[(table["snr"] >= low) & (table["snr"] < high)]
        cells.append(f"{here['off'].notna().mean():.2f} of {len(here)}")
    groups = (table[table["group"] == g] for g in (0, 1))
    cells += [f"{here['off'].notna().mean():.2f} of {len(here)}" if len(here) else "-" for here in groups]
    off = table["off"].dropna()
    return {"shares": cells, "median_s": float(off.median()), "mad_s": float((off - off.median()).abs().median())}


def curves(result: dict[str, Any], path: Path) -> None:
    """Precision and quiet false picks over recall."""
    canvas = Figure((9, 6.2), layout="constrained")
    for axes, phase in zip(canvas.subplots(2, 2), PHASES, strict=True):
        names = [name.removesuffix(", Z alone") for name in result["systems"]]
        for name, told in result["systems"].items():
            if phase not in told:
                continue
            x = [c["recall"] for c in told[phase]["curve"]]
            if not x:
                continue
            look = {
                "color": COLOURS[list(dict.fromkeys(names)).index(name.removesuffix(", Z alone")) % len(COLOURS)],
                "ls": "--" if "alone" in name else "-",
                "lw": 1.4,
            }
            axes[0].plot(x, [c["precision"] for c in told[phase]["curve"]], label=name, **look)
            axes[1].plot(x, [max(c["quiet"], 0.05) for c in told[phase]["curve"]], **look)
            own = told[phase]["own"]
            axes[1].plot(own["recall"]["mean"], max(own["quiet"]["mean"], 0.05), "o", color=look["color"], ms=4)
        axes[0].set(xlabel=f"recall, {phase}", ylabel="precision, planted hours", xlim=(0, 1.01), ylim=(0, 1.02))
        axes[1].set(xlabel=f"recall, {phase}", ylabel="false per quiet station-hour", xlim=(0, 1.01), yscale="log")
    handles, labels = canvas.axes[0].get_legend_handles_labels()
    canvas.legend(handles, labels, loc="outside lower center", ncols=3, fontsize=8, frameon=False)
    save(canvas, path)


def save(canvas: Figure, path: Path) -> None:
    """To a temporary name, then in place."""
    temporary = path.with_name(f".{path.stem}.part.png")
    canvas.savefig(temporary, dpi=80)
    os.replace(temporary, path)


def worst(folders: Sequence[Path], false: list[tuple], missed: list[tuple], path: Path) -> None:
    """Ten false picks in quiet and ten missed plants: vertical and one horizontal, high-passed; (station, time in s, title)."""
    canvas = Figure((12, 15), layout="constrained")
    grid = canvas.subplots(10, 2, squeeze=False)
    for column, (folder, rows) in enumerate(zip(folders, (false, missed), strict=True)):
        records, _ = chosen(folder, "all", "ZNE")
        for axis, (station, at, title) in zip(grid[:, column], rows, strict=False):
            for i in range(len(records)):
                w = records[i]
                begin = w.start_ns / 1e9
                if f"{w.channels[0].network}.{w.channels[0].station}" == station and begin <= at < begin + w.duration_s:
                    x = days.highpassed(w.data.astype(np.float64), w.sampling_rate_hz, 1.0)
                    t = begin + np.arange(x.shape[1]) / w.sampling_rate_hz - at
                    here = np.abs(t) < 12
                    for offset, row in zip((1, -1), x, strict=False):
                        axis.plot(t[here], row[here] / max(np.abs(row[here]).max(), 1e-12) + offset, lw=0.5, color="#24292f")
            axis.axvline(0, color="#d1242f", lw=0.8)
            axis.set_title(title, fontsize=8)
            axis.set(yticks=[], xlim=(-12, 12))
    save(canvas, path)
