"""Judging: one file per question, one report for all of them, and the demo."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from seislatent.evaluate.report import Report

QUESTIONS = ("compress", "reconstruct")


def evaluate(
    question: str,
    systems: Any,
    data: str | Path | Sequence[str | Path],
    split: str = "test",
    out: str | Path | None = None,
    *,
    level: int | None = None,
    window_s: float | None = None,
    workers: int = 1,
    overwrite: bool = False,
) -> Report:
    """Judge systems side by side on the same records.

    Args:
        question: `compress` (every level) or `reconstruct` (one level).
        systems: models as `seislatent.load` gives them, one or several.
        data: folder or file of records, or several.
        split: `train`, `dev` or `test`, by event; or `all`.
        out: folder for report.json, report.html and the figures; None writes nothing.
        level: the level of `reconstruct`; the highest when None.
        window_s: also judge windows of this length in seconds, each scaled by itself.
        workers: processes, of one thread each; the result is the same.
        overwrite: replace a report in `out`.

    Returns:
        The report: a dictionary as in report.json, with a page and text.

    Raises:
        SeislatentError: an unknown question, no record, a system that is no codec, or a report that may not be replaced.
    """
    from seislatent.errors import SeislatentError, unknown
    from seislatent.evaluate.compress import compress

    if question not in QUESTIONS:
        raise SeislatentError(unknown("question", question, QUESTIONS))
    if level is not None and question != "reconstruct":
        raise SeislatentError("a level is asked for by the question reconstruct; compress judges all of them")
    models = list(systems) if isinstance(systems, list | tuple) else [systems]
    return compress(
        models, data, split, out, question=question, level=level, window_s=window_s, workers=workers, overwrite=overwrite
    )
