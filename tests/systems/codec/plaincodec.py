"""A codec without training for tests: a cosine transform of each frame, rounded, two coefficients in a book."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import torch
from torch import nn

from seislatent.signal import gain
from seislatent.systems.base import Tokens


class PlainCodec(nn.Module):
    """Each book is a grid of 32 x 32 over the first two cosine coefficients of what is left; enough to tell levels apart."""

    sampling_rate_hz, books, bits_per_index = 40.0, 8, 10

    def __init__(self, frame: int = 40, margin: int = 80):
        super().__init__()
        self.frame, self.margin = frame, margin
        t = (torch.arange(frame) + 0.5) / frame
        basis = torch.stack([torch.cos(math.pi * k * t) for k in range(2 * self.books)])
        self.register_buffer("basis", basis / basis.norm(dim=1, keepdim=True))
        self.calls: list[tuple[int, ...]] = []

    def encode(self, x, margin=0, ends=None):
        self.calls.append(tuple(x.shape))
        inner = x[:, 0, margin : x.shape[2] - margin]
        offset, scale = gain.measure(inner, self.frame)
        wide = gain.normalise(x[:, 0], offset, scale, self.frame, margin)
        edges = torch.nn.functional.avg_pool1d(wide[:, None], 5, 1, 2)[:, 0]  # so that the context shows in the codes
        y = (0.5 * (wide + edges))[:, margin : wide.shape[1] - margin]
        z = y.unflatten(1, (-1, self.frame)) @ self.basis.T.float()  # [b f 2 books]
        step = 2.0 * math.sqrt(self.frame) / 16
        grid = (z / step).round().clamp(-16, 15).long() + 16
        pairs = grid.unflatten(2, (self.books, 2))
        return Tokens(indices=(pairs[..., 0] * 32 + pairs[..., 1]).transpose(1, 2), offset=offset, scale=scale)

    def decode(self, tokens, level=None):
        indices = tokens.indices[:, :level].transpose(1, 2)
        pairs = torch.stack([indices // 32, indices % 32], 3).flatten(2) - 16
        z = pairs * (2.0 * math.sqrt(self.frame) / 16)
        y = (z.double() @ self.basis[: z.shape[2]].double()).flatten(1)
        return gain.restore(y, tokens.offset, tokens.scale, self.frame)[:, None]


@dataclass
class PlainModel:
    """As `seislatent.catalog.Model` looks to the stream encoder."""

    system: PlainCodec = field(default_factory=PlainCodec)
    name: str = "codec/plain"
    version: str = "1"
    digest: str = "0123456789abcdef"
