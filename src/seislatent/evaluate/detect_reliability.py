"""How far a classifier can be believed: recall of each class by event and by day, whether its probabilities hold, what it calls
unknown.

probability, unknown? --> recall by record, event and day, reliability diagram and its error, share of unknown

A class that was recorded on three days has three days' worth of evidence however many records it has: look at the recall by day.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray
from torch import Tensor

from seislatent.evaluate.report import COLOURS, Picture, Table
from seislatent.metrics.calibration import reliability

NS_PER_DAY = 86400 * 10**9
RECALLS = {
    "records": "of records", "by_events": "mean of events", "worst_of_events": "worst event", "by_days": "mean of days",
    "worst_of_days": "worst day",
}  # fmt: skip
NOTE = (
    "All classes weigh the same in the diagram and its error: a classifier trained on balanced classes tells probabilities for"
    " balanced classes. Where one class is rare, multiply the probabilities by the shares that you expect and divide by their sum."
    " Unknown: the system says that a record is unlike all it was calibrated on, and its probabilities there are worth nothing."
)


@dataclass(frozen=True, kw_only=True)
class Called:
    """What one classifier said of records."""

    probability: Tensor
    """[record class], of every class that is judged, not only of its own labels."""
    unknown: Tensor | None = None
    """[record], whether it says that the record is like nothing it knows; None where it never says so."""


def asked(system: Any, x: Tensor) -> Called:
    """What a classifier says of records [record component time], in its own labels, on the CPU in float64."""
    device = next((p.device for p in system.parameters()), None) if isinstance(system, torch.nn.Module) else None
    with torch.inference_mode():
        said = system.judge(x.to(device)) if hasattr(system, "judge") else None
        probability = system.classify(x.to(device)) if said is None else said.probabilities
    return Called(probability=probability.double().cpu(), unknown=None if said is None else said.unknown.cpu())


# -- numbers ----------------------------------------------------------------------------------------------------------------------


def believed(it: Called, truth: Tensor, labels: Sequence[str], events: NDArray[Any], days: NDArray[Any] | None) -> dict[str, Any]:
    """A system's part of report.json: `recall`, `unknown`, `accuracy_of_known` and `reliability`.

    Args:
        it: of the records.
        truth: their classes [record], as numbers among `labels`.
        labels: in the order of their numbers.
        events: of each record, any value.
        days: of each record, from `days_of`.
    """
    right = it.probability.argmax(1) == truth
    there = torch.unique(truth).tolist()
    even = reliability(it.probability, truth, weight=1 / torch.bincount(truth)[truth])
    known = torch.ones_like(right) if it.unknown is None else ~it.unknown
    return {
        "recall": {labels[k]: _recalls(right, truth == k, events, days) for k in there},
        "unknown": None if it.unknown is None else {labels[k]: float(it.unknown[truth == k].double().mean()) for k in there},
        "accuracy_of_known": float(right[known].double().mean()) if bool(known.any()) else None,
        "reliability": {
            "expected_calibration_error": float(even.error),
            "bins": [
                {"from": float(a), "to": float(b), "share": float(w), "confidence": _number(c), "right": _number(r)}
                for a, b, w, c, r in zip(even.edges[:-1], even.edges[1:], even.weight, even.confidence, even.right, strict=True)
            ],
            "classes_weigh": "alike",
        },
    }


def days_of(table: pd.DataFrame) -> NDArray[Any] | None:
    """The day in UTC of each record, counted from 1970; None where not all tell their time in `start_ns`."""
    start = pd.to_numeric(table.get("start_ns", pd.Series(np.nan, index=table.index)), errors="coerce")
    return None if start.isna().any() or (start == 0).any() else (start.astype("int64") // NS_PER_DAY).to_numpy()


def _recalls(right: Tensor, mine: Tensor, events: NDArray[Any], days: NDArray[Any] | None) -> dict[str, Any]:
    """Of one class: the share of its records called right, and the means over its events and days of theirs."""
    hits, its = right[mine].double().numpy(), mine.numpy()
    found: dict[str, Any] = {"records": float(hits.mean())}
    for name, of in (("events", events), ("days", days)):
        if of is not None:
            each = pd.Series(hits).groupby(of[its]).mean()
            found |= {f"by_{name}": float(each.mean()), name: len(each), f"worst_of_{name}": float(each.min())}
    return found


def _number(value: Tensor) -> float | None:
    return float(value) if value == value else None


# -- on the page ------------------------------------------------------------------------------------------------------------------


def recall_table(systems: Mapping[str, Any]) -> Table:
    """Recall of each class by each system: of records, by event, by day, and the share of the class called unknown."""
    columns = [k for k in RECALLS if all(k in one for told in systems.values() for one in told["recall"].values())]
    counted = [k for k in ("events", "days") if f"by_{k}" in columns]
    rows = [
        [name, c, *(str(one[k]) for k in counted), *(f"{one[k]:.3f}" for k in columns),
         "-" if told["unknown"] is None else f"{told['unknown'][c]:.1%}"]
        for name, told in systems.items()
        for c, one in told["recall"].items()
    ]  # fmt: skip
    heads = ["system", "class", *counted, *(RECALLS[k] for k in columns), "unknown"]
    return Table(heads=heads, rows=rows, caption="Recall by class, and the share of the class that is said to be unknown")


def held_table(systems: Mapping[str, Any]) -> Table:
    """How far probabilities are off, and what is right of what is not unknown."""

    def shown(value: float | None) -> str:
        return "-" if value is None else f"{value:.3f}"

    rows = [
        [name, shown(told["reliability"]["expected_calibration_error"]), shown(told["accuracy_of_known"])]
        for name, told in systems.items()
    ]
    heads = ["system", "expected calibration error", "accuracy of what is not unknown"]
    return Table(heads=heads, rows=rows, caption="Probabilities")


def diagrams(systems: Mapping[str, Any]) -> Picture:
    """The reliability diagram of each system, side by side."""
    across = min(len(systems), 3)
    down = -(-len(systems) // across)

    def draw(figure: Figure) -> None:
        grid = figure.subplots(down, across, squeeze=False, sharex=True, sharey=True)
        for axes in grid.flat[len(systems) :]:
            axes.axis("off")
        for axes, (name, told) in zip(grid.flat, systems.items(), strict=False):
            _diagram(axes, told["reliability"]["bins"])
            axes.set_title(name, loc="left", parse_math=False)
        for axes in grid[:, 0]:
            axes.set_ylabel("share")
        for axes in grid.flat[max(0, len(systems) - across) : len(systems)]:
            axes.set_xlabel("probability of what is called")
            axes.tick_params(labelbottom=True)
        figure.legend(*grid[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=2)

    caption = "Reliability: points on the grey line are probabilities that are what they say."
    return Picture(name="reliability", caption=caption, width_in=max(4.4, 3.2 * across), height_in=3.3 * down + 0.7, draw=draw)


def _diagram(axes: Axes, bins: Sequence[Mapping[str, Any]]) -> None:
    there = [b for b in bins if b["right"] is not None]
    middles, width = [(b["from"] + b["to"]) / 2 for b in bins], bins[0]["to"] - bins[0]["from"]
    axes.bar(middles, [b["share"] for b in bins], width=0.9 * width, color="0.85", label="share of records")
    axes.plot([0, 1], [0, 1], color="0.6", lw=0.8)
    axes.plot([b["confidence"] for b in there], [b["right"] for b in there], "o-", color=COLOURS[0], label="share called right")
    axes.set(xlim=(0, 1), ylim=(0, 1.02))
