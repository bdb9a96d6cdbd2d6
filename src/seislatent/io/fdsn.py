"""FDSN web services, asked politely: so many requests a second, tried again after a while, and never without an end.

    ask --Pace--> ObsPy's client --Watch: status, Retry-After, bytes, time--> body --check--> body, or a Fault with its reason

ObsPy's client builds the requests and reads the status; its errors do not carry Retry-After, and it reads a body of any length for
any time: a handler in its opener watches these. What the three services do: FDSN Web Service Specifications, version 1.2.
"""

from __future__ import annotations

import os
import threading
import time
import urllib.request
import warnings
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from http.client import HTTPException, IncompleteRead
from io import BytesIO
from typing import Any, TypeVar
from urllib.parse import urlsplit

from obspy import UTCDateTime
from obspy.clients.fdsn import Client
from obspy.clients.fdsn.header import URL_MAPPINGS, FDSNTimeoutException

from seislatent import __version__
from seislatent.errors import SeislatentError, UsageError, unknown
from seislatent.io.plugins import one_line

T = TypeVar("T")
USER, PASSWORD = "SEISLATENT_FDSN_USER", "SEISLATENT_FDSN_PASSWORD"
"""Environment variables with what a data centre asks for restricted data; they stand nowhere else."""

Line = tuple[str, str, str, str, int, int]
"""Network, station, location, channel, start and end in nanoseconds since 1970: a line of a request for several channels."""


@dataclass(frozen=True, kw_only=True)
class Manners:
    """How a service is treated."""

    requests_per_second: float = 2.0
    """At most, over all requests."""
    concurrent: int = 2
    """Requests for waveforms that run at once; most centres ask for no more than three to five."""
    timeout_s: float = 60.0
    """A service that says nothing for so long is given up, in seconds."""
    longest_s: float = 900.0
    """So is an answer that takes longer than this, in seconds."""
    attempts: int = 4
    """How often a request is made that is not answered, cut off, damaged or put off (429, 5xx)."""
    backoff_s: float = 5.0
    """Pause before the second attempt, doubled for each one after it, in seconds; Retry-After of the service, where it says one."""
    longest_wait_s: float = 300.0
    """A service that asks to wait longer than this (s) is told to the user instead."""
    give_up_after: int = 10
    """So many requests in a row without an answer of use end the command, which can be given again later."""
    answer_mb: float = 256.0
    """A longer answer, unpacked, is broken off, and the request is halved."""
    request_mb: float = 20.0
    """Channels are put into one request up to about so many MB."""
    request_channels: int = 60
    """And up to so many of them."""

    def __post_init__(self) -> None:
        positive = ("requests_per_second", "timeout_s", "longest_s", "answer_mb", "request_mb")
        for name in positive:
            if not getattr(self, name) > 0:
                raise UsageError(f"--service.{name} must be above 0, not {getattr(self, name)!r}")
        for name in ("concurrent", "attempts", "give_up_after", "request_channels"):
            if getattr(self, name) < 1:
                raise UsageError(f"--service.{name} must be 1 or more, not {getattr(self, name)!r}")


class Fault(SeislatentError):
    """A request that brought nothing; `reason` in few words, for counting."""

    def __init__(self, reason: str, detail: str, wait_s: float | None = None) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason, self.detail, self.wait_s = reason, detail, wait_s


class GaveUp(SeislatentError):
    """The service as a whole does not answer: no further request is made."""


AGAIN = frozenset({"busy", "no answer", "cut off", "damaged", "unreachable"})
"""Reasons for which a request is made again."""
_REFUSED = {400: "bad request", 401: "not allowed", 403: "not allowed", 404: "no such service"}


class Pace:
    """Lets callers through at a rate; `hold` keeps all of them back, `stop` sends them away."""

    def __init__(self, per_second: float) -> None:
        self._step, self._free, self._lock, self._stopped = 1 / per_second, 0.0, threading.Lock(), threading.Event()
        self._why = ""

    def wait(self) -> None:
        """Returns when the next request may be made. Raises GaveUp after `stop`."""
        while not self._stopped.is_set():
            with self._lock:
                pause = self._free - time.monotonic()
                if pause <= 0:
                    self._free = time.monotonic() + self._step
                    return
            self._stopped.wait(min(pause, 1.0))
        raise GaveUp(self._why)

    def hold(self, seconds: float) -> None:
        """Nobody passes for so long."""
        with self._lock:
            self._free = max(self._free, time.monotonic() + seconds)

    def stop(self, why: str) -> None:
        """Whoever waits, or comes later, is sent away, and told why."""
        self._why = self._why or why
        self._stopped.set()

    def pause(self, seconds: float) -> None:
        """Only the caller waits, and not after `stop`."""
        self._stopped.wait(seconds)


class _TooLong(Exception):
    """The answer has more bytes than asked for."""


class Watch(urllib.request.BaseHandler):
    """Sees each answer before ObsPy does: keeps its status, and bounds its bytes and its time."""

    handler_order = 400  # before urllib's own handler of errors

    def __init__(self, most_bytes: int, longest_s: float) -> None:
        self.most_bytes, self.longest_s, self.seen = most_bytes, longest_s, threading.local()

    def begin(self) -> None:
        """Forget the last answer that this thread got."""
        self.seen.status, self.seen.wait, self.seen.end = None, None, time.monotonic() + self.longest_s

    def http_response(self, request: Any, response: Any) -> Any:
        """Called by urllib."""
        self.seen.status, self.seen.wait = response.status, response.headers.get("Retry-After")
        end = self.seen.end
        packed = (response.headers.get("Content-Encoding") or "").lower() == "gzip"
        if packed:  # unpacked here, where its size is bounded
            del response.headers["Content-Encoding"]
        body: list[bytes] = []
        raw = response.read1

        def read(amount: int | None = None) -> bytes:
            if not body:
                try:
                    body.append(_whole(response, raw, packed, self.most_bytes, end))
                finally:
                    response.close()  # nobody else does
            out, body[0] = (body[0], b"") if amount is None or amount < 0 else (body[0][:amount], body[0][amount:])
            return out

        response.read = read
        return response

    https_response = http_response


def _whole(response: Any, read1: Callable[[int], bytes], packed: bool, most: int, end: float) -> bytes:
    """The whole body. Raises _TooLong, TimeoutError, IncompleteRead."""
    claimed = response.headers.get("Content-Length")
    left = int(claimed) if claimed is not None and claimed.isdigit() and not response.chunked else None
    unpack = zlib.decompressobj(31) if packed else None
    parts, size = [], 0
    while left is None or left > 0:
        block = read1(1 << 16)
        if not block:
            break
        left = None if left is None else left - len(block)
        if unpack is not None:
            block = unpack.decompress(block, most - size + 1)
        parts.append(block)
        size += len(block)
        if size > most:
            raise _TooLong
        if time.monotonic() > end:
            raise TimeoutError("the answer takes too long")
    silent = response.status == 200 and claimed is None and not response.chunked and not size
    if left or silent or (unpack is not None and not unpack.eof and size):
        raise IncompleteRead(b"", left)
    return b"".join(parts)


def known_service(name: str) -> str:
    """The base URL of a data centre that ObsPy knows by name, or the URL itself.

    Raises:
        UsageError: neither; or a URL with a password in it.
    """
    if name.upper() in URL_MAPPINGS:
        return str(URL_MAPPINGS[name.upper()])
    parts = urlsplit(name)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise UsageError(unknown("data centre", name, URL_MAPPINGS) + "; or give a base URL such as https://service.example")
    if "@" in parts.netloc or parts.query or parts.fragment:
        raise UsageError(f"give the base URL alone; user and password stand in the environment, as {USER} and {PASSWORD}")
    return name.rstrip("/")


class Service:
    """One data centre's event, station and dataselect services.

    Args:
        name: a name that ObsPy knows, or a base URL.
        manners: rates, times, attempts.
        secret: user and password for restricted data, two empty texts for none; None takes them from the environment.

    Raises:
        UsageError: no such data centre.
    """

    def __init__(self, name: str, manners: Manners | None = None, *, secret: tuple[str, str] | None = None) -> None:
        self.name, self.url, self.manners = name, known_service(name), manners or Manners()
        user, self._password = secret or (os.environ.get(USER), os.environ.get(PASSWORD))
        if bool(user) != bool(self._password):
            raise UsageError(f"{USER} and {PASSWORD} must both be set for restricted data, or none")
        self.pace = Pace(self.manners.requests_per_second)
        self._watch = Watch(int(self.manners.answer_mb * 1e6), self.manners.longest_s)
        self._bad, self._lock, self.requests = 0, threading.Lock(), 0
        given = {"user": user, "password": self._password} if user else {}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of names that changed
            try:
                self._client = Client(
                    name if name.upper() in URL_MAPPINGS else self.url, timeout=self.manners.timeout_s,
                    user_agent=f"seislatent/{__version__} (ObsPy)", _discover_services=False, **given,
                )  # fmt: skip
            except ValueError as error:
                raise UsageError(f"{name}: {one_line(error)}") from None
        self._client._url_opener.add_handler(self._watch)  # ObsPy has no other door to status and body

    def events(self, asked: Mapping[str, Any], check: Callable[[bytes], T]) -> T:
        """What the event service answers (QuakeML), through `check`. Raises Fault, GaveUp; so do the others."""
        return self._ask(lambda out: self._client.get_events(**_times(asked), filename=out), check)

    def channels(self, asked: Mapping[str, Any], check: Callable[[bytes], T]) -> T:
        """Channels, as FDSN station text."""
        asked = _times(asked) | {"level": "channel", "format": "text"}
        return self._ask(lambda out: self._client.get_stations(**asked, filename=out), check)

    def responses(self, lines: Sequence[Line], check: Callable[[bytes], T]) -> T:
        """StationXML with responses."""
        bulk = _bulk(lines)
        return self._ask(lambda out: self._client.get_stations_bulk(bulk, level="response", filename=out), check)

    def waveforms(self, lines: Sequence[Line], check: Callable[[bytes], T]) -> T:
        """MiniSEED."""
        bulk = _bulk(lines)
        return self._ask(lambda out: self._client.get_waveforms_bulk(bulk, filename=out), check)

    def _ask(self, call: Callable[[BytesIO], Any], check: Callable[[bytes], T]) -> T:
        fault = Fault("no answer", "never asked")
        for attempt in range(self.manners.attempts):
            self.pace.wait()
            try:
                found = check(self._once(call))
                self._bad = 0
                return found
            except Fault as one:
                fault = one
            if fault.reason not in AGAIN or (fault.wait_s or 0) > self.manners.longest_wait_s:
                break
            if attempt + 1 < self.manners.attempts:
                self._pause(fault, self.manners.backoff_s * 2**attempt)
        self._count(fault)
        raise fault

    def _pause(self, fault: Fault, seconds: float) -> None:
        """A service that is busy is left alone by all; another fault keeps only this request back."""
        seconds = min(seconds if fault.wait_s is None else fault.wait_s, self.manners.longest_wait_s)
        if fault.reason in ("busy", "unreachable"):
            self.pace.hold(seconds)
        else:
            self.pace.pause(seconds)

    def _count(self, fault: Fault) -> None:
        with self._lock:
            self._bad = self._bad + 1 if fault.reason in AGAIN else 0
            if self._bad >= self.manners.give_up_after:
                why = f"{self.url}: {self._bad} requests in a row failed, the last one with '{fault}'"
                self.pace.stop(f"{why}: what has arrived is kept; give the same command again later")
                self.pace.wait()

    def _once(self, call: Callable[[BytesIO], Any]) -> bytes:
        out = BytesIO()
        self._watch.begin()
        self.requests += 1
        try:
            call(out)
        except Exception as error:
            raise self._fault(error) from None  # ObsPy's chain may hold what was sent
        return out.getvalue()

    def _fault(self, error: Exception) -> Fault:
        """ObsPy's errors in our words: by the status that came, else by what happened on the way."""
        status, wait = self._watch.seen.status, _seconds(self._watch.seen.wait)
        said = one_line(error)
        for secret in filter(None, (self._password, self._client.user)):
            said = said.replace(secret, "***")
        if isinstance(error, _TooLong):
            return Fault("too large", f"{self.url} sends more than {self.manners.answer_mb:g} MB")
        if status == 204:
            return Fault("no data", f"{self.url} has nothing for this request")
        if status in (413, 414):
            return Fault("too large", f"{self.url} answers {status}")
        if status is not None and 300 <= status < 400:
            return Fault("redirected", f"{self.url} answers {status}, which is not followed with a password: {said}")
        if status in _REFUSED:
            return Fault(_REFUSED[status], f"{self.url} answers {status}: {said}")
        if status is not None and status >= 400:
            return Fault("busy" if status in (429, 503) else "no answer", f"{self.url} answers {status}", wait)
        if isinstance(error, TimeoutError | FDSNTimeoutException):
            return Fault("no answer", f"{self.url} says nothing for {self.manners.timeout_s:g} s, or speaks too slowly")
        if isinstance(error, HTTPException | ConnectionError | zlib.error | EOFError):
            return Fault("cut off", f"{self.url} broke off in the middle ({said})")
        return Fault("unreachable", f"{self.url}: {said}")


def _bulk(lines: Sequence[Line]) -> list[tuple[Any, ...]]:
    return [(*line[:4], UTCDateTime(ns=line[4]), UTCDateTime(ns=line[5])) for line in lines]


def _times(asked: Mapping[str, Any]) -> dict[str, Any]:
    """Nanoseconds under starttime and endtime as ObsPy's times."""
    return {k: UTCDateTime(ns=v) if k in ("starttime", "endtime") else v for k, v in asked.items()}


def _seconds(text: str | None) -> float | None:
    """Retry-After: seconds, or a date."""
    if text is None:
        return None
    if text.strip().isdigit():
        return float(min(int(text.strip()[:9]), 10**8))
    try:
        return max(0.0, parsedate_to_datetime(text).timestamp() - time.time())
    except (TypeError, ValueError):
        return None
