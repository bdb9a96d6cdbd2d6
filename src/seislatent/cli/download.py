"""Download earthquakes from a data centre (FDSN web services) into a folder that `seislatent prepare` takes.

QUERY is fdsn/deep_earthquakes (16 deep-focus earthquakes at teleseismic stations), fdsn/box (a magnitude and distance box), or a
YAML file of yours. Windows are cut around the P and S that iasp91 predicts. FOLDER then holds catalog.xml, stations.xml (with
responses), waveforms/EVENT/NET.STA.LOC.CHA.mseed, and manifest.jsonl and manifest.csv: what was asked and what came of it.

What is asked for, and about how much, is said before it begins; --dry-run ends there. An interrupted command goes on where it
stopped when it is given again, and asks only for what is missing. Keys of the query and of the manners towards the service are
options: --query.magnitude "[4, 7]", --service.requests_per_second 1; seislatent download QUERY --help tells them.

Restricted data: set SEISLATENT_FDSN_USER and SEISLATENT_FDSN_PASSWORD in the environment; they go to --from alone.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

KEYS = ("query", "service")


def arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the verb."""
    parser.add_argument("name", metavar="QUERY", help="fdsn/deep_earthquakes, fdsn/box, or a YAML file")
    parser.add_argument("--from", required=True, dest="centre", metavar="CENTRE",
                        help="data centre known to ObsPy (EARTHSCOPE, GEOFON, INGV ...) or base URL")  # fmt: skip
    events = "other event service (USGS, EMSC, ISC ...) or a catalogue file, whose events are all taken"
    parser.add_argument("--events", metavar="CENTRE_OR_FILE", help=events)
    parser.add_argument("--out", required=True, metavar="FOLDER", help="folder to fill")
    parser.add_argument("--limit", type=int, metavar="N", help="only the first N events, for a first try")
    parser.add_argument("--ask-again", action="store_true", help="ask again for windows of which the service had no data")
    parser.add_argument("--dry-run", action="store_true", help="tell what would be asked and how much; write nothing")


def epilog(words: Sequence[str]) -> str:
    """The queries by name; the keys of the one that is named among the words."""
    known = presets()
    named = next((w for w in words if w in known or w.endswith((".yaml", ".yml"))), None)
    if named is None:
        width = max(map(len, known), default=0)
        return "\n".join(["queries:", *(f"  {name:{width}}  {preset(name)['about']}" for name in known)])
    from seislatent import config
    from seislatent.io.fdsn import Manners
    from seislatent.io.fdsn_queries import Query

    lines = [f"{named}: {preset(named)['about']}", ""]
    given = preset(named)["query"]
    for prefix, rows in (("query", config.describe(Query)), ("service", config.describe(Manners))):
        for row in rows:
            if row.name != "targets":
                value = given.get(row.name, row.default) if prefix == "query" else row.default
                lines += [f"  --{prefix}.{row.name} {value}", f"      {row.help}"]
    return "\n".join(lines)


def presets() -> dict[str, Path]:
    """Every ready query's name and file."""
    from seislatent.shipped import PRESETS

    return {f"fdsn/{p.stem}": p for p in sorted(PRESETS.glob("fdsn/*.yaml"))}


def preset(name: str) -> dict[str, Any]:
    """`about` and `query` of a ready query or a YAML file."""
    from seislatent import config
    from seislatent.errors import SeislatentError, unknown

    known = presets()
    if name not in known and not name.endswith((".yaml", ".yml")):
        raise SeislatentError(unknown("query", name, known))
    found = config.read(known.get(name, name))
    for key in found.keys() - {"about", "query"}:
        raise SeislatentError(f"{name}: {unknown('key', str(key), ('about', 'query'))}")
    if not isinstance(found.get("query"), dict):
        raise SeislatentError(f"{name}: no keys stand under 'query': write which events and stations are wanted")
    return {"about": str(found.get("about", "")), "query": found["query"]}


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Calls `seislatent.data.download.Download`."""
    import sys
    from dataclasses import asdict

    from seislatent import config
    from seislatent.cli.progress import Bar
    from seislatent.data.download import Download
    from seislatent.errors import UsageError
    from seislatent.io.fdsn import Manners, Service
    from seislatent.io.fdsn_queries import Query

    keys: dict[str, dict[str, str]] = {key: {} for key in KEYS}
    for name, value in vars(args).items():
        key, _, rest = name.partition(".")
        if rest:
            keys[key][rest] = value
    if args.limit is not None and args.limit < 1:
        raise UsageError(f"--limit {args.limit}: give 1 or more events")
    query = config.load(Query, preset(args.name)["query"], keys["query"], option="--query.")
    manners = config.load(Manners, None, keys["service"], option="--service.")
    events: Service | Path | None = None
    if args.events is not None:
        events = Path(args.events) if Path(args.events).is_file() else Service(args.events, manners, secret=("", ""))
    with Bar("channels") as progress:
        work = Download(
            query, Service(args.centre, manners), args.out, events=events, limit=args.limit, ask_again=args.ask_again,
            dry=args.dry_run, progress=progress, say=lambda line: print(line, file=sys.stderr, flush=True),
        )  # fmt: skip
        told = work.run()
    return {"out": str(args.out), "dry_run": args.dry_run, **asdict(told)}


def text(result: dict[str, Any]) -> str:
    """What came of it."""
    lines = [f"{result['events']} events, {result['stations']} stations, {result['channels']} channel windows"]
    if result["dry_run"]:
        lines.append(f"not begun: about {result['estimated_mb']:g} MB would be asked for")
    else:
        counts = ", ".join(f"{n} {status}" for status, n in sorted(result["counts"].items(), reverse=True))
        lines.append(f"{counts}; {result['received_mb']:.1f} MB in {result['requests']} requests of this run")
        responses = result["responses"]
        lines.append(f"responses of {responses.get('ok', 0)} stations, {responses.get('failed', 0)} without")
        lines.append(f"next: seislatent prepare data/groups --data {result['out']} --out STORE")
    shown = result["notes"][:10]
    more = len(result["notes"]) - len(shown)
    return "\n".join([*lines, *(f"note: {line}" for line in shown), *([f"and {more} more notes"] if more else [])])
