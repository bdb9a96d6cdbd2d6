"""Judging: one file per question, one report for all of them, and the demo."""

from __future__ import annotations

import inspect
import pydoc
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from seislatent.evaluate.report import Report

QUESTIONS: dict[str, str] = {
    "compress": "seislatent.evaluate.compress.compress",
    "reconstruct": "seislatent.evaluate.compress.compress",
    "generate": "seislatent.evaluate.generate.generate",
    "translate": "seislatent.evaluate.translate.translate",
    "detect": "seislatent.evaluate.detect.detect",
    "disentangle": "seislatent.evaluate.disentangle.disentangle",
}
"""The full name of the function that answers each: `(systems, data, split, out, *, overwrite, options of its own) -> Report`. One
that answers several takes `question` too."""


def evaluate(
    question: str,
    systems: Any,
    data: str | Path | Sequence[str | Path],
    split: str = "test",
    out: str | Path | None = None,
    *,
    overwrite: bool = False,
    **options: Any,
) -> Report:
    """Judge systems side by side on the same records.

    Args:
        question: `compress` (every level), `reconstruct` (one level), `generate` (new records), `translate` (low frequencies to
            broad ones), or another of QUESTIONS.
        systems: models as `seislatent.load` gives them, or baselines; one or several.
        data: folder or file of records, or several.
        split: `train`, `dev` or `test`, by event; or `all`.
        out: folder for report.json, report.html and the figures; None writes nothing.
        overwrite: replace a report in `out`.
        **options: of the question. compress: `window_s`, also judge windows of this length in seconds, each scaled by itself;
            `utility`, also judge what coding does to picks, peak motion and spectra; `workers`, processes of one thread each (the
            result is the same). reconstruct: these, and `level` (the highest when None). generate: `draws`, `seed`, `most`,
            `by_peak`, `embedder`. translate: `draws`, `seed`, `criteria`, `ground_motion_model`, `im_format`. detect: `label`
            (classes), `picks` (continuous records), `cut_s`, `lead_s`, `tolerance_s`, `seed`. disentangle: `state`, `nuisance`,
            `group`, `most`, `seed`. The functions that answer say what each is.

    Returns:
        The report: a dictionary as in report.json, with a page and text.

    Raises:
        SeislatentError: an unknown question or option, no record, a system that cannot answer, or a report that may not be
            replaced.
    """
    from seislatent.errors import SeislatentError, unknown

    if question not in QUESTIONS:
        raise SeislatentError(unknown("question", question, QUESTIONS))
    if options.get("level") is not None and question != "reconstruct":
        raise SeislatentError("a level is asked for by the question reconstruct; compress judges all of them")
    answer: Any = pydoc.locate(QUESTIONS[question])
    known = {name for name, told in inspect.signature(answer).parameters.items() if told.kind is told.KEYWORD_ONLY}
    own = sorted(known - {"question", "overwrite"} - ({"level"} if question == "compress" else set()))
    for name in options:
        if name not in own:
            raise SeislatentError(f"{unknown('option', name, own)} (question {question})")
    models = list(systems) if isinstance(systems, list | tuple) else [systems]
    if "question" in known:
        options["question"] = question
    report: Report = answer(models, data, split, out, overwrite=overwrite, **options)
    return report
