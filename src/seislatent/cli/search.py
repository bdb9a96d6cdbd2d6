"""Find the windows of a store of features that are most like a record: times and distances.

The distance is 1 - cosine of the standardised features, from 0 (the same) to 2. Hits of one sensor nearer than half a window
count as one. What is looked for is the window that begins --like's record; of a longer record say --at which time (UTC), such as
that of an onset: then windows are taken around it, with the onset at 32 places from 0.1 to 0.6 of their length, and the nearest
counts. Give all components: a record of the vertical alone is like other such records.
"""

from __future__ import annotations

import argparse
from typing import Any


def arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the verb."""
    parser.add_argument("features", metavar="FEATURES", help="store of features, made by seislatent embed")
    parser.add_argument("--like", required=True, metavar="FILE", help="what to look for: seismograms; several files with commas")
    parser.add_argument("--at", metavar="TIME", help="its time in UTC, such as 2014-08-24T00:01:00.5")
    parser.add_argument("--station", metavar="NET.STA", help="station of FILE, where it holds several")
    parser.add_argument("--top", type=int, default=50, metavar="N", help="hits at most (default: 50)")
    told = "compare features standardised, whitened (principal axes at unit variance), or plain (default: standard)"
    parser.add_argument("--by", choices=("standard", "whitened", "plain"), default="standard", help=told)
    parser.add_argument("--system", metavar="MODEL", help="the weights that FEATURES was made with (default: where they were then)")
    parser.add_argument("--device", help="where the search runs (default: cuda where there is one, else cpu)")
    parser.add_argument("--out", metavar="CSV", help="also write the hits as a table")
    parser.add_argument("--overwrite", action="store_true", help="replace CSV if it exists")


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Calls `bulk.search.search`."""
    import os
    from pathlib import Path

    from seislatent import catalog
    from seislatent.bulk.feature_store import Features
    from seislatent.bulk.search import search
    from seislatent.errors import SeislatentError

    out = None if args.out is None else Path(args.out)
    if out is not None and out.exists() and not args.overwrite:
        raise SeislatentError(f"{out} exists: give another name, or --overwrite")
    store = Features(args.features)
    model = catalog.load(args.system or store.about.get("weights") or store.about.get("model", ""))
    like = args.like if Path(args.like).exists() else args.like.split(",")
    found = search(store, model, like, at=args.at, station=args.station, top=args.top, by=args.by, device=args.device)
    if out is not None:
        beside = out.with_name(f".{out.name}.part")
        found.to_csv(beside, index=False)
        os.replace(beside, out)
    hits = found.astype(object).where(found.notna(), None).to_dict("records")
    return {"features": args.features, "windows": len(store), "like": args.like, "at": args.at, "by": args.by, "hits": hits}


def text(result: dict[str, Any]) -> str:
    """The hits, a line each."""
    lines = [f"{len(result['hits'])} of {result['windows']:,} windows", "  rank  distance  time                         where"]
    for hit in result["hits"]:
        codes = (hit["station_network_code"], hit["station_code"], hit["station_location_code"], hit["trace_channel"])
        where = ".".join(code or "" for code in codes).strip(".") or hit["trace_name"]
        time = hit["time"] or f"{hit['trace_name']} + {hit['offset_s']:.2f} s"
        lines.append(f"{hit['rank']:6d}  {hit['distance']:8.4f}  {time:27}  {where}")
    return "\n".join(lines)
