"""Classify records and streams: noise or earthquake, blast or earthquake, or labels of your own.

Records of a store, and stretches of streams up to 300 s, have one answer each; longer streams one for each window, in s. A label is
`unknown` where the record is like nothing that the model was calibrated on; the probability is then that of the nearest label.
"""

from __future__ import annotations

import argparse
from typing import Any

SYSTEM = "features/noise"
SHOWN = 20


def arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the verb."""
    parser.add_argument("source", metavar="DATA", help="waveform file, folder of them, SDS archive, store or record set")
    parser.add_argument("--system", default=SYSTEM, metavar="MODEL", help=f"preset or .safetensors file (default: {SYSTEM})")
    parser.add_argument("--out", metavar="TABLE", help="file to write: .csv or .json")
    parser.add_argument("--window", type=float, metavar="S", help="length of a window of a long stream in s (default: the model's)")
    parser.add_argument("--overlap", type=float, default=0.5, metavar="P", help="share of a window that the next has too")
    parser.add_argument(
        "--whole", type=float, default=300.0, metavar="S", help="stretches up to S s have one answer (default: 300)"
    )
    told = "band codes, first choice first, of which each station's first is taken, such as HH,BH,* (default: every sensor)"
    parser.add_argument("--instruments", default="", metavar="A,B", help=told)
    parser.add_argument("--strict", action="store_true", help="leave out what does not have all three components")
    parser.add_argument("--workers", type=int, default=1, metavar="N", help="processes (default: 1)")
    parser.add_argument("--scheduler", metavar="ADDRESS", help="Dask scheduler whose workers see the same files; it is trusted")
    parser.add_argument("--overwrite", action="store_true", help="replace TABLE, and parts of another run")


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Calls `bulk.classify.classify`."""
    import shutil
    import sys
    from pathlib import Path

    from seislatent import catalog
    from seislatent.bulk.classify import ClassifySettings, classify
    from seislatent.cli.progress import Bar
    from seislatent.errors import SeislatentError

    parts = None
    if args.out is not None:
        out = Path(args.out)
        if out.suffix.lower() not in (".csv", ".json"):
            raise SeislatentError(f"{out}: give a name that ends in .csv or .json")
        if out.exists() and not args.overwrite:
            raise SeislatentError(f"{out} exists: give another name, or --overwrite")
        if not out.parent.is_dir():
            raise SeislatentError(f"{out.parent} is no folder: make it first")
        parts = out.with_name(f"{out.name}.parts")
    settings = ClassifySettings(
        window_s=args.window, overlap=args.overlap, whole_s=args.whole, strict=args.strict,
        instruments=tuple(i for i in args.instruments.split(",") if i),
    )  # fmt: skip
    source = args.source if Path(args.source).exists() else args.source.split(",")
    model = catalog.load(args.system)
    with Bar("parts") as progress:
        found = classify(
            model, source, settings, parts=parts, overwrite=args.overwrite, workers=args.workers, scheduler=args.scheduler,
            progress=progress,
        )  # fmt: skip
    for line in found.notes[:SHOWN] if not args.json else ():
        print(f"seislatent: {line}", file=sys.stderr)
    rows = [record(answer) for answer in found.answers]
    result = {"records": rows, "system": model.name, "digest": model.digest, "notes": found.notes}
    if args.out is not None and parts is not None:
        _write(Path(args.out), result, args.overwrite)
        shutil.rmtree(parts, ignore_errors=True)
        result["file"] = args.out
    return result


def record(answer: Any) -> dict[str, Any]:
    """An answer as JSON has it."""
    from seislatent.io.event_fields import iso

    return {
        "id": answer.id, "start": iso(answer.start_ns), "end": iso(answer.end_ns), "label": answer.label,
        "probability": round(answer.probability, 6),
        "probabilities": {label: round(p, 6) for label, p in answer.probabilities.items()},
    }  # fmt: skip


def _write(out: Any, result: dict[str, Any], overwrite: bool) -> None:
    """The table, complete or not there."""
    import csv
    import json

    from seislatent.io.event_fields import put

    def fill(beside: Any) -> None:
        with beside.open("w", encoding="utf-8", newline="") as file:
            if out.suffix.lower() == ".json":
                json.dump(result, file, indent=1)
                return
            rows = result["records"]
            labels = list(rows[0]["probabilities"])
            table = csv.writer(file, lineterminator="\n")
            table.writerow(["id", "start", "end", "label", "probability", *labels])
            for row in rows:
                table.writerow([*(row[k] for k in ("id", "start", "end", "label", "probability")), *row["probabilities"].values()])

    put(out, fill, overwrite)


def text(result: dict[str, Any]) -> str:
    """A table of the first records, and how many there are of each label."""
    from collections import Counter

    from seislatent.cli.list import columns

    rows = result["records"]
    shown = [["ID", "START", "LABEL", "PROBABILITY"]]
    shown += [[str(row["id"]), row["start"], row["label"], f"{row['probability']:.3f}"] for row in rows[:SHOWN]]
    counts = ", ".join(f"{n} {label}" for label, n in Counter(row["label"] for row in rows).most_common())
    more = [f"... {len(rows) - SHOWN} more (--out TABLE.csv, --json)"] if len(rows) > SHOWN else []
    where = [f"-> {result['file']}"] if "file" in result else []
    return "\n".join([columns(shown), *more, counts, *where])
