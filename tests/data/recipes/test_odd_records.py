"""Records that nobody expects, through every recipe: each gives finite windows or a reason, and no other error."""

from __future__ import annotations

import numpy as np
import pytest

from seislatent import stores
from seislatent.data.recipe import Made, Rejected
from seislatent.errors import SeislatentError
from seislatent.waveform import Channel, Waveform

LETTERS = ("ZNE", "ZNE", "Z12", "ZZE", "ZRT", "Z23", "   ")


def samples(rng, count):
    """Three channels of any type and size; some hold what is no number."""
    kind = rng.choice(["i4", "f4", "f8", "i8", "i2", "S1"])
    if kind == "S1":
        return np.full((3, count), b"a", "S1")
    x = rng.normal(0, rng.choice([0, 1e-300, 1e-12, 1, 1e9, 1e300]), (3, count))
    if kind[0] == "i":
        return np.clip(x, -30000, 30000).astype(kind)
    with np.errstate(over="ignore", under="ignore"):
        x = x.astype(kind)
    if count and rng.random() < 0.4:
        x[rng.integers(3), rng.integers(count)] = rng.choice([np.nan, np.inf, -np.inf])
    return x


def odd(rng):
    """A record of any length, rate, time, unit and with metadata of any kind."""

    def one(*values):
        return values[rng.integers(len(values))]

    data = samples(rng, one(0, 1, 2, 100, 6000, 9000, 9001))
    rate = 0.0 if data.dtype.kind == "S" else one(100.0, 100.0, 100.0, 50.0, 20.0, 99.9987, 0.1, 200.0, 8000.0)
    letters = one(*LETTERS)
    codes = (one("HH", "HN", "HL", "B") + letter for letter in letters)
    channels = tuple(Channel(network="XX", station="A", code=c, component=c[-1].strip()) for c in codes)
    told = {
        "trace_name": "odd", "dataset": "set", "label": "eq", "trace_label_start_sample": one(0, 5.0, -3),
        "trace_label_end_sample": one(6000, 1e6),
        "trace_p_arrival_sample": one(3000.4, 0, -5, 1e9, np.nan, None, "x", np.inf, True),
        "source_magnitude": one(3.5, 5.0, np.nan, None, "big", 99, -np.inf), "source_id": one("e", None, np.nan, ""),
        "source_type": one("earthquake", "explosion", None, "??"),
        "source_origin_time": one("2020-01-01T00:00:00Z", "never", None, 5),
        "source_origin_sample": one(None, 10.0, np.nan, -1e12), "source_depth_km": one(10.0, np.nan, -3, 1e5),
        "path_ep_distance_km": one(10.0, np.nan, -5, 1e9, "far"), "trace_start_time": one("2020-01-01T00:00:00Z", "", "noon"),
    }  # fmt: skip
    start = one(0, 10**18, -(10**18), 2**61, 1_577_836_800 * 10**9)
    unit = one(None, "counts", "m/s", "cm/s^2", "m", "furlong")
    return Waveform(data=data, sampling_rate_hz=rate, channels=channels, start_ns=start, unit=unit, metadata=told)


TAKERS = [name for name in stores.presets() if not stores.recipe(stores.preset(name)).from_nothing]
"""Recipes that make records of records."""


@pytest.mark.parametrize("name", TAKERS)
@pytest.mark.filterwarnings("ignore:overflow", "ignore:invalid value")
def test_every_record_gives_windows_or_a_reason(name):
    recipe, rng = stores.recipe(stores.preset(name)), np.random.default_rng(4)
    seen = {Made: 0, Rejected: 0}
    for _ in range(150):
        try:
            found = list(recipe.make([odd(rng)], [np.random.default_rng(0)]))
        except SeislatentError:  # counted by `preparing`
            seen[Rejected] += 1
            continue
        assert found, "what gives nothing gives a reason"
        for made in found:
            seen[type(made)] += 1
            if isinstance(made, Made) and made.record.data.dtype.kind == "f":
                assert np.isfinite(made.record.data).all() and all(np.isfinite(x).all() for x in made.others.values())
    assert seen[Rejected] > 20
