"""The report of a learning curve: sets, curves as tables, comparisons with intervals, what needs no network, figures."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pandas as pd

from seislatent import __version__, config
from seislatent.errors import SeislatentError
from seislatent.evaluate.report import Picture, Report, Section, Table
from seislatent.experiments import trivial
from seislatent.experiments.curve_figures import hours, pictures
from seislatent.experiments.curve_scores import (
    CLASSES,
    PICKS,
    Difference,
    Paired,
    averaged,
    comparisons,
    job_of,
    main_measure,
    scores,
)  # fmt: skip
from seislatent.experiments.grid import JOBS
from seislatent.experiments.record_sets import RecordSet, described
from seislatent.experiments.running import Plan, Trained, tests

NOTE = (
    "Gain: accuracy, or seconds of mean absolute error saved; above 0 the first is better. Its 95 % interval draws test events and"
    " repeats again; undecided: it holds 0."
)


def page(plan: Plan, cells: Sequence[Trained], sets: Mapping[str, RecordSet]) -> tuple[Report, pd.DataFrame]:
    """The report, and the scores of every cell.

    Raises:
        SeislatentError: nothing has been trained.
    """
    if not cells:
        raise SeislatentError("no cell of this grid has been trained: start it again")
    known, rates = tests(plan), {name: r.sampling_rate_hz for name, r in sets.items()}
    single = scores(cells, known, rates)
    table = averaged(single)
    asked = comparisons(Paired(cells, known, rates), table)
    simple = {name: trivial.judged(r) for name, r in sets.items()}
    best = {name: largest(cells, known[name], name) for name in sets if JOBS[job_of(name)]}
    result = {
        "experiment": "learning-curve",
        "grid": config.plain(plan.grid),
        "sets": {name: described(r) for name, r in sets.items()},
        "encoders": {e.name: {"system": e.system, "weights": e.digest} for e in plan.encoders},
        "cells": len(cells),
        "points": table.to_dict("records"),
        "comparisons": {q: [asdict(d) | {"verdict": d.verdict} for d in found] for q, found in asked.items()},
        "without a network": simple,
        "largest n": best,
        "version": __version__,
    }
    drawn = pictures(table, cells, known, rates)
    sections = [
        Section(heading="Records", parts=[_sets(sets)]),
        *[Section(heading=f"Curves: {name}", parts=[_curves(table, name)]) for name in sets],
        *[
            Section(heading=question[:1].upper() + question[1:], parts=[NOTE, _differences(found)])
            for question, found in asked.items()
        ],
        Section(heading="Without a network", parts=[_simple(simple, best)]),
        Section(heading="Figures", parts=[*drawn, *_hours(sets)]),
    ]
    return Report(result, "Learning curves: what encoders that learnt without labels are worth", sections), single


def largest(cells: Sequence[Trained], test: pd.DataFrame, name: str) -> dict[str, Any]:
    """Every encoder and way at the largest n, answers averaged over repeats, with intervals by event."""
    mine = [c for c in cells if c.cell.set == name]
    most = max((c.cell.n for c in mine), default=0)
    found: dict[str, list[Any]] = {}
    for c in mine:
        if c.cell.n == most and c.cell.head == "convolution" and c.cell.batch < 256:
            found.setdefault(f"{c.cell.encoder}, {c.cell.way}, n = {most}", []).append(c.answers)
    truth, events = test["truth"].to_numpy(), test["event"].to_numpy()
    return {told: trivial.classed(sum(a) / len(a), truth, events) for told, a in found.items()}


def write_tables(single: pd.DataFrame, report: Report, out: Path) -> None:
    """results.csv, a row per cell, and results.md, the tables of the report."""
    parts = [f"# {report.title}", ""]
    for section in report.sections:
        tables = [p for p in section.parts if isinstance(p, Table)]
        if tables:
            parts += [f"## {section.heading}", ""]
        for table in tables:
            parts += [*([table.caption, ""] if table.caption else []), markdown(table), ""]
    _placed(out / "results.csv", single.to_csv(index=False, float_format="%.6g"))
    _placed(out / "results.md", "\n".join(parts))


def markdown(table: Table) -> str:
    """With bars in cells escaped."""
    rows = [table.heads, ["---"] * len(table.heads), *table.rows]
    return "\n".join("| " + " | ".join(str(c).replace("|", "\\|") for c in row) + " |" for row in rows)


def _placed(path: Path, text: str) -> None:
    beside = path.with_name(f".{path.name}")
    beside.write_text(text, encoding="utf-8")
    os.replace(beside, path)


def _sets(sets: Mapping[str, RecordSet]) -> Table:
    rows = []
    for name, records in sets.items():
        told = described(records)
        classes = ", ".join(f"{label} {c['pool']} + {c['test']}" for label, c in told["classes"].items())
        kind = "synthetic" if told["synthetic"] else "real"
        rows.append(
            [
                name,
                kind,
                f"{told['pool']} ({told['pool_events']})",
                f"{told['test']} ({told['test_events']})",
                f"{told['stations']}",
                classes,
            ]
        )
    return Table(heads=["set", "", "to draw from (events)", "test (events)", "stations", "classes, pool + test"], rows=rows)


def _curves(table: pd.DataFrame, name: str) -> Table:
    """Every point of a set: mean and standard deviation of the repeats."""
    mine = table[table["set"] == name].sort_values(["n", "batch", "encoder", "head", "way"])
    measures = list(CLASSES if JOBS[job_of(name)] else PICKS)
    digits = {m: 3 for m in (*CLASSES, *PICKS)} | {m: 2 for m in ("std_absolute_s", "median_s", "mean_absolute_s")}
    rows = []
    for _, row in mine.iterrows():
        cells = [f"{row[m]:.{digits[m]}f} ± {row[f'{m}_std']:.{digits[m]}f}".replace(" ± nan", "") for m in measures]
        head = "" if row["head"] == "convolution" else ", no convolution"
        rows.append(
            [f"{row['encoder']}{head}", row["way"], f"{row['n']}", f"{row['batch']}", f"{row['repeats']}", *cells,
             f"{row['epochs']:.0f}", f"{row['seconds']:.1f}"]
        )  # fmt: skip
    names = [{**CLASSES, **PICKS}[m] for m in measures]
    return Table(heads=["encoder", "way", "n", "batch", "repeats", *names, "epochs", "CPU s"], rows=rows)


def _differences(found: Sequence[Difference]) -> Table:
    rows = []
    for d in sorted(found, key=lambda d: (d.set, d.one, d.other, d.n)):
        digits = 3 if JOBS[job_of(d.set)] else 2
        ends = "none" if d.low is None or d.high is None else f"{d.low:+.{digits}f} to {d.high:+.{digits}f}"
        rows.append([d.set, d.one, d.other, f"{d.n}", f"{d.repeats}", f"{d.gain:+.{digits}f}", ends, d.verdict])
    return Table(heads=["set", "one", "other", "n", "repeats", "gain", "95 % interval", ""], rows=rows)


def _simple(simple: Mapping[str, Mapping[str, Any]], best: Mapping[str, Mapping[str, Any]]) -> Table:
    rows = []
    for name, methods in simple.items():
        for method, told in [*methods.items(), *best.get(name, {}).items()]:
            if "auc" in told:
                first, second = (f"{told[m]:.3f}{_ends(told[f'{m}_interval'])}" for m in ("accuracy", "auc"))
                rows.append([name, method, first, f"{told['balanced_accuracy']:.3f}", second, "", ""])
            else:
                size = f"{told['mean_absolute_s']:.2f}{_ends(told['mean_absolute_interval'])}"
                rows.append([name, method, "", "", "", size, f"{told[main_measure(name)]:.2f}"])
    caption = "Learnt from the whole pool; networks at their largest n, answers averaged over repeats; 95 % intervals by event."
    heads = ["set", "method", "accuracy", "balanced accuracy", "AUC", "mean absolute error (s)", "its standard deviation (s)"]
    return Table(heads=heads, rows=rows, caption=caption)


def _ends(interval: tuple[float | None, float | None]) -> str:
    low, high = interval
    return "" if low is None or high is None else f" ({low:.3f} to {high:.3f})"


def _hours(sets: Mapping[str, RecordSet]) -> list[Picture]:
    """Of real sets of explosions: whether the clock tells the classes apart."""
    made = []
    for name, records in sets.items():
        if records.source.job != "explosion" or records.source.synthetic or records.table["hour"].isna().any():
            continue

        def draw(figure: Any, name: str = name, records: RecordSet = records) -> None:
            hours(figure, records.table, records.target.numpy(), records.labels, name)

        made.append(
            Picture(
                name=f"{name.replace(':', '-')}_hours",
                caption=f"{name}: hours of the classes.",
                width_in=6,
                height_in=3.2,
                draw=draw,
            )
        )
    return made
