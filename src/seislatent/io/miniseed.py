"""miniSEED 2.4 out, with everything it cannot hold refused."""

from __future__ import annotations

import logging
import os
import uuid
import warnings
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray
from obspy import Stream

from seislatent.errors import SeislatentError
from seislatent.io.traces import from_stream, native, to_stream
from seislatent.waveform import Channel, Waveform

log = logging.getLogger(__name__)

LIMITS = {"network": 2, "station": 5, "location": 2, "code": 3}
"""ASCII characters that a SEED 2.4 header has for each code."""

_STEIM2_LIMIT = 2**29 - 1  # the largest difference of two samples that Steim2 can write


class IdsTooLong(SeislatentError):
    """Ids that miniSEED cannot hold; `.ids` is the whole list, the message names the first of them."""

    def __init__(self, ids: Iterable[str]) -> None:
        self.ids = tuple(ids)
        shown = ", ".join(self.ids[:20]) + (f" and {len(self.ids) - 20} more" if len(self.ids) > 20 else "")
        super().__init__(
            "miniSEED 2.4 holds network 2, station 5, location 2 and channel 3 ASCII characters without spaces at the ends;"
            f" {len(self.ids)} id{'s' * (len(self.ids) > 1)} would be cut: {shown}."
            " Keep the code file or SeisBench's layout, or give new ids (rename={old: new}, --rename OLD=NEW)"
        )


def fits(channel: Channel) -> bool:
    """True when SEED 2.4 holds every code of the channel as it is."""
    codes = [(getattr(channel, name), length) for name, length in LIMITS.items()]
    return all(code.isascii() and code.isprintable() and code == code.strip() and len(code) <= length for code, length in codes)


def write(
    waveforms: Waveform | Iterable[Waveform] | Stream,
    path: str | Path,
    overwrite: bool = False,
    *,
    rename: Mapping[str, str] | None = None,
) -> Path:
    """Write waveforms, or an ObsPy stream, as miniSEED 2.4.

    Integers become Steim2, or plain int32 where neighbours differ by 2^29 or more; float32, float64 and text stay what they
    are. Masked samples become gaps. miniSEED keeps times to the microsecond and rates to seven digits. Waveforms without
    samples are left out, which the log says.

    Args:
        waveforms: what to write; taken one by one, so a generator may stand for more than fits in memory.
        path: the file; it appears only when it is complete.
        overwrite: replace an existing file.
        rename: new ids, `network.station.location.code`, by old ones.

    Raises:
        IdsTooLong: ids that SEED 2.4 would cut.
        SeislatentError: the file exists, nothing has a sample, numbers that miniSEED cannot hold, or two ids become one.
    """
    path = Path(path)
    if path.exists() and not overwrite:
        raise SeislatentError(f"{path} exists: give another name, or overwrite it (overwrite=True, --overwrite)")
    if not path.parent.is_dir():
        raise SeislatentError(f"{path.parent} is no folder: make it first")
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    try:
        with temporary.open("xb") as handle:
            _write_all(waveforms, handle, rename or {}, path)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    return path


def _write_all(waveforms: Waveform | Iterable[Waveform] | Stream, handle: BinaryIO, rename: Mapping[str, str], path: Path) -> None:
    """Every waveform into an open file; once an id does not fit, only the list of ids is completed."""
    if isinstance(waveforms, Waveform):
        waveforms = [waveforms]
    source = from_stream(waveforms) if isinstance(waveforms, Stream) else waveforms
    misfits: dict[str, None] = {}
    empty: list[str] = []
    owners: dict[str, str] = {}
    for given in source:
        waveform = _renamed(given, rename, owners) if rename else given
        misfits |= dict.fromkeys(c.id for c in waveform.channels if not fits(c))
        if not waveform.data.shape[1]:
            empty += waveform.ids
        elif not misfits:
            _write_one(waveform, handle, path)
    if misfits:
        raise IdsTooLong(misfits)
    if not handle.tell():
        raise SeislatentError(f"no waveform has a sample, and miniSEED cannot hold an empty one: {path} is not written")
    if empty:
        shown = ", ".join(empty[:10]) + (f" and {len(empty) - 10} more" if len(empty) > 10 else "")
        log.warning("%s: without samples and left out, miniSEED cannot hold them: %s", path, shown)


def _write_one(waveform: Waveform, handle: BinaryIO, path: Path) -> None:
    written, encoding = _writable(waveform)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # ObsPy tells of ids it cuts (refused before) and of byte order
            to_stream(written).write(handle, format="MSEED", encoding=encoding)
    except Exception as error:
        raise SeislatentError(f"{path} cannot be written, {', '.join(waveform.ids)}: {' '.join(str(error).split())}") from error


def _renamed(waveform: Waveform, rename: Mapping[str, str], owners: dict[str, str]) -> Waveform:
    """The waveform under its new ids; `owners` remembers who has each id, so that two that would become one are refused."""
    channels = []
    for channel in waveform.channels:
        text = rename.get(channel.id, channel.id)
        if owners.setdefault(text, channel.id) != channel.id:
            raise SeislatentError(f"rename makes {owners[text]} and {channel.id} the same id {text}: give each its own")
        if text != channel.id:
            codes = text.split(".")
            if len(codes) != 4:
                raise SeislatentError(f"rename gives '{text}' for {channel.id}: an id is network.station.location.code")
            channel = replace(channel, **dict(zip(LIMITS, codes, strict=True)))  # type: ignore[arg-type]
        channels.append(channel)
    return replace(waveform, channels=tuple(channels))


def _writable(waveform: Waveform) -> tuple[Waveform, str]:
    """The waveform in a type that miniSEED holds, and the name of the encoding."""
    data: NDArray = np.ascontiguousarray(native(waveform.data))
    if data.dtype.kind in "SU":
        try:
            return replace(waveform, data=data.astype("S1")), "ASCII"
        except UnicodeEncodeError as error:
            raise SeislatentError(f"{', '.join(waveform.ids)} holds text that is not ASCII: miniSEED cannot hold it") from error
    if data.dtype == np.int64:
        raise SeislatentError(f"{', '.join(waveform.ids)} holds integers beyond 32 bits: miniSEED cannot; convert them to float64")
    if data.dtype == np.int32:
        wide = np.abs(np.diff(data.astype(np.int64), axis=1, prepend=0)).max(initial=0) > _STEIM2_LIMIT
        return replace(waveform, data=data), "INT32" if wide else "STEIM2"
    return replace(waveform, data=data), {"float32": "FLOAT32", "float64": "FLOAT64"}[data.dtype.name]
