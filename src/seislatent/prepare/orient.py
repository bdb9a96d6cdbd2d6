"""From the sensor's axes to up, north and east, and back."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from obspy import Inventory

from seislatent.components import UNORIENTED
from seislatent.errors import SeislatentError
from seislatent.io.inventory import locate
from seislatent.waveform import Channel, Waveform

_MOST_SKEWED = 20.0
"""Condition number of the axes beyond which turning would blow up noise: two of them point almost the same way."""

_AXES = {"Z": (0.0, -90.0), "N": (0.0, 0.0), "E": (90.0, 0.0)}  # azimuth and dip in degrees


def axes_of(channels: Sequence[Channel]) -> NDArray[np.float64]:
    """Unit vectors [channel, (up, north, east)] along which each channel records, from azimuth and dip in degrees (SEED)."""
    azimuth = np.radians([c.azimuth_deg or 0.0 for c in channels])
    dip = np.radians([c.dip_deg or 0.0 for c in channels])
    return np.stack([-np.sin(dip), np.cos(dip) * np.cos(azimuth), np.cos(dip) * np.sin(azimuth)], axis=1)


def orient(waveform: Waveform, inventory: Inventory | str | Path | None = None) -> Waveform:
    """A record of one station turned to Z, N and E; `restore` turns it back.

    Directions come from the inventory, or from azimuth and dip of the channels (SAC headers, azimuth-named codes); they need not
    be orthogonal. Three rows give Z, N, E, two horizontal ones N, E, and one vertical Z. Any other record, and one without
    directions, comes back as it is with a line in its history that begins with `unoriented`.

    Args:
        waveform: rows of one station, any order.
        inventory: StationXML, or ObsPy's Inventory.

    Raises:
        SeislatentError: two directions of a record are (almost) the same; the line names the ids.
    """
    if inventory is not None:
        (waveform,) = locate([waveform], inventory)
    channels = waveform.channels
    names = ", ".join(c.component or "?" for c in channels)
    unknown = [c.id for c in channels if c.dip_deg is None or (c.azimuth_deg is None and abs(c.dip_deg) != 90)]
    if unknown:
        return _unturned(waveform, f"components {names} as recorded, no azimuth and dip for {', '.join(unknown)}")
    axes = axes_of(channels)
    wanted = _wanted(axes)
    if wanted is None:
        return _unturned(waveform, f"components {names} as recorded, they do not span Z, N and E")
    matrix = axes[:, ["ZNE".index(c) for c in wanted]]
    condition = np.linalg.cond(matrix)
    if condition > _MOST_SKEWED:
        raise SeislatentError(
            f"{', '.join(waveform.ids)} point almost the same way (condition number {condition:.3g}):"
            " correct azimuth and dip, or leave the record as it is"
        )
    turned = np.linalg.solve(matrix, waveform.data.astype(np.float64))
    dtype = np.float32 if waveform.data.dtype == np.float32 else np.float64
    kept: dict[str, Any] = {"recorded_channels": channels, "recorded_dtype": waveform.data.dtype.name}
    directions = f"azimuths {_list(channels, 'azimuth_deg')} and dips {_list(channels, 'dip_deg')}"
    return waveform.with_data(
        turned.astype(dtype),
        did=f"oriented: {names} at {directions} to {', '.join(wanted)}",
        channels=tuple(_turned_channel(channels, axes, c) for c in wanted),
        metadata=waveform.metadata | kept,
    )


def restore(waveform: Waveform) -> Waveform:
    """A record that `orient` has turned, back on the axes, ids and number type of its sensor; others come back as they are.

    Integers are rounded, so that a record that was not changed in between comes back to the bit.

    Raises:
        SeislatentError: a component that was there when the record was turned is missing now.
    """
    if "recorded_channels" not in waveform.metadata:
        return waveform
    channels: tuple[Channel, ...] = waveform.metadata["recorded_channels"]
    dtype = np.dtype(waveform.metadata["recorded_dtype"])
    axes = axes_of(channels)
    wanted = _wanted(axes) or ""
    rows = [waveform.components.index(c) for c in wanted if c in waveform.components]
    if len(rows) != len(wanted) or len(waveform.channels) != len(wanted):
        raise SeislatentError(
            f"{', '.join(waveform.ids)} cannot be turned back: it was turned to {', '.join(wanted)}; keep these rows"
        )
    data = axes[:, ["ZNE".index(c) for c in wanted]] @ waveform.data[rows].astype(np.float64)
    if dtype.kind in "iu":
        limit = np.iinfo(dtype)
        data = np.clip(np.rint(data), limit.min, limit.max)
    metadata = {k: v for k, v in waveform.metadata.items() if not k.startswith("recorded_")}
    return waveform.with_data(data.astype(dtype), did="turned back to the sensor's axes", channels=channels, metadata=metadata)


def _unturned(waveform: Waveform, why: str) -> Waveform:
    return waveform.with_data(waveform.data, did=f"{UNORIENTED}: {why}")


def _wanted(axes: NDArray[np.float64]) -> str | None:
    """The components that these axes can be turned to, None where that is not all of what they record."""
    vertical, level = np.abs(axes[:, 0]), np.hypot(axes[:, 1], axes[:, 2])
    if len(axes) == 3:
        return "ZNE"
    if len(axes) == 2 and (vertical < 1e-6).all():
        return "NE"
    return "Z" if len(axes) == 1 and level[0] < 1e-6 else None


def _turned_channel(channels: Sequence[Channel], axes: NDArray[np.float64], component: str) -> Channel:
    """Identity of an output row: that of the recorded channel nearest to it, its last letter changed."""
    nearest = channels[int(np.argmax(np.abs(axes[:, "ZNE".index(component)])))]
    code = nearest.code
    if code and code[-1] != component and len(code) in (3, 5) and nearest.component == code[-1].upper():
        code = code[:-1] + component
    elif nearest.component != component:
        code = component
    azimuth, dip = _AXES[component]
    return replace(nearest, code=code, component=component, azimuth_deg=azimuth, dip_deg=dip)


def _list(channels: Sequence[Channel], name: str) -> str:
    return ", ".join("-" if getattr(c, name) is None else f"{getattr(c, name):g}" for c in channels)


def gather(waveforms: Iterable[Waveform]) -> list[Waveform]:
    """Waveforms of one channel put together to records of one station and sensor, over the time that they share.

    Rows belong together when network, station, location and the code without its last letter agree, rate, unit and type are the
    same, and they overlap in time to within half a sample of one grid. What has no partner stays alone.
    """
    groups: dict[tuple[Any, ...], list[list[Waveform]]] = {}
    for one in waveforms:
        if len(one.channels) != 1 or one.data.dtype.kind in "SU":
            groups[(id(one),)] = [[one]]
            continue
        c = one.channels[0]
        key = (c.network, c.station, c.location, _stem(c), one.sampling_rate_hz, one.unit, one.data.dtype.str)
        sets = groups.setdefault(key, [])
        for members in sets:
            if c.component not in {m.components[0] for m in members} and _shared([*members, one]):
                members.append(one)
                break
        else:
            sets.append([one])
    return [_stacked(members) for sets in groups.values() for members in sets]


def _stem(channel: Channel) -> str:
    """What the codes of one sensor share: BH of BHZ, nothing of EW."""
    code = channel.code
    return code[:-1] if len(code) == 3 and channel.component == code[-1].upper() else code.rsplit("_", 1)[0] if "_" in code else ""


def _shared(members: list[Waveform]) -> tuple[list[int], int] | None:
    """First sample of each member and the number of samples in the time that they share; None where they share none."""
    rate = members[0].sampling_rate_hz
    start = max(m.start_ns for m in members)
    first = [round((start - m.start_ns) * rate / 1e9) for m in members]
    count = min(m.data.shape[1] - a for m, a in zip(members, first, strict=True))
    return (first, count) if count > 0 else None


def _stacked(members: list[Waveform]) -> Waveform:
    shared = _shared(members)
    if len(members) == 1 or shared is None:
        return members[0]
    first, count = shared
    order = sorted(range(len(members)), key=lambda i: ("ZNE123".find(members[i].components[0]) % 99, members[i].ids))
    start = max(members, key=lambda m: m.start_ns)
    return replace(
        start, data=np.concatenate([members[i].data[:, first[i] : first[i] + count] for i in order]),
        channels=tuple(members[i].channels[0] for i in order), history=members[order[0]].history,
        metadata=dict(members[order[0]].metadata),
    )  # fmt: skip
