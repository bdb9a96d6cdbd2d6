"""Files in: every waveform format ObsPy reads except PICKLE, which runs code on reading."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from obspy import Inventory, Stream

from seislatent.errors import SeislatentError
from seislatent.io.inventory import locate, read_inventory
from seislatent.io.pieces import pieces
from seislatent.io.plugins import WFDISC_COLUMNS, check_references, detect, formats, load, unpacked
from seislatent.io.traces import from_stream, native, samples_ns, to_stream
from seislatent.waveform import Waveform

__all__ = [
    "detect", "formats", "from_stream", "iterate", "locate", "native", "read", "read_inventory", "read_stream", "samples_ns",
    "to_stream",
]  # fmt: skip


def read_stream(path: str | Path, *, headonly: bool = False) -> Stream:
    """An ObsPy stream of any waveform file but a pickled one.

    Args:
        path: one file on this machine; patterns and addresses are not expanded.
        headonly: leave the samples out.

    Raises:
        SeislatentError: the file is missing, empty, unknown, damaged, or holds no trace.
    """
    with unpacked(Path(path)) as plain:
        name = detect(plain, shown=str(path))
        if name in WFDISC_COLUMNS:
            check_references(plain, name)
        stream = load(str(plain), name, str(path), headonly=headonly)
    if not len(stream):
        raise SeislatentError(f"{path} holds no trace: nothing to read")
    return stream


def read(path: str | Path, *, inventory: Inventory | str | Path | None = None) -> list[Waveform]:
    """One waveform of one channel per trace of a file.

    Args:
        path: any waveform file that ObsPy reads but a pickled one.
        inventory: StationXML (or ObsPy's Inventory), from which coordinates, azimuth and dip are taken.

    Raises:
        SeislatentError: as `read_stream`.
    """
    stream = read_stream(path)
    try:
        waveforms = from_stream(stream)
    except SeislatentError as error:
        raise SeislatentError(f"{path}: {error}") from error
    return waveforms if inventory is None else locate(waveforms, inventory)


def iterate(path: str | Path, *, piece_bytes: int = 1 << 22) -> Iterator[Waveform]:
    """The waveforms of a file in pieces: miniSEED of any length in bounded memory, any other format read whole.

    miniSEED longer than `piece_bytes` is read trace by trace, each in order of time, in pieces of about `piece_bytes` on record
    boundaries. A piece that continues the one before it has `metadata["continues"] = True` and starts where that one ends.

    Raises:
        SeislatentError: as `read_stream`.
    """
    with unpacked(Path(path)) as plain:
        if detect(plain, shown=str(path)) == "MSEED" and plain.stat().st_size > piece_bytes:
            yield from pieces(plain, piece_bytes, shown=str(path))
        else:
            yield from read(path)
