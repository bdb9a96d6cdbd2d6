"""Pick P and S in streams and records: files, folders, SDS archives, stores.

Any rate from 20 to 500 Hz and beyond, any length, one to three components (Z N E, or Z 1 2), gaps. The ending of PICKS tells the
format: .xml QuakeML, .csv (columns that PyOcto and GaMMA read), .json, .obs NLLOC_OBS, .sc3ml SeisComP. Each pick has its full
waveform id, the mode automatic, an uncertainty in s as the picker was calibrated, and a method id with the digest of the weights.

An interrupted command goes on where it stopped when it is given again; the result is the same whatever the number of workers.
"""

from __future__ import annotations

import argparse
from typing import Any

SYSTEM = "features/picker"
SHOWN = 10


def arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the verb."""
    parser.add_argument("source", metavar="DATA", help="waveform file, folder of them, SDS archive, store or record set")
    parser.add_argument("--out", metavar="PICKS", help="file to write: .xml, .csv, .json, .obs, .sc3ml (default: only counted)")
    parser.add_argument("--format", metavar="NAME", help="quakeml, csv, json, nlloc_obs or sc3ml, whatever the ending")
    parser.add_argument("--system", default=SYSTEM, metavar="MODEL", help=f"preset or .safetensors file (default: {SYSTEM})")
    told = "probability, 0 to 1, from which on a peak is a pick (default: as calibrated)"
    parser.add_argument("--p-threshold", type=float, metavar="P", help=told)
    parser.add_argument("--s-threshold", type=float, metavar="P", help="the same of S")
    parser.add_argument("--distance", type=float, default=1.0, metavar="S", help="s between two picks of a phase (default: 1)")
    parser.add_argument("--overlap", type=float, metavar="N", help="of windows, in samples or as a share below 1")
    parser.add_argument("--blinding", type=int, metavar="N", help="samples at both ends of a window that do not count")
    parser.add_argument("--stacking", choices=("max", "avg"), default="max", help="where windows overlap (default: max)")
    parser.add_argument("--batch-size", type=int, metavar="N", help="windows at once")
    told = "band codes, first choice first, of which each station's first is picked, such as HH,BH,* (default: every sensor)"
    parser.add_argument("--instruments", default="", metavar="A,B", help=told)
    parser.add_argument("--strict", action="store_true", help="leave out what does not have all three components")
    parser.add_argument("--rigid", action="store_true", help="components 1 and 2 do not stand for N and E")
    parser.add_argument("--workers", type=int, default=1, metavar="N", help="processes (default: 1)")
    parser.add_argument("--scheduler", metavar="ADDRESS", help="Dask scheduler whose workers see the same files; it is trusted")
    parser.add_argument("--overwrite", action="store_true", help="replace PICKS, and parts of another run")


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Calls `bulk.pick.pick` and `io.pick_files.write_picks`."""
    import os
    import shutil
    import sys
    from pathlib import Path

    if args.workers > 1 or args.scheduler:
        for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):  # processes share the work
            os.environ.setdefault(name, "1")

    from seislatent import catalog
    from seislatent.bulk.pick import PickSettings, pick
    from seislatent.cli.progress import Bar
    from seislatent.errors import SeislatentError
    from seislatent.io import pick_files

    settings = PickSettings(
        thresholds={k: v for k, v in (("P", args.p_threshold), ("S", args.s_threshold)) if v is not None},
        distance_s=args.distance, overlap=args.overlap, blinding=args.blinding, stacking=args.stacking, batch_size=args.batch_size,
        flexible=not args.rigid, strict=args.strict, instruments=tuple(i for i in args.instruments.split(",") if i),
    )  # fmt: skip
    parts = None
    if args.out is not None:
        pick_files.format_of(args.out, args.format)
        out = Path(args.out)
        if out.exists() and not args.overwrite:
            raise SeislatentError(f"{out} exists: give another name, or --overwrite")
        if not out.parent.is_dir():
            raise SeislatentError(f"{out.parent} is no folder: make it first")
        parts = out.with_name(f"{out.name}.parts")
    source = args.source if Path(args.source).exists() else args.source.split(",")
    with Bar("parts") as progress:
        found = pick(
            catalog.load(args.system), source, settings, parts=parts, overwrite=args.overwrite, workers=args.workers,
            scheduler=args.scheduler, progress=progress,
        )  # fmt: skip
    table = found.table
    if args.out is not None and parts is not None:
        about = found.about | {"command": f"seislatent pick {args.source} --system {args.system}"}
        pick_files.write_picks(args.out, table, about, args.format, args.overwrite)
        shutil.rmtree(parts, ignore_errors=True)
    for line in found.notes[:SHOWN] if not args.json else ():
        print(f"seislatent: {line}", file=sys.stderr)
    counts = {str(phase): int(n) for phase, n in table["phase"].value_counts().sort_index().items()}
    stations = len(table[["network", "station"]].drop_duplicates())
    told = {"file": args.out, "picks": counts, "stations": stations, "sensor_hours": round(found.hours, 4), **found.about}
    return told | {"notes": found.notes}


def text(result: dict[str, Any]) -> str:
    """How many of each phase, and where they are."""
    counts = ", ".join(f"{count} {phase}" for phase, count in result["picks"].items()) or "no picks"
    more = f"; {len(result['notes'])} remarks, {SHOWN} shown" if len(result["notes"]) > SHOWN else ""
    where = f" -> {result['file']}" if result["file"] else ""
    hours = f"{result['sensor_hours']:.3g} h of records"
    return f"{counts} at {result['stations']} stations in {hours} by {result['method']}{where}{more}"
