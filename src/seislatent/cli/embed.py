"""Features of an archive, in windows, to a store that search and NumPy read.

SOURCE is a file, a folder, an SDS tree or a record store, at any rates and lengths. Traces of a sensor are put together to Z, N
and E (a missing component is zero), filtered, resampled to the system's rate and cut into windows of its length. Windows of files
begin at whole multiples of the hop since 1970; those of records with the record. A window with fewer recorded samples than
--least-valid is left out and counted.

OUT holds features.npy (float32, a row per window), windows.parquet (where each row comes from) and features.json (how it was made):
numpy.load("OUT/features.npy", mmap_mode="r"), pandas.read_parquet("OUT/windows.parquet"). An interrupted command goes on where it
stopped when it is given again; the bits do not depend on the number of workers.
"""

from __future__ import annotations

import argparse
from typing import Any


def arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the verb."""
    parser.add_argument("source", metavar="SOURCE", help="file, folder, SDS tree or store; several are separated by commas")
    parser.add_argument("--system", required=True, metavar="MODEL", help="preset or .safetensors file with features")
    parser.add_argument("--out", required=True, metavar="FEATURES", help="folder of the store to make")
    parser.add_argument("--hop", type=float, metavar="S", help="from one window to the next, in s (default: half a window)")
    told = "length of a window in s, where the system does not say (default: 27)"
    parser.add_argument("--length", type=float, metavar="S", help=told)
    parser.add_argument("--highpass", type=float, default=0.0, metavar="HZ", help="corner of a high pass, in Hz (default: none)")
    told = "root mean square of each map over N equal parts of the window, instead of all features: fewer numbers"
    parser.add_argument("--pool", type=int, metavar="N", help=told)
    told = "least share of recorded samples of a window, in its best component (default: 0.5)"
    parser.add_argument("--least-valid", type=float, default=0.5, metavar="SHARE", help=told)
    parser.add_argument("--workers", type=int, default=1, metavar="N", help="processes (default: 1)")
    parser.add_argument("--scheduler", metavar="ADDRESS", help="Dask scheduler whose workers see the same files; it is trusted")
    parser.add_argument("--device", default="cpu", help="where the system runs, such as cuda (default: cpu)")
    parser.add_argument("--append", action="store_true", help="add to a finished store that was made alike")
    parser.add_argument("--overwrite", action="store_true", help="make the store afresh, whatever features are there")


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Calls `bulk.embed.embed`."""
    import os
    from pathlib import Path

    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):  # read when NumPy is imported, below
        os.environ.setdefault(name, "1")

    from seislatent import catalog
    from seislatent.bulk.embed import embed
    from seislatent.cli.progress import Bar

    source = args.source if Path(args.source).exists() else args.source.split(",")
    model = catalog.load(args.system)
    with Bar("records") as progress:
        store = embed(
            model, source, args.out, hop_s=args.hop, length_s=args.length, highpass_hz=args.highpass, pool=args.pool,
            least_valid=args.least_valid, workers=args.workers, scheduler=args.scheduler, device=args.device, append=args.append,
            overwrite=args.overwrite, weights=args.system, progress=progress,
        )  # fmt: skip
    last = store.about["runs"][-1]
    return {
        "features": args.out, "windows": len(store), "numbers": store.array.shape[1], "bytes": store.array.nbytes,
        "system": store.about["system"], "digest": store.about["digest"], **store.about["cut"],
        "records": last["records"], "left_out": last["left_out"],
    }  # fmt: skip


def text(result: dict[str, Any]) -> str:
    """What the store holds, and what was left out."""
    window = (
        f"{result['samples'] / result['sampling_rate_hz']:g} s every {result['hop_s']:g} s at {result['sampling_rate_hz']:g} Hz"
    )
    lines = [
        f"{result['features']}: {result['windows']:,} windows of {window}, {result['numbers']:,} numbers each"
        f" ({result['bytes'] / 1e6:,.1f} MB)",
        f"made with {result['system']}, weights {result['digest']}; the last run took {result['records']:,} records",
    ]
    return "\n".join([*lines, *(f"left out: {count:,} {why}" for why, count in result["left_out"].items())])
