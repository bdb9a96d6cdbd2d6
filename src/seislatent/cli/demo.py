"""Compress a real record and bring it back: offline, in under a minute.

Encodes a record that ships with ObsPy at levels 1 to 8 (10 to 80 bit/s), writes the code file, decodes it, and writes what came
back as a table, a figure (PNG) and a self-contained report.html.
"""

from __future__ import annotations

import argparse
from typing import Any


def arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the verb."""
    parser.add_argument("--out", default="seislatent-demo", metavar="DIR", help="folder to write (default: seislatent-demo)")
    parser.add_argument("--overwrite", action="store_true", help="replace what an earlier demo left there")


def run(args: argparse.Namespace) -> Any:
    """Calls `evaluate.demo.demo`."""
    from seislatent import catalog
    from seislatent.evaluate import demo

    return demo.demo(args.out, catalog.load, overwrite=args.overwrite)


def text(result: Any) -> str:
    """The table, and where the report is."""
    return str(result)
