"""miniSEED 2.4 out, with everything it cannot hold refused."""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from tempfile import NamedTemporaryFile

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
            " Keep the code file or SeisBench's layout, or give new ids with rename={old: new}"
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
    are. Masked samples become gaps. miniSEED keeps times to the microsecond. Waveforms without samples are left out.

    Args:
        waveforms: what to write.
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
    records = _renamed(_as_waveforms(waveforms), rename or {})
    misfits = dict.fromkeys(c.id for w in records for c in w.channels if not fits(c))
    if misfits:
        raise IdsTooLong(misfits)
    full = [w for w in records if w.data.shape[1]]
    if not full:
        raise SeislatentError(f"no waveform has a sample, and miniSEED cannot hold an empty one: {path} is not written")
    if len(full) < len(records):
        log.warning("%s: %d waveforms without samples are left out: miniSEED cannot hold them", path, len(records) - len(full))
    parts = [_writable(w) for w in full]
    with NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}.", delete=False) as handle:
        temporary = Path(handle.name)
        try:
            for waveform, encoding in parts:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")  # ObsPy tells of ids it cuts (refused above) and of byte order
                    to_stream(waveform).write(handle, format="MSEED", encoding=encoding)
        except SeislatentError:
            temporary.unlink()
            raise
        except Exception as error:
            temporary.unlink()
            raise SeislatentError(f"{path} cannot be written: {' '.join(str(error).split())}") from error
    mask = os.umask(0)
    os.umask(mask)
    temporary.chmod(0o666 & ~mask)
    os.replace(temporary, path)
    return path


def _as_waveforms(given: Waveform | Iterable[Waveform] | Stream) -> list[Waveform]:
    if isinstance(given, Stream):
        return from_stream(given)
    return [given] if isinstance(given, Waveform) else list(given)


def _renamed(waveforms: list[Waveform], rename: Mapping[str, str]) -> list[Waveform]:
    """The waveforms under their new ids; two ids that would become one are refused."""
    if not rename:
        return waveforms
    became: dict[str, str] = {}
    for old in dict.fromkeys(i for w in waveforms for i in w.ids):
        text = rename.get(old, old)
        if text in became:
            raise SeislatentError(f"rename makes {became[text]} and {old} the same id {text}: give each its own")
        if old in rename and text.count(".") != 3:
            raise SeislatentError(f"rename gives '{text}' for {old}: an id is network.station.location.code")
        became[text] = old

    def renamed(channel: Channel) -> Channel:
        if channel.id not in rename:
            return channel
        network, station, location, code = rename[channel.id].split(".")
        return replace(channel, network=network, station=station, location=location, code=code)

    return [replace(w, channels=tuple(map(renamed, w.channels))) for w in waveforms]


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
