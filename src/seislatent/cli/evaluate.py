"""Judge systems on records, beside each other and beside classical methods.

Writes report.json, figures and a self-contained report.html into the folder OUT. The question `compress` (or `reconstruct`, the
same) tells per level: bits_per_second and file_bits_per_second (bit/s), compression_ratio against 32-bit samples, mse and mae of
normalised records, and snr_db (dB), each as mean, standard deviation and 95 % interval by event.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

QUESTIONS = ("compress", "reconstruct")


def arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the verb."""
    parser.add_argument("question", metavar="QUESTION", choices=QUESTIONS, help=" or ".join(QUESTIONS))
    parser.add_argument("--systems", required=True, metavar="A,B", help="presets or .safetensors files, separated by commas")
    parser.add_argument("--data", required=True, metavar="DIR", help="folder or file of records; several are separated by commas")
    parser.add_argument("--split", default="test", metavar="NAME", help="train, dev or test, by event (default: test); or all")
    parser.add_argument("--level", type=int, metavar="N", help="the level of the question reconstruct (default: the highest)")
    parser.add_argument("--window", type=float, metavar="S", help="also judge windows of S seconds, each scaled by itself")
    parser.add_argument("--workers", type=int, default=1, metavar="N", help="processes of one thread each (default: 1)")
    parser.add_argument("--out", required=True, metavar="OUT", help="folder to write")
    parser.add_argument("--overwrite", action="store_true", help="replace an earlier report in OUT")


def run(args: argparse.Namespace) -> Any:
    """Calls `evaluate.evaluate`."""
    from seislatent import catalog
    from seislatent.evaluate import evaluate

    models = [catalog.load(name) for name in args.systems.split(",")]
    return evaluate(
        args.question,
        models,
        args.data if Path(args.data).exists() else args.data.split(","),
        args.split,
        args.out,
        level=args.level,
        window_s=args.window,
        workers=args.workers,
        overwrite=args.overwrite,
    )


def text(result: Any) -> str:
    """The report's table."""
    return str(result)
