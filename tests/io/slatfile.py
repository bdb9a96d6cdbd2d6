"""Small code files from whole numbers alone: no model, no rounding, the same bytes everywhere."""

import numpy as np

from seislatent.io.slat import Codes
from seislatent.io.slat_spool import Spool
from seislatent.io.slat_table import Head
from seislatent.waveform import Channel

HEAD = Head(codec="codec/plain", version="1", digest="0123456789abcdef", level=3, sampling_rate_hz=40.0, frame=40, hop=4, run=2)


def numbers(head, frames, seed):
    """Offsets, scales and indices of each run, by a little congruential generator."""
    state = seed
    runs = []
    for run in range(head.runs(frames)):
        lengths = head.lengths(frames, run)
        offsets, scales, indices = [], [], []
        for length in lengths:
            state = (state * 1103515245 + 12345) % 2**31
            offsets.append(state % 2001 - 1000)
            scale = np.full(length, state % 41 - 20, np.int64)
            scale[length // 2 :] += (state >> 8) % 3 * 13
            scales.append(scale)
            grid = np.arange(head.level)[:, None] * 331 + np.arange(length) * 77 + state
            indices.append(grid % 2**head.bits)
        runs.append((offsets, scales, indices))
    return runs


def spooled(head=HEAD, traces=(("AA", 25), ("BB", 3)), plain=()):
    """A spool of coded traces (station, frames) and traces stored as they are (station, samples)."""
    spool = Spool(head)
    for i, (station, frames) in enumerate(traces):
        for run in numbers(head, frames, 7 + i):
            spool.run(*run)
        channel = Channel(network="XX", station=station, code="HHZ", component="Z")
        common = dict(start_ns=10**18 + i, sampling_rate_hz=40.0, dtype="<i4", unit="counts")
        spool.trace(channel=channel, samples=frames * 40, frames=frames, **common)
    for station, data in plain:
        spool.samples(data)
        channel = Channel(network="XX", station=station, code="LOG", latitude_deg=-12.5, dip_deg=0.0)
        what = dict(channel=channel, start_ns=-5, sampling_rate_hz=1.0, samples=len(data), dtype=data.dtype.str)
        spool.trace(**what, reason="1 Hz is below 10 Hz")
    return spool


def small(**options) -> Codes:
    with spooled(**options) as spool:
        return Codes.read(spool.to_bytes())
