"""Events and waveforms from data centres into a folder that `seislatent prepare` takes as it is.

    query --event service--> catalog.xml      --station service--> .plan/EVENT.json (windows)
      --dataselect--> waveforms/EVENT/NET.STA.LOC.CHA.mseed      --station service--> stations.xml (with responses)

Each answer is written down in manifest.jsonl when it is on the disk: a download that was ended in the middle asks only for what
is missing when it is given again. docs/decisions/0009-download.md tells why this is a loop of ours.
"""

from __future__ import annotations

import json
import logging
import shutil
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from seislatent import config
from seislatent.data.download_fetch import RESPONSES, Fetch, Row, asked, path_of, requests, rows_of
from seislatent.data.download_plan import event_folder, kept_plan, plan_event
from seislatent.errors import SeislatentError
from seislatent.io.catalogues import read_events, write_events
from seislatent.io.event_fields import event_table
from seislatent.io.fdsn import Service
from seislatent.io.fdsn_answers import join_stations
from seislatent.io.fdsn_manifest import NAME, Manifest, key_of, last_rows, put_file, read_manifest
from seislatent.io.fdsn_queries import Query, box_events, find_target

log = logging.getLogger(__name__)

ABOUT, PLAN = "download.json", ".plan"
LIMITS = ("most_events", "most_mb")
"""Keys of a query that do not change what is asked for."""


@dataclass
class Told:
    """What a download found, asked and got."""

    events: int = 0
    targets: dict[str, str] = field(default_factory=dict)
    """Each earthquake of a list, and in a line what was found."""
    stations: int = 0
    channels: int = 0
    estimated_mb: float = 0.0
    there: int = 0
    """Channels that an earlier run had settled."""
    counts: dict[str, int] = field(default_factory=dict)
    """Windows by what came of them, over all runs."""
    responses: dict[str, int] = field(default_factory=dict)
    """Stations by what came of their responses."""
    received_mb: float = 0.0
    requests: int = 0
    notes: list[str] = field(default_factory=list)


class Download:
    """A query at work in its folder.

    Args:
        query: what is wanted.
        service: stations and waveforms.
        out: the folder.
        events: an event service, or a catalogue file; None asks `service`.
        limit: only the first so many events.
        ask_again: also for what the service had nothing for.
        dry: ask for events and channels only, and write nothing.
        progress: told how many channels of how many are settled.
        say: told in lines what is about to be done.

    Raises:
        SeislatentError: the folder holds something else, or another query.
    """

    def __init__(
        self, query: Query, service: Service, out: str | Path, *, events: Service | Path | None = None, limit: int | None = None,
        ask_again: bool = False, dry: bool = False, progress: Callable[[int, int], None] | None = None,
        say: Callable[[str], None] = log.info,
    ) -> None:  # fmt: skip
        self.query, self.service, self.out, self.limit, self.dry = query, service, Path(out), limit, dry
        self.source, self.ask_again = service if events is None else events, ask_again
        self._same = False
        self.progress, self.say, self.told = progress or (lambda done, total: None), say, Told()
        self.about = {
            "format": "seislatent download 1", "service": service.url,
            "events": str(self.source.resolve()) if isinstance(self.source, Path) else self.source.url,
            "query": {key: value for key, value in config.plain(query).items() if key not in LIMITS},
        }  # fmt: skip
        self._claim()

    def _claim(self) -> None:
        path = self.out / ABOUT
        if path.is_file():
            try:
                there = json.loads(path.read_text("utf-8"))
            except ValueError:
                there = None
            self._same = there == json.loads(json.dumps(self.about))
            if not self._same and last_rows(self.out):
                raise SeislatentError(f"{self.out} holds the download of another query or service ({ABOUT}): give another folder")
            if not self._same and not self.dry:  # nothing has been asked for yet but the plan
                shutil.rmtree(self.out / PLAN, ignore_errors=True)
        elif self.out.exists() and (not self.out.is_dir() or any(self.out.iterdir())):
            raise SeislatentError(f"{self.out} is there already and holds no download: give another folder with --out")
        if not self.dry:
            put_file(path, json.dumps(self.about, indent=2).encode())
            self._same = True

    def run(self) -> Told:
        """All of it.

        Raises:
            GaveUp: the service does not answer any more; what has arrived is kept.
            SeislatentError: too much was asked for, or the disk takes no more.
        """
        try:
            with nullcontext(None) if self.dry else Manifest(self.out / NAME) as manifest:
                self._earlier = last_rows(self.out)
                if manifest is not None:
                    self.manifest = manifest
                    for left in self.out.rglob(".*.part"):  # of a run that was killed
                        left.unlink()
                events = self._events()
                windows = self._windows(events)
                todo = self._announce(events, windows)
                if not self.dry:
                    self._fetch(todo, windows)
        except OSError as error:
            raise SeislatentError(
                f"{error.filename or self.out} cannot be written ({error.strerror or error}): make room or mend it and run again;"
                " nothing half-written is left"
            ) from error
        finally:
            self.told.requests = self.service.requests
            if isinstance(self.source, Service) and self.source is not self.service:
                self.told.requests += self.source.requests
        return self.told

    # events -----------------------------------------------------------------------------------------------------------------

    def _kept(self, name: str) -> Any:
        path = self.out / PLAN / f"{name}.json"
        try:
            return json.loads(path.read_text("utf-8")) if self._same and path.is_file() else None
        except ValueError:
            return None

    def _keep(self, name: str, value: Any) -> None:
        if not self.dry:
            put_file(self.out / PLAN / f"{name}.json", json.dumps(value).encode())

    def _events(self) -> pd.DataFrame:
        """The events, asked for once; those of targets one by one."""
        if self.query.targets:
            table = self._targets()
        else:
            kept = self._kept("events")
            if kept is None:
                table, bad = self._file_events() if isinstance(self.source, Path) else box_events(self.query, self.source)
                self._note(bad)
                self._keep("events", table.to_dict("records"))
            else:
                table = _event_rows(kept)
            table = table.head(self.limit) if self.limit else table
        if not len(table):
            raise SeislatentError("no such event is known there: nothing to download; widen the query, or ask another --events")
        if not self.dry:
            write_events(self.out / "catalog.xml", table, overwrite=True)
        self.told.events = len(table)
        return table

    def _file_events(self) -> tuple[pd.DataFrame, list[str]]:
        """Every event of a catalogue file: whoever brings one has chosen already."""
        path = Path(str(self.source))
        found = read_events(path)
        if len(found.table) > self.query.most_events:
            raise SeislatentError(f"{path} has {len(found.table)} events, more than --query.most_events {self.query.most_events}")
        return found.table.sort_values("origin_ns", kind="stable", ignore_index=True), list(found.bad)

    def _targets(self) -> pd.DataFrame:
        if isinstance(self.source, Path):
            raise SeislatentError(f"this query finds its events at a service: --events {self.source} is a file")
        kept, rows = self._kept("targets") or {}, []
        for target in self.query.targets[: self.limit or None]:
            if target.name not in kept:
                table, line = find_target(self.query, target, self.source)
                kept[target.name] = {"line": line, "rows": table.to_dict("records")}
                if len(table):  # what is not found is asked for again
                    self._keep("targets", {name: one for name, one in kept.items() if one["rows"]})
            self.told.targets[target.name] = kept[target.name]["line"]
            rows += kept[target.name]["rows"]
        return _event_rows(rows).drop_duplicates("source_id", ignore_index=True)

    # windows ----------------------------------------------------------------------------------------------------------------

    def _windows(self, events: pd.DataFrame) -> pd.DataFrame:
        """One row per channel and event: the columns of a plan, and `event`, the folder's name."""
        parts = []
        for _, event in events.iterrows():
            name = event_folder(event)
            kept = self._kept(name)
            if kept is None:
                table, bad = plan_event(self.query, event, self.service)
                self._note(bad)
                self._keep(name, table.to_dict("records"))
            else:
                try:
                    table = kept_plan(kept)
                except (ValueError, TypeError, KeyError) as error:
                    where = self.out / PLAN / f"{name}.json"
                    raise SeislatentError(f"{where} is no plan ({error}): delete it, and the service is asked again") from None
            if not len(table):
                self._note([f"{name}: the service knows no such channel within these distances"])
            parts.append(table.assign(event=name))
        parts = [part for part in parts if len(part)]
        if not parts:
            raise SeislatentError("no channel of the service fits the query: widen --query.distance_deg or --query.channels")
        return pd.concat(parts, ignore_index=True)

    def _announce(self, events: pd.DataFrame, windows: pd.DataFrame) -> pd.DataFrame:
        """Say what is asked for; returns the windows that are missing. Raises SeislatentError where it is too much."""
        told, missing = self.told, [not self._settled(row) for row in rows_of(windows)]
        todo = windows[missing].reset_index(drop=True)
        told.channels, told.there = len(windows), len(windows) - len(todo)
        told.stations = len(windows[["network", "station"]].drop_duplicates())
        told.estimated_mb = round(float(todo["bytes"].sum()) / 1e6, 1)
        for name, line in told.targets.items():
            self.say(f"{name}: {line}")
        manners = self.service.manners
        count = sum(1 for _ in requests(manners, todo))
        self.say(
            f"{len(events)} events, {told.stations} stations, {told.channels} channel windows; {told.there} are there, {len(todo)}"
            f" to get: about {told.estimated_mb:g} MB from {self.service.url} in about {count} requests,"
            f" at most {manners.requests_per_second:g} a second, {manners.concurrent} at once (limit: {self.query.most_mb:g} MB)"
        )
        if told.estimated_mb > self.query.most_mb:
            raise SeislatentError(f"about {told.estimated_mb:g} MB are more than --query.most_mb {self.query.most_mb:g}: narrow the"
                                  " query, take fewer events with --limit, or raise it")  # fmt: skip
        if not self.dry and (free := shutil.disk_usage(self.out).free) < told.estimated_mb * 1.2e6:
            raise SeislatentError(f"{self.out} has room for {free / 1e6:.0f} MB, and about {told.estimated_mb:g} MB are asked for")
        return todo

    def _settled(self, row: Row) -> bool:
        """Whether an earlier run got this window, or learnt that there is nothing."""
        last = self._earlier.get(key_of(asked(row)), {})
        if last.get("status") == "ok":
            path = path_of(self.out, row)
            return path.is_file() and path.stat().st_size == last.get("bytes")
        return last.get("status") == "no data" and not self.ask_again

    def _fetch(self, todo: pd.DataFrame, windows: pd.DataFrame) -> None:
        fetch = Fetch(self.service, self.out, self.manifest, self._note)
        try:
            fetch.waveforms(todo, lambda done: self.progress(self.told.there + done, self.told.channels))
            fetch.responses(windows)
        finally:
            self.told.received_mb = round(fetch.received / 1e6, 3)
        self._finish()

    # end --------------------------------------------------------------------------------------------------------------------

    def _finish(self) -> None:
        """stations.xml of all parts, the manifest as a table, and the counts."""
        parts = sorted((self.out / RESPONSES).glob("*.stationxml"))
        if parts:
            put_file(self.out / "stations.xml", lambda beside: join_stations(parts, beside))
        table = read_manifest(self.out)
        put_file(self.out / "manifest.csv", lambda beside: table.to_csv(beside, index=False))
        self.told.counts = dict(Counter(table.loc[table["what"] == "waveforms", "status"]))
        if self.told.counts.get("failed") and not self.told.counts.get("ok"):
            why = table.loc[table["status"] == "failed", "detail"].iloc[-1]
            raise SeislatentError(f"no window has come; the last that failed: {why}; give the same command again later")
        self.told.responses = dict(Counter(table.loc[table["what"] == "responses", "status"]))

    def _note(self, lines: Sequence[str]) -> None:
        self.told.notes += [line for line in lines if len(self.told.notes) < 1000]


def _event_rows(rows: list[dict[str, Any]]) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=event_table([]).columns).astype(event_table([]).dtypes.to_dict())

