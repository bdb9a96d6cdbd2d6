"""Arrays of numbers out of an HDF5 file that a stranger may have made, fast: one open, a few checks and one read each.

HDF5 can lead a reader elsewhere: through links, samples in raw files, or arrays composed from other files. All of it is refused,
and so are arrays of objects, texts and references, and sizes that nothing real has. No attribute is touched.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from h5py import h5d, h5g, h5l, h5o, h5s, h5t
from numpy.typing import NDArray

from seislatent.errors import SeislatentError
from seislatent.io.plugins import one_line

LARGEST = 1 << 28
"""A record of more samples (ten days of three components at 100 Hz) is refused: a small hostile file can claim any number."""

DEEPEST, MOST_GROUPS = 6, 4096
"""How far `leaf_groups` goes: a tree may hold itself."""

_HELD = 16
"""Arrays of many records that stay open, so that neighbouring records cost one read."""

_SCRATCH = 1 << 26
"""Bytes of the memory that is lent."""

At = Sequence[int | slice]


class Arrays:
    """The arrays of one HDF5 file, opened for reading.

    Raises:
        SeislatentError: the file cannot be opened as HDF5.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        try:
            self.file = h5py.File(self.path, "r")
        except (OSError, RuntimeError) as error:
            raise SeislatentError(f"{path} cannot be opened as HDF5: {one_line(error)}") from error
        self._groups: dict[str, h5g.GroupID] = {}
        self._scratch = np.empty(0, np.uint8)
        self._held: OrderedDict[tuple[str, str], tuple[Any, tuple[int, ...], np.dtype[Any]]] = OrderedDict()

    def group(self, path: str) -> h5g.GroupID | None:
        """The group of that path, None where there is none.

        Raises:
            SeislatentError: a link leads there.
        """
        if path not in self._groups:
            with self._reading("the file"):
                found = h5g.open(self.file.id, b"/")
            for part in filter(None, path.split("/")):
                if not self._holds(found, part.encode()):
                    return None
                with self._reading(f"group /{path}"):
                    found = h5o.open(found, part.encode())
                if not isinstance(found, h5g.GroupID):
                    return None
            self._groups[path] = found
        return self._groups[path]

    @contextmanager
    def _reading(self, what: str) -> Iterator[None]:
        """HDF5's own errors as one line."""
        try:
            yield
        except (OSError, RuntimeError, KeyError, ValueError, TypeError, MemoryError) as error:
            raise SeislatentError(f"{self.path}: {what} cannot be read: {one_line(error)}") from error

    def _holds(self, group: Any, name: bytes) -> bool:
        """True where a group holds a name; links that lead away are refused before they are followed."""
        try:
            kind = group.links.get_info(name).type
        except (KeyError, OSError, RuntimeError):
            return False
        if kind != h5l.TYPE_HARD:
            raise SeislatentError(
                f"{self.path}: {name.decode('utf-8', 'replace')} is a link, perhaps into another file, which is refused"
            )
        return True

    def leaf_groups(self) -> list[str]:
        """Paths of the groups that hold arrays, without a list of what they hold.

        A group whose first member is an array is taken for one of arrays only; the tree is followed down to `DEEPEST` groups.
        """
        found: list[str] = []
        queue = [("", 0)]
        while queue:
            path, depth = queue.pop(0)
            first = self.first(path)
            if first is None:
                continue
            if path and self._is(path, first, h5g.DATASET):
                found.append(path)
            elif depth < DEEPEST and self.count(path) <= MOST_GROUPS and len(queue) <= MOST_GROUPS:
                inside = [name for name in self.names(path) if self._is(path, name, h5g.GROUP)]
                queue += [(f"{path}/{name}".lstrip("/"), depth + 1) for name in inside]
        return found

    def _is(self, path: str, name: str, kind: int) -> bool:
        """True where a name in a group is of one kind; links are of none."""
        group = self.group(path)
        with self._reading(f"{path}/{name}"):
            hard = group is not None and group.links.get_info(name.encode()).type == h5l.TYPE_HARD
            return bool(hard and h5g.get_objinfo(group, name.encode()).type == kind)

    def count(self, path: str) -> int:
        """How many names a group holds."""
        group = self.group(path)
        with self._reading(f"group /{path}"):
            return 0 if group is None else int(group.get_num_objs())

    def first(self, path: str) -> str | None:
        """The first name that a group holds."""
        if not self.count(path):
            return None
        with self._reading(f"group /{path}"):
            told: Any = self._groups[path].links.iterate(lambda name: name)
        told = told[0] if isinstance(told, tuple) else told  # older h5py gives the name, later ones where it stopped as well
        return None if told is None else told.decode("utf-8", "replace")

    def shape(self, path: str, name: str) -> tuple[int, ...]:
        """The shape of an array; empty for what is none."""
        group = self.group(path)
        try:
            return self._shape(h5d.open(group, name.encode()), name) if self.holds(path, name) else ()
        except (OSError, RuntimeError, KeyError, ValueError, TypeError, SeislatentError):
            return ()

    def names(self, path: str) -> list[str]:
        """Names of all that a group holds, in the file's order (by name)."""
        group = self.group(path)
        names: list[bytes] = []
        if group is not None:
            with self._reading(f"group /{path}"):
                group.links.iterate(names.append)
        return [name.decode("utf-8", "replace") for name in names]

    def holds(self, path: str, name: str) -> bool:
        """True where the group `path` holds `name`."""
        group = self.group(path)
        return group is not None and bool(name) and "/" not in name and self._holds(group, name.encode())

    def read(self, path: str, name: str, at: At = (), *, lend: bool = False) -> NDArray[Any]:
        """The array `path/name`, or a part of it, in this machine's byte order and a type of 32 or 64 bits.

        Args:
            path: a group.
            name: an array in it.
            at: an index or a range per axis, from the first axis on; what is left out is taken whole.
            lend: give the samples in memory that the next read uses again, for a caller that copies them anyway.

        Raises:
            SeislatentError: there is no such array, it is damaged, too large, no array of numbers, or lies elsewhere.
        """
        array, shape, kind = self._opened(path, name, hold=bool(at))
        label = f"{self.path}: {path}/{name}"
        start, count, kept = _selection(shape, at, label)
        size = math.prod(count)
        if size > LARGEST:
            raise SeislatentError(f"{label} claims {size} samples, which is refused")
        out = self._lent(count, kind) if lend else np.empty(count, kind)
        if size:
            with self._reading(f"{path}/{name}"):
                if at:
                    chosen, memory = array.get_space(), h5s.create_simple(count)
                    chosen.select_hyperslab(start, count)
                    array.read(memory, chosen, out)
                else:
                    array.read(h5s.ALL, h5s.ALL, out)
        return out.reshape(kept)

    def _lent(self, shape: tuple[int, ...], kind: np.dtype[Any]) -> NDArray[Any]:
        size = math.prod(shape) * kind.itemsize
        if size > _SCRATCH:
            return np.empty(shape, kind)
        if size > len(self._scratch):
            self._scratch = np.empty(size, np.uint8)
        return self._scratch[:size].view(kind).reshape(shape)

    def _opened(self, path: str, name: str, *, hold: bool) -> tuple[Any, tuple[int, ...], np.dtype[Any]]:
        """An array with its shape and the type that it has in memory."""
        if (path, name) in self._held:
            self._held.move_to_end((path, name))
            return self._held[path, name]
        group = self.group(path)
        if group is None or not self.holds(path, name):
            raise SeislatentError(f"{self.path} has no array of numbers {path}/{name}, which its table names")
        try:
            array = h5d.open(group, name.encode())
            found = array, self._shape(array, name), self._kind(array, f"{path}/{name}")
            self._here(array, f"{path}/{name}")
        except (OSError, RuntimeError, KeyError, ValueError, TypeError) as error:
            raise SeislatentError(f"{self.path}: {path}/{name} cannot be opened as an array: {one_line(error)}") from error
        if hold:
            self._held[path, name] = found
            while len(self._held) > _HELD:
                self._held.popitem(last=False)
        return found

    def _shape(self, array: Any, name: str) -> tuple[int, ...]:
        space = array.get_space()
        if space.get_simple_extent_type() != h5s.SIMPLE:
            raise SeislatentError(f"{self.path}: {name} is no array of numbers: it has no axes")
        return tuple(space.get_simple_extent_dims())

    def _kind(self, array: Any, name: str) -> np.dtype[Any]:
        """int32 and float32 where they hold every value of the stored type, else int64 and float64."""
        stored = array.get_type()
        kind, size = stored.get_class(), stored.get_size()
        if kind not in (h5t.INTEGER, h5t.FLOAT) or size > 8:
            raise SeislatentError(f"{self.path}: {name} is no array of numbers of at most 64 bits")
        if kind == h5t.FLOAT:
            return np.dtype(np.float32 if size <= 4 else np.float64)
        if size == 8 and stored.get_sign() == h5t.SGN_NONE:
            raise SeislatentError(f"{self.path}: {name} holds unsigned integers of 64 bits: store signed ones")
        return np.dtype(np.int32 if size < 4 or (size == 4 and stored.get_sign() == h5t.SGN_2) else np.int64)

    def _here(self, array: Any, name: str) -> None:
        plan = array.get_create_plist()
        layout = plan.get_layout()
        if layout == h5d.VIRTUAL or (layout == h5d.CONTIGUOUS and plan.get_external_count() > 0):
            raise SeislatentError(f"{self.path}: {name} keeps its samples in another file, which is refused")


def _selection(shape: tuple[int, ...], at: At, label: str) -> tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]:
    """First index and count along each axis, and the shape without the axes of which one index was asked for."""
    if len(at) > len(shape):
        raise SeislatentError(f"{label} has {len(shape)} axes, not the {len(at)} that the table asks for")
    start, count, kept = [], [], []
    for axis, length in enumerate(shape):
        part = at[axis] if axis < len(at) else slice(None)
        if isinstance(part, slice):
            first, end, _ = part.indices(length)
            start.append(first)
            count.append(max(0, end - first))
            kept.append(count[-1])
        else:
            if not -length <= part < length:
                raise SeislatentError(f"{label} cannot be read: index {part} lies outside its {length}")
            start.append(part % length)
            count.append(1)
    return tuple(start), tuple(count), tuple(kept)
