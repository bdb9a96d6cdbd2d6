"""Decode a code file (.slat) into miniSEED, with the ids, times, rates and gaps of what was encoded.

The model is the one that the file names. A damaged chunk becomes a gap, and the result tells its time span.
"""

from __future__ import annotations

import argparse
from dataclasses import asdict
from typing import Any

from seislatent.cli import info
from seislatent.errors import SeislatentError


def arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the verb."""
    parser.add_argument("source", metavar="IN", help="code file")
    parser.add_argument("target", metavar="OUT", help="miniSEED file to write, such as back.mseed")
    parser.add_argument("--level", type=int, metavar="N", help="codebooks to use, at most those in the file (default: all of them)")
    parser.add_argument("--system", metavar="MODEL", help=".safetensors file, where the file was made with weights of your own")
    parser.add_argument("--rename", action="append", default=[], metavar="OLD=NEW", help="new id NET.STA.LOC.CHA for one too long")
    parser.add_argument("--strict", action="store_true", help="refuse a damaged file instead of leaving gaps")
    parser.add_argument("--overwrite", action="store_true", help="replace OUT if it exists")


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Calls `stream.decode_file`."""
    from seislatent import catalog
    from seislatent.io.slat import Codes
    from seislatent.systems.codec import stream

    codes = Codes.read(args.source)
    model = None
    try:
        if any(entry.frames for entry in codes.traces):  # what is stored losslessly needs no model
            model = catalog.load(args.system or codes.head.codec)
    except SeislatentError as error:
        if args.system:
            raise
        needs = f"{args.source} was made with weights {codes.head.digest} of {codes.head.codec}"
        raise SeislatentError(f"{needs}: give them with --system FILE.safetensors ({error})") from None
    rename = dict(pair.partition("=")[::2] for pair in args.rename)
    done = stream.decode_file(model, codes, args.target, args.level, args.strict, args.overwrite, rename)
    return {**asdict(done), "damage": [str(d) for d in done.damage]}


def text(result: dict[str, Any]) -> str:
    """What was written, and what could not be."""
    return info.text(result)
