"""When P and S arrive: first arrivals of a standard Earth model, out of a table that ships with the package.

The table holds apparent slownesses: travel time over the straight line from source to station. Around a source it hardly changes,
so that between its nodes even the cone of times above a shallow source comes out right. Made from the ray curves of ObsPy's TauP
(Crotwell et al., 1999) by

    python -m seislatent.data.travel_times

in about eight minutes; to read times out of it needs no TauP. Model: iasp91 (Kennett and Engdahl, 1991).
"""

from __future__ import annotations

import os
import uuid
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]

MODEL = "iasp91"
RADIUS_KM = 6371.0
KM_PER_DEGREE = np.pi * RADIUS_KM / 180
FARTHEST_KM = 95 * KM_PER_DEGREE
"""Beyond 95 degrees the core's shadow begins: no times are given there."""
DEEPEST_KM = 700.0

_FIRST = {"p": ("p", "P", "Pn", "Pdiff"), "s": ("s", "S", "Sn", "Sdiff")}
"""TauP's phases among which the first is taken; Pg and Pb are p and P by another name, SKS is no S."""


def arrivals_s(distance_km: ArrayLike, depth_km: ArrayLike) -> tuple[Array, Array]:
    """Travel times of the first P and the first S in seconds after the origin.

    Within 0.05 s of TauP to 1000 km and within 0.1 s to 95 degrees. S is the first of s, S, Sn and Sdiff; SKS, which overtakes
    it beyond 82 degrees, is not asked.

    Args:
        distance_km: along the surface of a sphere of 6371 km (111.19 km to a degree), any shape.
        depth_km: of the source, any shape that fits; above sea level counts as 0.

    Returns:
        Two arrays of the common shape; NaN where distance or depth is missing, beyond 95 degrees or 700 km deep.
    """
    distance, depth = np.broadcast_arrays(np.asarray(distance_km, np.float64), np.asarray(depth_km, np.float64))
    known = (distance >= 0) & (distance <= FARTHEST_KM) & (depth <= DEEPEST_KM)  # NaN is none of these
    x, z = np.where(known, distance, 0.0), np.where(known, np.maximum(depth, 0.0), 0.0)
    table = _table()
    i, u = _place(table["depth_km"], z)
    j, v = _place(table["distance_km"], x)
    line = np.where(known, _straight_km(x, z), np.nan)

    def time(slowness: NDArray[np.float32]) -> Array:
        near = slowness[i, j] * (1 - v) + slowness[i, j + 1] * v
        far = slowness[i + 1, j] * (1 - v) + slowness[i + 1, j + 1] * v
        return np.asarray((near * (1 - u) + far * u) * line)

    return time(table["p_s_per_km"]), time(table["s_s_per_km"])


def _place(nodes: Array, value: Array) -> tuple[NDArray[np.int64], Array]:
    """The node before each value, and the share of the way to the next one."""
    at = np.clip(np.searchsorted(nodes, value, side="right") - 1, 0, len(nodes) - 2)
    return at, (value - nodes[at]) / (nodes[at + 1] - nodes[at])


def _straight_km(distance_km: Array, depth_km: Array) -> Array:
    """Length of the straight line through the sphere."""
    inner = RADIUS_KM - depth_km
    return np.sqrt(depth_km**2 + 4 * RADIUS_KM * inner * np.sin(distance_km / RADIUS_KM / 2) ** 2)


@cache
def _table() -> dict[str, NDArray[Any]]:
    with resources.files("seislatent.data").joinpath("travel_times.npz").open("rb") as handle:
        return {name: values for name, values in np.load(handle, allow_pickle=False).items()}


def nodes() -> tuple[Array, Array]:
    """Depths and distances in km at which the table stands: dense where times bend, with the model's layers among the depths."""
    depths = [(0, 42, 1.0), (42.5, 80, 2.5), (80, 250, 10.0), (250, 701, 25.0), (410, 411, 1.0), (660, 661, 1.0)]
    distances = [(0.0, 20.0, 1.0), (20, 400, 2.5), (400, 1000, 5.0), (1000, 3400, 20.0), (3400, FARTHEST_KM, 50.0)]
    distances.append((FARTHEST_KM, FARTHEST_KM + 1, 1.0))
    z, x = (np.unique(np.concatenate([np.arange(*part) for part in parts])) for parts in (depths, distances))
    return z, x


def tabulate(depths_km: Array, distances_km: Array) -> dict[str, Any]:
    """The table's arrays from TauP: slownesses [depth distance] in s/km, of the straight line, for P and S."""
    from obspy.taup import TauPyModel
    from obspy.taup.seismic_phase import SeismicPhase

    model = TauPyModel(MODEL).model
    out: dict[str, Any] = {"depth_km": depths_km, "distance_km": distances_km}
    for wave, names in _FIRST.items():
        times = np.full((len(depths_km), len(distances_km)), np.inf)
        for i, depth in enumerate(depths_km):
            corrected = model.depth_correct(depth)
            for phase in (SeismicPhase(name, corrected) for name in names):
                for j, distance in enumerate(distances_km):
                    found = [arrival.time for arrival in phase.calc_time(distance / KM_PER_DEGREE)]
                    times[i, j] = min([times[i, j], *found])
        line = _straight_km(distances_km, depths_km[:, None])
        with np.errstate(invalid="ignore"):
            slowness = times / line
        slowness[line == 0] = slowness[0, 1]  # no time over no way: as beside it
        out[f"{wave}_s_per_km"] = slowness.astype(np.float32)
    return out


def main() -> None:
    """Write the package's table anew."""
    path = Path(__file__).with_name("travel_times.npz")
    temporary = path.with_name(f".{uuid.uuid4().hex}.npz")
    np.savez_compressed(temporary, **tabulate(*nodes()))
    os.replace(temporary, path)


if __name__ == "__main__":
    main()
