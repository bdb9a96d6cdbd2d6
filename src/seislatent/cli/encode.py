"""Encode seismograms into a code file (.slat).

Reads any file that ObsPy reads, pickle excepted: any number of traces, components, rates (Hz) and gaps. What the model cannot serve
(text, rates below 10 Hz, fewer than 40 samples, values that are not finite) is stored losslessly in the same file. Content above
20 Hz is dropped, and the result says so.
"""

from __future__ import annotations

import argparse
from typing import Any

from seislatent.cli import info

SYSTEM = "codec/eqcodec_small"


def arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the verb."""
    parser.add_argument("source", metavar="IN", help="seismograms: miniSEED, SAC, GSE2, ...")
    parser.add_argument("target", metavar="OUT", help="code file to write, such as day.slat")
    parser.add_argument("--level", type=int, metavar="N", help="codebooks to keep, 1 to 8; about 10 bit/s each (default: all)")
    parser.add_argument("--system", default=SYSTEM, metavar="MODEL", help=f"preset or .safetensors file (default: {SYSTEM})")
    parser.add_argument("--inventory", metavar="FILE", help="StationXML: coordinates, azimuths and dips (degrees) to keep in OUT")
    parser.add_argument("--overwrite", action="store_true", help="replace OUT if it exists")


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Calls `stream.encode_file`."""
    from seislatent import catalog
    from seislatent.systems.codec import stream

    codes = stream.encode_file(
        catalog.load(args.system), args.source, args.target, args.level, overwrite=args.overwrite, inventory=args.inventory
    )
    return {"file": args.target, **codes.info()}


def text(result: dict[str, Any]) -> str:
    """What the file holds, costs and leaves out."""
    return info.text(result)
