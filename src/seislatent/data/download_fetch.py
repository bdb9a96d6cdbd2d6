"""The two parts of a download that take long: windows of waveforms, and the responses of the stations they came from.

    windows --requests of one event--> miniSEED --checked, by channel--> a file each

A request that is too large for the service, or answered with something damaged, is made again in halves.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any

import pandas as pd

from seislatent.io.event_fields import iso
from seislatent.io.fdsn import Fault, Line, Manners, Service
from seislatent.io.fdsn_answers import Id, covered, records_by_id, station_parts
from seislatent.io.fdsn_manifest import Manifest, key_of, put_file

RESPONSES = ".responses"
"""Folder of a StationXML file per station; readers of archives pass over it."""
SHORTEST_NS = 10 * 10**9
"""A window that is refused as too large is not cut into less than this."""
STATIONS_AT_ONCE = 20
"""In one request for responses."""
HALVED = frozenset({"too large", "damaged", "cut off"})
"""Reasons for which a request for several is made again in halves, so that only the one that is at fault is lost."""

WHOLE = 0.98
"""A window of which less has come is told so in the manifest."""

Row = dict[str, Any]
"""A window: the columns of a plan, and `event`, the folder's name."""


def rows_of(table: pd.DataFrame) -> list[Row]:
    """The rows of a table."""
    return [{str(k): v for k, v in row.items()} for row in table.to_dict("records")]


def id_of(row: Row) -> Id:
    """Network, station, location and channel."""
    return row["network"], row["station"], row["location"], row["channel"]


def asked(row: Row) -> Row:
    """What a window's row in the manifest begins with."""
    codes = {key: row[key] for key in ("network", "station", "location", "channel")}
    return {"what": "waveforms", "event": row["event"], **codes, "start": iso(row["start_ns"]), "end": iso(row["end_ns"])}


def path_of(out: Path, row: Row) -> Path:
    """The file of a window; its codes were checked when the plan was made or read."""
    return out / "waveforms" / row["event"] / f"{'.'.join(id_of(row))}.mseed"


def requests(manners: Manners, windows: pd.DataFrame) -> Iterator[list[Row]]:
    """Windows of one event at a time, up to so many channels and bytes."""
    for _, part in windows.groupby("event", sort=False):
        some: list[Row] = []
        size = 0
        for row in rows_of(part):
            if some and (len(some) >= manners.request_channels or size + row["bytes"] > manners.request_mb * 1e6):
                yield some
                some, size = [], 0
            some.append(row)
            size += row["bytes"]
        if some:
            yield some


class Fetch:
    """Asks, writes, and notes in the manifest.

    Args:
        service: the data centre.
        out: the folder.
        manifest: open.
        note: takes lines about what went wrong.
    """

    def __init__(self, service: Service, out: Path, manifest: Manifest, note: Callable[[Sequence[str]], None]) -> None:
        self.service, self.out, self.manifest, self.note = service, out, manifest, note
        self.received = self.done = 0

    def waveforms(self, todo: pd.DataFrame, tell: Callable[[int], None]) -> None:
        """Windows, the halves of a failed request after all that are waiting; `tell` learns how many are settled.

        Raises:
            GaveUp: the service does not answer any more.
            OSError: the disk takes no more.
        """
        waiting, running = deque(requests(self.service.manners, todo)), set[Future[Any]]()
        tell(0)
        pool = ThreadPoolExecutor(self.service.manners.concurrent, thread_name_prefix="download")
        try:
            while waiting or running:
                while waiting and len(running) < self.service.manners.concurrent:
                    running.add(pool.submit(self._fetch, waiting.popleft()))
                ended, running = wait(running, return_when=FIRST_COMPLETED)
                for one in ended:
                    halves = one.result()
                    waiting.extend(halves)
                tell(self.done)
        except BaseException:
            self.service.pace.stop("stopped")
            raise
        finally:
            pool.shutdown(wait=True, cancel_futures=True)

    def _fetch(self, rows: list[Row]) -> list[list[Row]]:
        """Ask for some windows of one event and write what comes; returns the halves of a request that must be cut."""
        windows = {id_of(row): (row["start_ns"], row["end_ns"]) for row in rows}
        try:
            lines = [(*key, *window) for key, window in windows.items()]
            found, left_out = self.service.waveforms(lines, lambda body: records_by_id(body, windows))
        except Fault as fault:
            if fault.reason in HALVED and len(rows) > 1:
                return [rows[: len(rows) // 2], rows[len(rows) // 2 :]]
            if fault.reason == "too large" and (both := self._in_halves(rows[0])) is not None:
                found, left_out = both
            else:
                self._write_off(rows, fault)
                return []
        self.note(left_out)
        for row in rows:
            self._write(row, found.get(id_of(row)))
        return []

    def _in_halves(self, row: Row) -> tuple[dict[Id, bytes], list[str]] | None:
        """One window as two, each asked for by itself, and again in halves where it must be; None where that does not help."""
        start, end = row["start_ns"], row["end_ns"]
        if end - start < 2 * SHORTEST_NS:
            return None
        middle, records, told = (start + end) // 2, [], []
        key = id_of(row)
        for a, b in ((start, middle), (middle, end)):
            span = {key: (a, b)}
            try:
                found, left_out = self.service.waveforms([(*key, a, b)], lambda body, span=span: records_by_id(body, span))  # type: ignore[misc]
            except Fault as fault:
                if fault.reason == "no data":
                    continue
                both = self._in_halves({**row, "start_ns": a, "end_ns": b}) if fault.reason == "too large" else None
                if both is None:
                    return None
                found, left_out = both
            told += left_out
            records.append(found.get(key, b""))
        joined, more = records_by_id(b"".join(records), {key: (start, end)})  # a record that both halves sent stands once
        return joined, told + more

    def _write(self, row: Row, raw: bytes | None) -> None:
        done: dict[str, Any] = {"status": "no data"}
        if raw is not None:
            path = path_of(self.out, row)
            done = {"status": "ok", **put_file(path, raw), "file": path.relative_to(self.out).as_posix()}
            window = row["start_ns"], row["end_ns"]
            seconds, whole = covered(raw, window), (window[1] - window[0]) / 1e9
            if seconds < WHOLE * whole:
                done["detail"] = f"holds {seconds:.0f} of {whole:.0f} s"
        self._settle(row, done)

    def _write_off(self, rows: Sequence[Row], fault: Fault) -> None:
        none = fault.reason == "no data"
        for row in rows:
            self._settle(row, {"status": "no data"} if none else {"status": "failed", "detail": str(fault)[:300]})
        if not none:
            self.note([f"{len(rows)} channels of {rows[0]['event']} failed: {fault}"])

    def _settle(self, row: Row, done: dict[str, Any]) -> None:
        self.manifest.add(**asked(row), **done, service=self.service.url)
        self.received += done.get("bytes", 0)
        self.done += 1

    def responses(self, windows: pd.DataFrame) -> None:
        """StationXML of every station of which a waveform has come, a part for each. Raises as `waveforms`."""
        got = {key for key, row in self.manifest.rows.items() if row.get("what") == "waveforms" and row.get("status") == "ok"}
        have = windows[[key_of(asked(row)) in got for row in rows_of(windows)]]
        todo = []
        for (network, station), part in have.groupby(["network", "station"], sort=True):  # type: ignore[misc]
            key = str(network), str(station)
            span = {"start": iso(int(part["start_ns"].min())), "end": iso(int(part["end_ns"].max()))}
            codes = ",".join(sorted(set(part["location"] + "." + part["channel"])))
            about = {"what": "responses", "network": key[0], "station": key[1], "channel": codes, **span}
            last = self.manifest.last(**about)
            same = last.get("channel") == codes and str(last.get("start")) <= span["start"] and span["end"] <= str(last.get("end"))
            if last.get("status") == "ok" and same and self._part(key).is_file():
                continue
            spans: dict[Id, tuple[int, int]] = {}
            for row in rows_of(part):
                first, last_ns = spans.get(id_of(row), (row["start_ns"], row["end_ns"]))
                spans[id_of(row)] = min(first, row["start_ns"]), max(last_ns, row["end_ns"])
            lines: list[Line] = [(*codes_of, *ends) for codes_of, ends in spans.items()]
            todo.append((key, about, lines))
        waiting = deque(todo[i : i + STATIONS_AT_ONCE] for i in range(0, len(todo), STATIONS_AT_ONCE))
        while waiting:
            waiting.extend(self._fetch_responses(waiting.popleft()))

    def _part(self, key: tuple[str, str]) -> Path:
        return self.out / RESPONSES / f"{'.'.join(key)}.stationxml"

    def _fetch_responses(self, some: list[Any]) -> list[list[Any]]:
        """The responses of some stations; returns the halves of a request that must be cut."""
        wanted = [key for key, _, _ in some]
        detail = "the service has no response of it"
        try:
            all_lines = [line for _, _, lines in some for line in lines]
            parts = self.service.responses(all_lines, lambda body: station_parts(body, wanted))
        except Fault as fault:
            if fault.reason in HALVED and len(some) > 1:
                return [some[: len(some) // 2], some[len(some) // 2 :]]
            parts, detail = {}, detail if fault.reason == "no data" else str(fault)[:300]
        for key, about, _ in some:
            done: dict[str, Any] = {"status": "failed", "detail": detail}
            if key in parts:
                path = self._part(key)
                done = {"status": "ok", **put_file(path, parts[key]), "file": path.relative_to(self.out).as_posix()}
            else:
                self.note([f"{'.'.join(key)}: {detail}"])
            self.manifest.add(**about, **done, service=self.service.url)
        return []
