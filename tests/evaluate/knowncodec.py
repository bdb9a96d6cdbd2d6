"""A codec whose error is known in advance, and records on which it makes it."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import torch

from seislatent.systems.base import Codec, System, Tokens
from seislatent.waveform import Channel, Waveform


class KnownCodec(System, Codec):
    """Stores the first sample of each frame, a whole number from -512 to 511; level k gives it back 10^-k too small.

    On records that are constant within each frame level 1 has 20 dB, level 2 40 dB, and without the quantiser it is 60 dB.
    """

    sampling_rate_hz, books, bits_per_index, bits_per_second = 40.0, 2, 10, 10.0
    frame, margin = 40, 80

    def __init__(self):
        super().__init__(None)

    def encode(self, x, margin=0, ends=None):
        value = x[:, 0, margin : x.shape[2] - margin : self.frame].round().long()
        indices = torch.stack([value + 512] * self.books, 1)
        zero = torch.zeros(len(x), dtype=torch.long)
        return Tokens(indices=indices, offset=zero, scale=torch.zeros_like(value))

    def decode(self, tokens, level=None):
        level = level or tokens.indices.shape[1]
        value = (tokens.indices[:, 0] - 512).double() * (1 - 10.0**-level)
        return value.repeat_interleave(self.frame, 1)[:, None]

    def unquantised(self, x):
        return x * 0.999


@dataclass
class KnownModel:
    """As `seislatent.load` gives one."""

    system: KnownCodec = field(default_factory=KnownCodec)
    name: str = "codec/known"
    version: str = "1"
    digest: str = "0123456789abcdef"


def square(frames=60, amplitude=100, rate=40.0, station="AAA", event="one", split="test", start=10**18, rows=1, **changes):
    """A record that is +amplitude and -amplitude in turn, a second each."""
    data = np.tile(np.repeat(np.resize([amplitude, -amplitude], frames), round(rate)).astype(np.int32), (rows, 1))
    channels = tuple(Channel(network="XX", station=station, code=f"BH{c}", component=c) for c in "ZNE"[:rows])
    about = {"source_id": event, "split": split}
    return Waveform(
        **{"data": data, "sampling_rate_hz": rate, "channels": channels, "start_ns": start, "metadata": about, "unit": "counts"}
        | changes
    )
