"""Judge systems on records, beside each other and beside classical methods.

Writes report.json, figures and a self-contained report.html into the folder OUT. The question `compress` (or `reconstruct`, the
same) tells per level: bits_per_second and file_bits_per_second (bit/s), compression_ratio against 32-bit samples, mse and mae of
normalised records, and snr_db (dB), each as mean and standard deviation.
"""

from __future__ import annotations

import argparse
from typing import Any

QUESTIONS = ("compress", "reconstruct")


def arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the verb."""
    parser.add_argument("question", metavar="QUESTION", choices=QUESTIONS, help=" or ".join(QUESTIONS))
    parser.add_argument("--systems", required=True, metavar="A,B", help="presets or .safetensors files, separated by commas")
    parser.add_argument("--data", required=True, metavar="DIR", help="folder or file of records")
    parser.add_argument("--split", default="test", metavar="NAME", help="records of this split (default: test); all: every record")
    parser.add_argument("--out", required=True, metavar="OUT", help="folder to write")
    parser.add_argument("--overwrite", action="store_true", help="replace an earlier report in OUT")


def run(args: argparse.Namespace) -> Any:
    """Calls `evaluate.evaluate`."""
    from seislatent import catalog
    from seislatent.evaluate import evaluate

    models = [catalog.load(name) for name in args.systems.split(",")]
    return evaluate(args.question, models, args.data, args.split, args.out, overwrite=args.overwrite)


def text(result: Any) -> str:
    """The report's table."""
    return str(result)
