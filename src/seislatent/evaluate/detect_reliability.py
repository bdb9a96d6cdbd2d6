"""What a discriminator is worth on records that it did not learn from: by class, event and day, and whether its probabilities hold.

records --judge--> probability, unknown? --> confusion, recall by record, event and day, reliability diagram, share of unknown

`seislatent train` writes this beside the weights of every classifier. A class that was recorded on three days has three days'
worth of evidence however many records it has: look at the recall by day.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure
from numpy.typing import NDArray
from torch import Tensor

from seislatent import __version__
from seislatent.batch import Batch
from seislatent.errors import SeislatentError
from seislatent.evaluate.bootstrap import SHARE
from seislatent.evaluate.detect_page import number as shown
from seislatent.evaluate.judged import draws_of, told, weights
from seislatent.evaluate.report import COLOURS, Picture, Report, Section, Table
from seislatent.metrics.calibration import reliability
from seislatent.metrics.detection import classification
from seislatent.systems.base import Classifier

NS_PER_DAY = 86400 * 10**9


@dataclass(frozen=True, kw_only=True)
class Called:
    """What a classifier said of records, and what they are."""

    probability: Tensor
    """[record label]"""
    unknown: Tensor
    """[record]"""
    number: Tensor
    """[record] of its label."""


def called(system: Any, batches: Iterable[Batch]) -> Called:
    """Asks a classifier about batches with labels; records without one are left out.

    Raises:
        SeislatentError: the system is no classifier, or no record has a label.
    """
    if not isinstance(system, Classifier):
        raise SeislatentError(f"{type(system).__name__} is no classifier: it cannot tell what records show")
    device = next((p.device for p in system.parameters()), None) if isinstance(system, torch.nn.Module) else None
    found: list[tuple[Tensor, Tensor, Tensor]] = []
    with torch.inference_mode():
        for batch in batches:
            assert batch.label is not None
            there = batch.label >= 0
            x = batch.x if batch.valid is None else torch.where(batch.valid, batch.x, torch.nan)
            x, label = x[there].to(device), batch.label[there].long()
            if not len(x):
                continue
            said = system.judge(x) if hasattr(system, "judge") else None
            probability = system.classify(x) if said is None else said.probabilities
            unknown = torch.zeros(len(x), dtype=torch.bool) if said is None else said.unknown
            found.append((probability.double().cpu(), unknown.cpu(), label.cpu()))
    if not found:
        raise SeislatentError("no record with a label: nothing to judge a discriminator on")
    probability, unknown, label = (torch.cat(each) for each in zip(*found, strict=True))
    return Called(probability=probability, unknown=unknown, number=label)


def discrimination(
    it: Called, labels: Sequence[str], table: pd.DataFrame, *, name: str, data: Sequence[str | Path], split: str, command: str
) -> Report:
    """The report about one discriminator.

    Args:
        it: from `called`.
        labels: in the order of their numbers.
        table: of the same records, in order: `event` (any value), and `start_ns` where it is known.
        name: of the system.
        data: where the records are.
        split: which of them.
        command: that asks this again.

    Raises:
        SeislatentError: another number of records.
    """
    if len(table) != len(it.number):
        raise SeislatentError(f"{len(table)} rows of a table for {len(it.number)} records: give one per record")
    event = table["event"].to_numpy()
    right = it.probability.argmax(1) == it.number
    whole = classification(it.probability.argmax(1), it.number, len(labels))
    drawn = classification(it.probability.argmax(1), it.number, len(labels), weight=weights(event))
    there = torch.unique(it.number)
    even = reliability(it.probability, it.number, weight=1 / torch.bincount(it.number)[it.number])
    days = _days(table)
    result = {
        "question": "detect",
        "task": "discrimination",
        "system": name,
        "records": len(right),
        "events": len(np.unique(event)),
        "days": None if days is None else len(np.unique(days)),
        "classes": {labels[k]: int((it.number == k).sum()) for k in range(len(labels))},
        "accuracy": told(whole.accuracy, drawn.accuracy, event),
        "balanced_accuracy": told(whole.recall[there].mean(), drawn.recall[:, there].nanmean(1), event),
        "recall": {labels[k]: _recalls(right, it.number == k, event, days) for k in there.tolist()},
        "confusion": {labels[i]: {labels[j]: int(whole.confusion[i, j]) for j in range(len(labels))} for i in there.tolist()},
        "unknown": {labels[k]: float(it.unknown[it.number == k].double().mean()) for k in there.tolist()},
        "accuracy_of_known": float(right[~it.unknown].double().mean()) if bool((~it.unknown).any()) else None,
        "reliability": {
            "expected_calibration_error": float(even.error),
            "bins": [
                {"from": float(a), "to": float(b), "share": float(w), "confidence": _number(c), "right": _number(r)}
                for a, b, w, c, r in zip(even.edges[:-1], even.edges[1:], even.weight, even.confidence, even.right, strict=True)
            ],
            "classes_weigh": "alike",
        },
        "data": [str(d) for d in data],
        "split": split,
        "interval": {"share": SHARE, "draws": draws_of(len(right)), "drawn": "events"},
        "version": __version__,
        "command": command,
    }
    return _page(result, labels)


def _days(table: pd.DataFrame) -> NDArray[Any] | None:
    """The day in UTC of each record, counted from 1970; None where not all tell their time."""
    start = pd.to_numeric(table.get("start_ns", pd.Series(np.nan, index=table.index)), errors="coerce")
    return None if start.isna().any() or (start == 0).any() else (start.astype("int64") // NS_PER_DAY).to_numpy()


def _recalls(right: Tensor, mine: Tensor, event: NDArray[Any], days: NDArray[Any] | None) -> dict[str, Any]:
    """Of one class: the share of its records called right, and the means over its events and days of theirs."""
    hits, its = right[mine].double().numpy(), mine.numpy()
    found: dict[str, Any] = {"records": float(hits.mean())}
    for name, of in (("events", event), ("days", days)):
        if of is not None:
            each = pd.Series(hits).groupby(of[its]).mean()
            found |= {f"by_{name}": float(each.mean()), name: len(each), f"worst_of_{name}": float(each.min())}
    return found


def _number(value: Tensor) -> float | None:
    return float(value) if value == value else None


def _page(result: dict[str, Any], labels: Sequence[str]) -> Report:
    known = "" if result["accuracy_of_known"] is None else f" Accuracy of what is not unknown: {result['accuracy_of_known']:.3f}."
    head = [
        f"{result['records']} records of {result['events']} events"
        + ("" if result["days"] is None else f" on {result['days']} days")
        + f", split {result['split']} of {', '.join(result['data'])}.",
        f"Accuracy {shown(result['accuracy'])}, balanced accuracy {shown(result['balanced_accuracy'])}"
        f" (brackets: 95 % interval when whole events are drawn again).{known}",
        f"Command: {result['command']}",
    ]
    confusion = Table(
        heads=["is", *(f"called {name}" for name in labels), "unknown"],
        rows=[
            [name, *(str(count) for count in row.values()), f"{result['unknown'][name]:.1%}"]
            for name, row in result["confusion"].items()
        ],
        caption="Confusion matrix, and the share of each class that is said to be unknown",
    )
    words = {
        "records": "of records", "by_events": "mean of events", "worst_of_events": "worst event", "by_days": "mean of days",
        "worst_of_days": "worst day",
    }  # fmt: skip
    by = [k for k in words if all(k in r for r in result["recall"].values())]
    recall = Table(
        heads=["class", *(words[k] for k in by)],
        rows=[[name, *(f"{r[k]:.3f}" for k in by)] for name, r in result["recall"].items()],
        caption="Recall",
    )
    told_error = (
        f"Expected calibration error {result['reliability']['expected_calibration_error']:.3f}, all classes weighing the same:"
        " a classifier trained on balanced classes tells probabilities for balanced classes. Where one class is rare, multiply"
        " the probabilities by the shares that you expect and divide by their sum."
    )
    sections = [
        Section(heading="What was asked", parts=[*head]),
        Section(heading="What is called what", parts=[confusion, recall]),
        Section(heading="Whether probabilities hold", parts=[told_error, _diagram(result["reliability"]["bins"])]),
    ]
    return Report(result, f"discriminator {result['system']}: {', '.join(labels)}", sections)


def _diagram(bins: Sequence[dict[str, Any]]) -> Picture:
    def draw(figure: Figure) -> None:
        axes = figure.subplots()
        there = [b for b in bins if b["right"] is not None]
        middles, width = [(b["from"] + b["to"]) / 2 for b in bins], bins[0]["to"] - bins[0]["from"]
        axes.bar(middles, [b["share"] for b in bins], width=0.9 * width, color="0.85", label="share of records")
        axes.plot([0, 1], [0, 1], color="0.6", lw=0.8)
        axes.plot([b["confidence"] for b in there], [b["right"] for b in there], "o-", color=COLOURS[0], label="share called right")
        axes.set(xlabel="probability of what is called", ylabel="share", xlim=(0, 1), ylim=(0, 1.02))
        axes.legend(loc="upper left", fontsize="small")

    caption = "Reliability: points on the grey line are probabilities that are what they say"
    return Picture(name="reliability", caption=caption, width_in=4.2, height_in=4.0, draw=draw)
