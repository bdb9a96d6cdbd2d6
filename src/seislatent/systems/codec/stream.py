"""Traces through a codec into a code file and back: the only module of `systems` that touches `io`.

Stream, Waveform or file --look: what can the codec serve?--> StreamEncoder or stored as it is --Spool--> Codes, .slat
Codes, .slat --check--> decoded, what is damaged left out --> Stream, Waveform or miniSEED
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from obspy import Stream, Trace

from seislatent.components import UNORIENTED, unoriented
from seislatent.errors import SeislatentError, unknown
from seislatent.io import files, miniseed
from seislatent.io.slat import Codes, Damage
from seislatent.io.slat_lossless import chunk_samples
from seislatent.io.slat_spool import Spool, may_write
from seislatent.io.slat_table import FASTEST_HZ, Entry, Head
from seislatent.prepare.flow import length
from seislatent.systems.codec.segments import StreamEncoder, cast_to, decoded, head_of
from seislatent.waveform import Channel, Waveform

SLOWEST_HZ, FEWEST_SAMPLES = 10.0, 40
LARGEST, FAINTEST = 1e25, 1e-25
"""Peak amplitudes that the scale of a segment can follow (`seislatent.signal.gain`)."""
UNTOLD = frozenset({"continues", "file_format"})
"""Metadata that belong to the file a trace came from, not to the trace."""
MOST_IN_MEMORY = 2**30
"""Samples that `decode` gives at once; `decode_file` has no limit."""
WRITTEN_AT_ONCE = 1 << 20


# -- encoding ---------------------------------------------------------------------------------------------------------------------


@dataclass(kw_only=True)
class _Seen:
    """What the first look at a trace tells."""

    channel: Channel
    start_ns: int
    rate: float
    unit: str | None
    about: str
    dtype: np.dtype[Any]
    samples: int = 0
    finite: bool = True
    peak: float = 0.0

    def add(self, data: NDArray[Any]) -> None:
        self.samples += len(data)
        self.dtype = data.dtype if data.dtype == self.dtype else np.result_type(data.dtype, self.dtype)
        if len(data) and data.dtype.kind in "iuf":
            low, high = float(data.min()), float(data.max())
            self.finite = self.finite and bool(np.isfinite(low) and np.isfinite(high))
            self.peak = max(self.peak, abs(low), abs(high)) if self.finite else self.peak

    def reason(self, head: Head) -> str:
        """Why the codec cannot serve it, "" where it can."""
        checks = (
            (self.dtype.kind in "SU", "text, not numbers"),
            (self.dtype.kind not in "iuf", f"samples of type {self.dtype.name}"),
            (self.samples == 0, "no samples"),
            (self.rate < SLOWEST_HZ, f"{self.rate:g} Hz is below {SLOWEST_HZ:g} Hz"),
            (self.rate > FASTEST_HZ, f"{self.rate:g} Hz is above {FASTEST_HZ:g} Hz"),
            (self.samples < FEWEST_SAMPLES, f"{self.samples} samples, fewer than {FEWEST_SAMPLES}"),
            (not self.finite, "values that are not finite"),
            (self.peak > LARGEST or 0 < self.peak < FAINTEST, f"a peak of {self.peak:g}, outside {FAINTEST:g} to {LARGEST:g}"),
        )
        found = next((why for true, why in checks if true), "")
        if not found and length(self.samples, self.rate, head.sampling_rate_hz) < head.frame:
            return f"shorter than one frame ({head.frame / head.sampling_rate_hz:g} s)"
        return found


_Piece = tuple[Waveform, int, NDArray[Any], bool]
"""A waveform, a row of it, its samples, and whether they continue the piece before."""


def _rows(waveforms: Iterable[Waveform]) -> Iterator[_Piece]:
    for waveform in waveforms:
        for row, data in enumerate(waveform.data):
            yield waveform, row, _storable(data), bool(waveform.metadata.get("continues"))


def _storable(data: NDArray[Any]) -> NDArray[Any]:
    """Samples of a type that the file knows: extended floats become float64."""
    if data.dtype.kind == "f" and data.dtype.itemsize > 8:
        return data.astype(np.float64)
    return data


def _told(metadata: dict[str, Any]) -> str:
    """Metadata that JSON can hold, as text; "" for none."""
    plain = {k: v.item() if isinstance(v, np.generic) else v for k, v in metadata.items()}
    kept = {k: v for k, v in plain.items() if isinstance(v, str | int | float | bool) and k not in UNTOLD}
    return json.dumps(kept, separators=(",", ":"), sort_keys=True) if kept else ""


def _metadata(about: str) -> dict[str, Any]:
    """The metadata back.

    Raises:
        SeislatentError: the file's text is no JSON object.
    """
    try:
        return dict(json.loads(about or "{}"))
    except (ValueError, TypeError, RecursionError) as error:
        raise SeislatentError(f"the code file tells {about[:40]!r} of a trace, which is no JSON object: fetch it again") from error


def _look(pieces: Iterable[_Piece]) -> list[_Seen]:
    seen: list[_Seen] = []
    for waveform, row, data, continues in pieces:
        if not (continues and seen):
            common = dict(start_ns=int(waveform.start_ns), rate=float(waveform.sampling_rate_hz), unit=waveform.unit)
            common["about"] = _told(waveform.metadata)
            seen.append(_Seen(channel=waveform.channels[row], dtype=data.dtype, **common))  # type: ignore[arg-type]
        seen[-1].add(data)
    return seen


def _fill(spool: Spool, model: Any, pieces: Iterable[_Piece], seen: Sequence[_Seen]) -> None:
    """Second look: every trace into the spool."""
    at, left, encoder = -1, 0, None
    for _, _, data, continues in pieces:
        if not (continues and at >= 0):
            at += 1
            left, reason = seen[at].samples, seen[at].reason(spool.head)
            encoder = None if reason else StreamEncoder(model, spool.head.level, seen[at].rate)
        left -= len(data)
        data = data.astype(seen[at].dtype, copy=False)
        if encoder is None:
            spool.samples(data)
        else:
            for run in encoder.feed(data) + (encoder.close() if left == 0 else []):
                spool.run(run.offsets, run.scales, run.indices)
        if left == 0:
            one = seen[at]
            spool.trace(
                channel=one.channel, start_ns=one.start_ns, sampling_rate_hz=one.rate, samples=one.samples,
                unit=one.unit, about=one.about,
                reason=reason, dtype=one.dtype.newbyteorder("<").str, frames=encoder.frames if encoder else 0,
            )  # fmt: skip


def _spooled(spool: Spool, model: Any, pieces: Callable[[], Iterable[_Piece]], inventory: str = "") -> None:
    seen = _look(pieces())
    if not seen:
        raise SeislatentError("no trace to encode: give at least one")
    if inventory and all(one.channel.dip_deg is None for one in seen):
        ids = dict.fromkeys(one.channel.id for one in seen)
        shown = ", ".join([*ids][:10]) + (f" and {len(ids) - 10} more" if len(ids) > 10 else "")
        raise SeislatentError(f"{inventory} gives no direction of {shown}: give the inventory of these channels and times, or none")
    _fill(spool, model, pieces(), seen)


def encode(model: Any, source: Stream | Trace | Waveform | Iterable[Waveform], level: int | None = None) -> Codes:
    """Encode traces in memory.

    Args:
        model: a loaded codec: `.system`, `.name`, `.version`, `.digest`.
        source: an ObsPy stream or trace, or waveforms; every trace, and every row of a waveform, becomes a trace of the file.
            Masked samples become gaps.
        level: levels to store, all by default.

    Raises:
        SeislatentError: no trace, or a level that the codec does not have.
    """
    if isinstance(source, Trace):
        source = Stream([source])
    if isinstance(source, str | Path):
        raise SeislatentError(f"{source} is a path: read it first (seislatent.read), or encode the file (stream.encode_file)")
    if isinstance(source, Stream):
        waveforms = [w for trace in source for w in _with_type(files.from_stream([trace]), np.ma.getdata(trace.data).dtype)]
    else:
        waveforms = [source] if isinstance(source, Waveform) else list(source)
    with Spool(head_of(model, level)) as spool:
        _spooled(spool, model, lambda: _rows(waveforms))
        return Codes.read(spool.to_bytes())


def _with_type(waveforms: Iterable[Waveform], dtype: np.dtype[Any]) -> list[Waveform]:
    """The waveforms in the type their trace had before reading widened it."""
    if dtype.kind not in "iuf":
        return list(waveforms)
    return [w.with_data(w.data.astype(dtype.newbyteorder("="), copy=False), did="type kept") for w in waveforms]


def encode_file(
    model: Any,
    source: str | Path,
    target: str | Path,
    level: int | None = None,
    overwrite: bool = False,
    inventory: Any = None,
) -> Codes:
    """Encode a waveform file of any length in bounded memory; the code file, opened, says what it cost and what it could not serve.

    Args:
        model: as for `encode`.
        source: any waveform file that ObsPy reads but a pickled one. It is read twice: once to see what it holds.
        target: the code file; it appears only when it is complete.
        level: levels to store, all by default.
        overwrite: replace an existing file.
        inventory: StationXML (or ObsPy's Inventory) from which coordinates, azimuth and dip are taken. Samples stay as the sensor
            stood; the directions ride in the code file.

    Raises:
        SeislatentError: a file that cannot be read, or exists and may not be replaced; a level that the codec does not have; an
            inventory that holds none of the channels.
    """
    may_write(target, overwrite)
    stations = files.read_inventory(inventory) if isinstance(inventory, str | Path) else inventory

    def pieces() -> Iterator[_Piece]:
        for waveform in files.iterate(source):
            yield from _rows([waveform] if stations is None else files.locate([waveform], stations))

    told = "" if stations is None else f"inventory {inventory}" if isinstance(inventory, str | Path) else "the inventory"
    with Spool(head_of(model, level)) as spool:
        _spooled(spool, model, pieces, told)
        return Codes.read(spool.write(target, overwrite))


# -- decoding ---------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Piece:
    """Consecutive decoded samples of one trace."""

    trace: int
    first: int
    """Place of the first one in the trace; more than one past the piece before is a gap."""
    data: NDArray[Any]
    """[time], in the trace's own type."""


@dataclass(frozen=True)
class Decoded:
    """What became of a code file."""

    path: Path
    level: int
    traces: int
    samples: int
    damage: tuple[Damage, ...]
    empty: tuple[str, ...] = ()
    """Ids of traces without samples, which miniSEED cannot hold."""


def fit(model: Any, codes: Codes) -> None:
    """Refuse a file made with other weights.

    Raises:
        SeislatentError: naming the weights that the file needs; or what is given is no opened code file.
    """
    if not isinstance(codes, Codes):
        raise SeislatentError(f"{codes!r} is no opened code file: give seislatent.Codes.read(PATH)")
    head = codes.head
    if not any(e.frames for e in codes.traces):
        return
    needs = f"this code file needs {head.codec}, version {head.version}, weights {head.digest}"
    if model is None:
        raise SeislatentError(f"{needs}: load them first")
    own = head_of(model)
    if own.digest != head.digest:
        given = f"{own.codec}, version {own.version}, weights {own.digest}"
        raise SeislatentError(f"{needs}; given is {given}: load those it needs (--system FILE)")
    if (own.frame, own.sampling_rate_hz, own.bits) != (head.frame, head.sampling_rate_hz, head.bits) or own.level < head.level:
        raise SeislatentError(f"the code file contradicts its weights {head.digest}: it was not written by this program")


def pieces(model: Any, codes: Codes, level: int | None = None) -> Iterator[Piece]:
    """Decoded samples, trace after trace, in pieces of bounded length; what is damaged is left out."""
    fit(model, codes)
    level = codes.served(level)
    for trace, entry in enumerate(codes.traces):
        yield from _coded(model.system, codes, trace, level) if entry.frames else _plain(codes, trace)


def _plain(codes: Codes, trace: int) -> Iterator[Piece]:
    entry = codes.traces[trace]
    step = chunk_samples(np.dtype(entry.dtype))
    for chunk in range(len(entry.chunks)):
        data = codes.samples(trace, chunk)
        if not isinstance(data, str):
            yield Piece(trace, chunk * step, data.astype(data.dtype.newbyteorder("="), copy=False))


def _coded(system: Any, codes: Codes, trace: int, level: int) -> Iterator[Piece]:
    entry, head = codes.traces[trace], codes.head
    if -(-length(entry.samples, entry.sampling_rate_hz, head.sampling_rate_hz) // head.frame) != entry.frames:
        raise SeislatentError(f"{entry.channel.id}: {entry.samples} samples are not {entry.frames} frames: no file of this program")
    dtype = np.dtype(entry.dtype).newbyteorder("=")
    runs = (codes.run(trace, run, codes.reach(trace, run, level)[0]) for run in range(head.runs(entry.frames)))
    for first, y in decoded(system, head, runs, entry.sampling_rate_hz, entry.samples):
        yield Piece(trace, first, cast_to(y, dtype))


def joined(found: Iterable[Piece], most: int | None = None) -> Iterator[Piece]:
    """Neighbouring pieces as one, up to about `most` samples."""
    held: list[Piece] = []
    count = 0
    for piece in found:
        if held and (
            piece.trace != held[-1].trace or piece.first != held[-1].first + len(held[-1].data) or (most and count >= most)
        ):
            yield Piece(held[0].trace, held[0].first, np.concatenate([p.data for p in held]))
            held, count = [], 0
        held.append(piece)
        count += len(piece.data)
    if held:
        yield Piece(held[0].trace, held[0].first, np.concatenate([p.data for p in held]))


def _waveform(entry: Entry, piece: Piece, did: str) -> Waveform:
    history = (did, f"{UNORIENTED}: component {entry.channel.component} as recorded") if unoriented(entry.channel) else (did,)
    return Waveform(
        data=piece.data[None], sampling_rate_hz=entry.sampling_rate_hz, channels=(entry.channel,),
        start_ns=entry.time_ns(piece.first), unit=entry.unit, history=history, metadata=_metadata(entry.about),
    )  # fmt: skip


def _examined(codes: Codes, level: int | None, strict: bool) -> list[Damage]:
    found = codes.check(level)
    told = [*codes.damage, *map(str, found)]
    if strict and told:
        more = f" (and {len(told) - 1} more)" if len(told) > 1 else ""
        raise SeislatentError(f"the code file is damaged: {told[0]}{more}; fetch it again, or decode the rest without strict")
    return found


def decode_waveforms(model: Any, codes: Codes, level: int | None = None, strict: bool = False) -> list[Waveform]:
    """The traces back, one waveform each, with their ids, times, rates, types and lengths. A damaged span is a gap between two.

    Args:
        model: the codec with the weights that the file names; may be None where nothing is coded.
        codes: the code file.
        level: levels to use, all stored ones by default.
        strict: refuse a damaged file. Otherwise every damaged span is told in a warning.

    Raises:
        SeislatentError: other weights, a level that the file does not hold, or damage where `strict`.
    """
    fit(model, codes)
    for span in _examined(codes, level, strict):
        warnings.warn(str(span), stacklevel=3)
    if sum(e.samples for e in codes.traces) > MOST_IN_MEMORY:
        raise SeislatentError(f"the code file holds more than {MOST_IN_MEMORY} samples: decode it into a file (decode_file)")
    did = f"decoded from {codes.head.codec} at level {codes.served(level)}"
    empty = [Piece(t, 0, np.empty(0, np.dtype(e.dtype).newbyteorder("="))) for t, e in enumerate(codes.traces) if not e.samples]
    found = sorted([*joined(pieces(model, codes, level)), *empty], key=lambda p: p.trace)
    return [_waveform(codes.traces[p.trace], p, did) for p in found]


def decode(model: Any, codes: Codes, level: int | None = None, strict: bool = False) -> Stream:
    """`decode_waveforms` as an ObsPy stream."""
    return files.to_stream(decode_waveforms(model, codes, level, strict))


def decode_file(
    model: Any,
    source: str | Path | Codes,
    target: str | Path,
    level: int | None = None,
    strict: bool = False,
    overwrite: bool = False,
    rename: Mapping[str, str] | None = None,
) -> Decoded:
    """Decode a code file of any length into miniSEED in bounded memory; `rename` gives new ids by those that do not fit.

    Raises:
        SeislatentError: as `decode_waveforms`; ids, types or times that miniSEED cannot hold; a file that may not be replaced.
    """
    may_write(target, overwrite)
    codes = source if isinstance(source, Codes) else Codes.read(source)
    fit(model, codes)
    for old in set(rename or {}) - {e.channel.id for e in codes.traces}:
        raise SeislatentError(unknown("id to rename", old, {e.channel.id for e in codes.traces}))
    if misfits := dict.fromkeys(e.channel.id for e in codes.traces if not miniseed.fits(e.channel)).keys() - (rename or {}).keys():
        raise miniseed.IdsTooLong(misfits)
    damage = _examined(codes, level, strict)
    samples = 0

    def back() -> Iterator[Waveform]:
        nonlocal samples
        for piece in joined(pieces(model, codes, level), WRITTEN_AT_ONCE):
            samples += len(piece.data)
            yield _waveform(codes.traces[piece.trace], piece, "decoded")
        if damage and not samples:
            raise SeislatentError(f"nothing can be decoded, of {len(damage)} spans the first is {damage[0]}; fetch the file again")

    miniseed.write(back(), target, overwrite, rename=rename)
    empty = tuple(e.channel.id for e in codes.traces if not e.samples)
    return Decoded(Path(target), codes.served(level), len(codes.traces), samples, tuple(damage), empty)
