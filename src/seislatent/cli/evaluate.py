"""Judge systems on records, beside each other and beside classical methods.

Writes report.json, figures and a self-contained report.html into the folder OUT. The question `compress` (or `reconstruct`, the
same) tells per level: bits_per_second and file_bits_per_second (bit/s), compression_ratio against 32-bit samples, mse and mae of
normalised records, and snr_db (dB), each as mean, standard deviation and 95 % interval by event.

The question `translate` takes a store of pairs (seislatent prepare data/pairs) and judges broadband draws: fits, residuals of
intensity measures, low frequencies, spread, correlations, and a verdict from a criteria file. `generate` takes records and judges
draws as a set, for the conditions of each record, and against training records.

The question `detect` judges pickers (residuals in s, precision, recall), with --picks on continuous records (false picks per
station-hour), or, with --label, classifiers (accuracy to AUC);
`disentangle` judges codes of grouped records: invariance, retrieval, leak, swaps, normality.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from seislatent.errors import UsageError
from seislatent.evaluate import QUESTIONS

OPTIONS: dict[str, dict[str, dict[str, Any]]] = {
    "compress, reconstruct": {
        "--level": dict(type=int, metavar="N", help="the level of reconstruct (default: the highest)"),
        "--window": dict(type=float, dest="window_s", metavar="S", help="also judge windows of S seconds, each scaled by itself"),
        "--utility": dict(action="store_true", help="also judge what coding does to picks, peak motion and spectra"),
        "--workers": dict(type=int, metavar="N", help="processes of one thread each (default: 1)"),
    },
    "detect": {
        "--label": dict(metavar="COLUMN", help="judge classes by this column, such as event_type (default: judge picks)"),
        "--picks": dict(metavar="FILE", help="judge pickers on continuous records by these picks (QuakeML, GSE2.0, CSV)"),
        "--cut": dict(type=float, dest="cut_s", metavar="S", help="length in s of what a picker is given (default: 25)"),
        "--lead": dict(type=float, dest="lead_s", metavar="S", help="least time in s before P in a cut (default: 8)"),
        "--tolerance": dict(type=float, dest="tolerance_s", metavar="S", help="a pick so near in s finds it (default: 0.5)"),
    },
    "translate": {
        "--criteria": dict(metavar="FILE", help="YAML of limits for the verdict (default: broadband, which ships)"),
        "--ground-motion-model": dict(
            dest="ground_motion_model", metavar="NAME", help="model to compare with (default: BSSA14; pygmm must be installed)"
        ),
        "--im-format": dict(
            dest="im_format", choices=("csv", "openquake"), help="what is written beside the table of measures (default: csv)"
        ),
    },
    "generate": {
        "--by-peak": dict(action="store_true", dest="by_peak", help="divide every record and draw by its peak"),
        "--embedder": dict(type=lambda name: named(name), metavar="NAME", help="system whose features are compared too"),
    },
    "translate, generate": {
        "--draws": dict(type=int, metavar="N", help="of each record or condition (default: 5)"),
    },
    "disentangle": {
        "--state": dict(metavar="COLUMN", help="what records of a group share (default: source_id)"),
        "--nuisance": dict(metavar="A,B", help="columns of what changes within a group (default: station_code)"),
        "--group": dict(type=int, metavar="N", help="records of a group, about (default: 8)"),
    },
    "generate, disentangle": {
        "--most": dict(type=int, metavar="N", help="judge at most N records (default: 400 of generate, 2000 of disentangle)"),
    },
    "several questions": {
        "--seed": dict(type=int, metavar="N", help="of what is drawn at random (default: 0)"),
    },
}
"""The options of each question (or of several), which `evaluate` takes under these names; told only where they are given."""


def arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the verb; those of one question are in groups."""
    parser.add_argument("question", metavar="QUESTION", choices=list(QUESTIONS), help=" or ".join(QUESTIONS))
    parser.add_argument("--systems", required=True, metavar="A,B", help="presets, .safetensors files, baselines; commas between")
    parser.add_argument("--data", required=True, metavar="DIR", help="folder or file of records; several are separated by commas")
    parser.add_argument("--split", default="test", metavar="NAME", help="train, dev or test, by event (default: test); or all")
    parser.add_argument("--out", required=True, metavar="OUT", help="folder to write")
    parser.add_argument("--overwrite", action="store_true", help="replace an earlier report in OUT")
    for questions, options in OPTIONS.items():
        group = parser.add_argument_group(questions)
        for flag, how in options.items():
            group.add_argument(flag, default=argparse.SUPPRESS, **how)


def run(args: argparse.Namespace) -> Any:
    """Calls `evaluate.evaluate`."""
    from seislatent.evaluate import evaluate

    names = [name.strip() for name in args.systems.split(",")]
    if "" in names:
        raise UsageError(f"--systems {args.systems!r} names nothing between its commas: give names such as A,B")
    models = [named(name) for name in names]
    data = args.data if Path(args.data).exists() else args.data.split(",")
    own = {how.get("dest", flag[2:].replace("-", "_")) for options in OPTIONS.values() for flag, how in options.items()}
    options = {name: value for name, value in vars(args).items() if name in own}
    return evaluate(args.question, models, data, args.split, args.out, overwrite=args.overwrite, **options)


def named(name: str) -> Any:
    """A baseline by its name in the catalog, else a model as `seislatent.load` gives it."""
    from seislatent import catalog

    return catalog.baseline(name) if name.startswith("baseline/") else catalog.load(name)


def text(result: Any) -> str:
    """The report's table."""
    return str(result)
