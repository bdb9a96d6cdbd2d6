"""What trained cells are worth on the test records: scores of each, means over repeats, and differences with intervals.

A difference is taken record by record and repeat by repeat: two ways at one n have learnt from the same draw and answer the same
test records. Its interval draws events and repeats again, both at once: it holds for other test events and for other trainings.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from seislatent.evaluate.bootstrap import DRAWS, SEED, SHARE
from seislatent.experiments.grid import JOBS, Cell
from seislatent.experiments.running import Trained
from seislatent.metrics.detection import classification, roc

KEYS = ["set", "encoder", "head", "way", "n", "batch"]
"""What is one point of a curve: its repeats differ by draw and first weights only."""
CLASSES = {"accuracy": "accuracy", "balanced_accuracy": "balanced accuracy", "auc": "AUC"}
PICKS = {
    "std_absolute_s": "std of absolute error (s)", "median_s": "median error (s)",
    "mean_absolute_s": "mean absolute error (s)", "within_0.1": "share within 0.1 s", "within_0.5": "share within 0.5 s",
}  # fmt: skip
COSTS = {"epochs": "epochs", "seconds": "time to converge (CPU s)"}
"""Names of measures as tables and figures call them."""


def job_of(name: str) -> str:
    """Of a set."""
    return name.partition(":")[0]


def main_measure(name: str) -> str:
    """What the paper's figures show of a set's job."""
    return "accuracy" if JOBS[job_of(name)] else "std_absolute_s"


def scores(cells: Sequence[Trained], tests: Mapping[str, pd.DataFrame], rates_hz: Mapping[str, float]) -> pd.DataFrame:
    """One row per cell: its keys, `repeat`, and its measures."""
    rows = [vars(it.cell) | _measures(it, tests[it.cell.set], rates_hz[it.cell.set]) for it in cells]
    return pd.DataFrame(rows).sort_values([*KEYS, "repeat"], ignore_index=True)


def _measures(it: Trained, test: pd.DataFrame, rate_hz: float) -> dict[str, float]:
    told = {"epochs": it.about["epochs"], "seconds": it.about["seconds"] + it.about.get("seconds_before", 0.0)}
    if not JOBS[job_of(it.cell.set)]:
        return told | pick_measures(it.answers.astype(float) / rate_hz - test["truth"].to_numpy() / rate_hz)
    return told | class_measures(it.answers, test["truth"].to_numpy())


def class_measures(probability: NDArray[Any], truth: NDArray[Any]) -> dict[str, float]:
    """Of probabilities of class 1 against classes 0 and 1 [record]."""
    called, label = torch.from_numpy((probability > 0.5).astype(np.int64)), torch.from_numpy(truth.astype(np.int64))
    made = classification(called, label)
    area = roc(torch.from_numpy(probability.astype(np.float64)), label).auc if label.min() < label.max() else torch.tensor(np.nan)
    return {"accuracy": float(made.accuracy), "balanced_accuracy": float(made.balanced_accuracy), "auc": float(area)}


def pick_measures(error_s: NDArray[np.float64]) -> dict[str, float]:
    """Of errors in s [record]: found less given."""
    size = np.abs(error_s)
    within = {f"within_{t:g}": float((size <= t).mean()) for t in (0.1, 0.5)}
    return {
        "std_absolute_s": float(size.std()), "median_s": float(np.median(error_s)), "mean_absolute_s": float(size.mean()), **within
    }  # fmt: skip


def averaged(table: pd.DataFrame) -> pd.DataFrame:
    """Mean (MEASURE) and standard deviation (MEASURE_std, NaN of one) over the repeats of each point, and their number."""
    measures = [c for c in table if c not in (*KEYS, "repeat")]
    groups = table.groupby(KEYS, sort=True)
    mean, std = groups[measures].mean(), groups[measures].std().add_suffix("_std")
    return pd.concat([mean, std, groups.size().rename("repeats")], axis=1).reset_index()


@dataclass(frozen=True, kw_only=True)
class Difference:
    """What one choice gains over another at one n."""

    set: str
    n: int
    one: str
    other: str
    gain: float
    """Accuracy, or seconds of mean absolute error that are saved: above 0 where `one` is better."""
    low: float | None
    high: float | None
    """Ends of its 95 % interval."""
    repeats: int

    @property
    def verdict(self) -> str:
        """better, worse, or no difference that the interval tells."""
        if self.low is None or self.high is None or self.low <= 0 <= self.high:
            return "undecided"
        return "better" if self.gain > 0 else "worse"


class Paired:
    """Cells by their keys, for differences.

    Args:
        cells: what was trained.
        tests: test records of each set.
        rates_hz: of each set's records.
    """

    def __init__(self, cells: Sequence[Trained], tests: Mapping[str, pd.DataFrame], rates_hz: Mapping[str, float]) -> None:
        self.tests, self.rates = tests, rates_hz
        self.found: dict[tuple[Any, ...], dict[int, NDArray[np.float64]]] = {}
        for it in cells:
            self.found.setdefault(self.key(it.cell), {})[it.cell.repeat] = self._worth(it)

    @staticmethod
    def key(cell: Cell) -> tuple[Any, ...]:
        """All but the repeat."""
        return tuple(getattr(cell, k) for k in KEYS)

    def _worth(self, it: Trained) -> NDArray[np.float64]:
        """Of each test record: 1 where the call is right; or the absolute error in s, below 0."""
        truth = self.tests[it.cell.set]["truth"].to_numpy()
        if JOBS[job_of(it.cell.set)]:
            return ((it.answers > 0.5) == (truth > 0.5)).astype(float)
        return np.asarray(-np.abs(it.answers.astype(float) - truth) / self.rates[it.cell.set])

    def difference(self, one: tuple[Any, ...], other: tuple[Any, ...], names: tuple[str, str]) -> Difference | None:
        """Of two points with the same test records; repeats that both have. None where they have none."""
        a, b = self.found.get(one, {}), self.found.get(other, {})
        shared = sorted(a.keys() & b.keys())
        if not shared:
            return None
        gap = np.stack([a[r] - b[r] for r in shared])
        low, high = ends(gap, self.tests[one[0]]["event"].to_numpy())
        return Difference(
            set=one[0], n=one[4], one=names[0], other=names[1], gain=float(gap.mean()), low=low, high=high, repeats=len(shared)
        )  # fmt: skip


def ends(gap: NDArray[np.float64], events: NDArray[Any]) -> tuple[float | None, float | None]:
    """The 95 % interval of the mean of values [repeat record] when events and repeats are drawn again; None of one event."""
    _, label = np.unique(events, return_inverse=True)
    number, repeats = int(label.max()) + 1, len(gap)
    if number < 2:
        return None, None
    sums = np.stack([np.bincount(label, row, number) for row in gap])
    counts = np.bincount(label, minlength=number).astype(float)
    rng = np.random.default_rng(SEED)
    times = rng.multinomial(number, np.full(number, 1 / number), size=DRAWS)
    again = rng.multinomial(repeats, np.full(repeats, 1 / repeats), size=DRAWS) / repeats
    means = ((again @ sums) * times).sum(1) / (times @ counts)
    low, high = np.quantile(means, [0.5 - SHARE / 2, 0.5 + SHARE / 2])
    return float(low), float(high)


def comparisons(paired: Paired, table: pd.DataFrame) -> dict[str, list[Difference]]:
    """By question: the paper's comparisons, wherever both sides were trained at the same set and n."""
    asked: dict[str, list[Difference]] = {}

    def ask(question: str, row: Any, change: dict[str, str], names: tuple[str, str]) -> None:
        one = tuple(row[k] for k in KEYS)
        found = paired.difference(one, tuple(change.get(k, row[k]) for k in KEYS), names)
        if found is not None:
            asked.setdefault(question, []).append(found)

    for _, row in table.iterrows():
        encoder, head, way = row["encoder"], row["head"], row["way"]
        plain = head == "convolution"
        rest = ("" if plain else ", no convolution") + (f", batch {row['batch']}" if row["batch"] >= 256 > row["n"] / 100 else "")
        name = f"{encoder}, {way}{rest}"
        if way != "baseline":
            own = encoder if encoder[:4] in ("over", "unde") else "over68"
            told = f"baseline of {own}{rest}"
            question = "learnt without labels against from scratch" if own == encoder else "rivals against from scratch"
            ask(question, row, {"way": "baseline", "encoder": own}, (name, told))
        if own_rival(encoder) and way != "baseline":
            ask("rivals against the autoencoder", row, {"encoder": "over68"}, (name, f"over68, {way}"))
        if way == "schema 2":
            ask("fine-tuned against frozen", row, {"way": "schema 1"}, (name, name.replace("schema 2", "schema 1")))
        if encoder.startswith("over"):
            ask(
                "overcomplete against undercomplete",
                row,
                {"encoder": encoder.replace("over", "under")},
                (name, name.replace("over", "under")),
            )
        for frames in ("34", "17"):
            if encoder.endswith("68"):
                other = encoder.replace("68", frames)
                ask("68 frames against fewer", row, {"encoder": other}, (name, name.replace(encoder, other)))
        if plain:
            ask("with the convolution against without", row, {"head": "dense"}, (name, f"{name}, no convolution"))
    return asked


def own_rival(encoder: str) -> bool:
    """Whether an encoder is none of the paper's autoencoders."""
    return not encoder.startswith(("over", "under"))
