"""Run an experiment of a paper: many systems trained and judged alike.

`learning-curve` (Kong et al.): what a head learns from n labelled records on an encoder that is fresh (baseline), learnt without
labels and frozen (schema 1), or fine-tuned after that (schema 2). Jobs are noise (or earthquake), explosion (or earthquake) and
picking (the sample of P). The folder OUT then holds the cells, results.csv, results.md, report.html and the figures; the same
command goes on where it was interrupted, and trains only what is missing. Records are windows of 540 samples at 20 Hz: seislatent
prepare data/kong_picking, data/noise, data/kong_explosion, data/synthetic_kong.
"""

from __future__ import annotations

import argparse
from typing import Any

from seislatent.errors import UsageError

EXPERIMENTS = ("learning-curve",)


def arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the verb."""
    parser.add_argument("experiment", metavar="EXPERIMENT", choices=EXPERIMENTS, help="learning-curve")
    sets = "JOB=STORE, JOB:NAME=STORE,STORE or JOB=STORE?COLUMN=VALUE"
    parser.add_argument("--data", action="append", default=[], metavar="SET", help=f"real records: {sets}; may be repeated")
    parser.add_argument("--synthetic", action="append", default=[], metavar="SET", help="synthetic records, written the same way")
    parser.add_argument(
        "--encoder", action="append", default=[], metavar="NAME=MODEL",
        help="an encoder of the grid, such as under34: preset with weights or .safetensors; those of 68 frames are in the package",
    )  # fmt: skip
    parser.add_argument("--grid", default="small", metavar="GRID", help="small (default), paper (days), or a YAML file")
    parser.add_argument("--out", required=True, metavar="OUT", help="folder of the experiment")
    parser.add_argument("--workers", type=int, default=1, metavar="N", help="processes of one thread each (default: 1)")
    parser.add_argument("--scheduler", metavar="ADDRESS", help="Dask scheduler whose workers see the same files; it is trusted")
    parser.add_argument("--report-only", action="store_true", help="train nothing: report on the cells there are")


def run(args: argparse.Namespace) -> Any:
    """Calls `experiments.learning_curve`."""
    from seislatent.cli.progress import Bar
    from seislatent.experiments.learning_curve import learning_curve

    encoders: dict[str, str] = {}
    for text in args.encoder:
        name, equal, place = text.partition("=")
        if not (name and equal and place):
            raise UsageError(f"--encoder '{text}': write NAME=MODEL")
        encoders[name] = place
    if args.workers < 1:
        raise UsageError(f"--workers {args.workers}: give 1 or more")
    with Bar("cells") as tell:
        return learning_curve(
            args.out, data=args.data, synthetic=args.synthetic, encoders=encoders, grid=args.grid, workers=args.workers,
            scheduler=args.scheduler, report_only=args.report_only, progress=tell,
        )  # fmt: skip


def text(result: Any) -> str:
    """The report's tables."""
    return str(result)
