"""ObsPy's waveform plug-ins, each asked by name: detection and reading without PICKLE, which runs code."""

from __future__ import annotations

import bz2
import gzip
import logging
import lzma
import sys
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Any, BinaryIO

from obspy import Stream
from obspy.core.util.base import ENTRY_POINTS
from obspy.core.util.misc import buffered_load_entry_point

from seislatent.errors import SeislatentError

log = logging.getLogger(__name__)

REFUSED = frozenset({"PICKLE"})
"""Plug-ins that are never asked: even PICKLE's detection runs what the file holds."""

UNPACKED_BYTES = 4 << 30
"""A compressed file that holds more is refused."""


@contextmanager
def _silent() -> Iterator[list[warnings.WarningMessage]]:
    """ObsPy's warnings in a list; what its callbacks from C cannot raise goes to the log instead of the terminal."""
    hook = sys.unraisablehook
    sys.unraisablehook = lambda told: log.debug("ObsPy: %s", told.exc_value)
    try:
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            yield told
    finally:
        sys.unraisablehook = hook


def formats() -> list[str]:
    """Names of the waveform plug-ins that ObsPy itself brings, in its order of detection, without the refused ones."""
    return [name for name, point in ENTRY_POINTS["waveform"].items() if name not in REFUSED and point.dist.name == "obspy"]


def _plugin(name: str, function: str) -> Any:
    return buffered_load_entry_point("obspy", f"obspy.plugin.waveform.{name}", function)


def detect(path: str | Path, *, shown: str = "") -> str:
    """The name of the format of a file, such as MSEED or SAC, found as ObsPy finds it.

    Args:
        path: one file.
        shown: the name for the error line, where it is not the path.

    Raises:
        SeislatentError: there is no such file, it is empty, or no plug-in knows it.
    """
    path = Path(path)
    if not path.is_file():
        what = "is a folder, not a file" if path.is_dir() else "does not exist"
        raise SeislatentError(f"{path} {what}: give the path of one waveform file")
    if path.stat().st_size == 0:
        raise SeislatentError(f"{shown or path} is empty (0 bytes): nothing to read")
    with _silent():
        for name in formats():
            try:
                if _plugin(name, "isFormat")(str(path)):
                    return name
            except Exception:  # a plug-in that trips over a strange file does not know it
                continue
    raise SeislatentError(
        f"{shown or path} is in no waveform format that ObsPy reads (pickled files are refused because reading one runs it)"
    )


def load(source: str | BinaryIO, name: str, path: str, **options: Any) -> Stream:
    """A file or an open one through the plug-in `name`; ObsPy's warnings go to the log as one line.

    Raises:
        SeislatentError: the plug-in fails; the line names `path`.
    """
    if name in ("GSE1", "GSE2"):
        _check_lines(source, path)
    try:
        with _silent() as told:
            stream = _plugin(name, "readFormat")(source, **options)
    except Exception as error:
        raise SeislatentError(f"{path} looks like {name} but cannot be read: {one_line(error)}") from error
    if told:
        more = f" (and {len(told) - 1} more)" if told[1:] else ""
        log.warning("%s (%s): %s%s", path, name, one_line(told[0].message), more)
    for trace in stream:
        trace.stats._format = name
    return stream


_LONGEST_LINE = 82
"""Of packed samples, between WID2 and CHK2 of a GSE file, in bytes with the line's end: ObsPy (1.5.1) writes beyond the end of a
buffer where a line is longer.
"""


def _check_lines(source: str | BinaryIO, path: str) -> None:
    """Refuse a GSE file with a line of samples that no writer makes and that would break ObsPy's decoder."""
    if isinstance(source, str):
        with open(source, "rb") as handle:
            return _check_lines(handle, path)
    begin, inside, number = source.tell(), False, 0
    try:
        while line := source.readline(1 << 16):
            number += 1
            if line.startswith((b"WID1", b"WID2")) and not inside:
                inside = line.startswith(b"WID1") or b"CM6" in line  # plain numbers of GSE2 may stand in long lines
            elif inside and len(line) > _LONGEST_LINE:
                raise SeislatentError(f"{path}, line {number}: more than {_LONGEST_LINE} characters of samples: it is damaged")
            if line.startswith((b"CHK1", b"CHK2")):
                inside = False
    finally:
        source.seek(begin)
    return None


WFDISC_COLUMNS = {"CSS": ((148, 212), (213, 245)), "NNSA_KB_CORE": ((149, 213), (214, 246))}
"""Where a wfdisc line names the folder and the file of its samples."""


def check_references(path: Path, name: str) -> None:
    """Refuse a wfdisc whose lines lead out of its own folder: what lies there is none of its samples."""
    folder = path.resolve().parent
    for line in path.read_text("latin-1").splitlines():
        parts = [line[a:b].strip() for a, b in WFDISC_COLUMNS[name]]
        target = folder.joinpath(*parts).resolve()
        if not target.is_relative_to(folder):
            raise SeislatentError(f"{path} ({name}) refers to {target} outside its own folder: move the samples beside it")


@contextmanager
def unpacked(path: Path) -> Iterator[Path]:
    """The path itself, or that of a temporary file with what a gzip, bzip2 or xz file holds.

    Raises:
        SeislatentError: damaged, or more than `UNPACKED_BYTES` come out.
    """
    openers: dict[bytes, Any] = {b"\x1f\x8b": gzip.open, b"BZh": bz2.open, b"\xfd7zXZ": lzma.open}
    head = b""
    if path.is_file():
        with path.open("rb") as handle:
            head = handle.read(5)
    opener = next((o for magic, o in openers.items() if head.startswith(magic)), None)
    if opener is None:
        yield path
        return
    with NamedTemporaryFile(suffix=path.stem) as out:
        try:
            with opener(path, "rb") as source:
                while block := source.read(1 << 20):
                    out.write(block)
                    if out.tell() > UNPACKED_BYTES:
                        raise SeislatentError(f"{path} unpacks to more than {UNPACKED_BYTES >> 30} GiB: unpack it first")
        except (OSError, EOFError, zlib.error, lzma.LZMAError) as error:
            raise SeislatentError(f"{path} is a damaged compressed file: {one_line(error)}") from error
        out.flush()
        yield Path(out.name)


def one_line(error: object) -> str:
    """What an error says, on one line of at most 300 characters."""
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= 300 else text[:297] + "..."
