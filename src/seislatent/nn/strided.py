"""Convolutions that halve the time at each layer, and their mirror: the networks of Kong et al. (figure 1).

    x [b c0 t] --kernel 3, stride 2, ReLU--> [b c1 t/2] --...--> z [b cn t/2^n]          StridedEncoder
    z --transposed, kernel 3, stride 2, ReLU--> ... --transposed, linear--> y [b c0 t]   StridedDecoder

The paper writes these as two-dimensional, kernels (3, 1) and strides (2, 1) on images one pixel high, which is the same thing.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from seislatent.errors import SeislatentError


def halvings(samples: int, frames: int) -> int:
    """Layers after which `samples` have become `frames`; a half sample is rounded up: 540, 270, 135, 68, 34, 17.

    Raises:
        SeislatentError: there is no such number of layers.
    """
    lengths = [samples]
    while lengths[-1] > 1:
        lengths.append((lengths[-1] + 1) // 2)
    if frames not in lengths[1:]:
        raise SeislatentError(f"{samples} samples halved never make {frames}: give one of {', '.join(map(str, lengths[1:]))}")
    return lengths.index(frames)


def widths(layers: int, first: Sequence[int], maps: int) -> tuple[int, ...]:
    """Maps of every layer: those of `first`, then `maps` in each deeper one; the last layer has `maps` in any case."""
    return (*first[: layers - 1], *[maps] * (layers - len(first[: layers - 1])))


class StridedEncoder(nn.Module):
    """A convolution of kernel 3 and stride 2, and a ReLU, per entry of `maps`; lengths are halved and rounded up."""

    def __init__(self, channels: int, maps: Sequence[int]):
        super().__init__()
        self.layers = nn.ModuleList(nn.Conv1d(a, b, 3, stride=2, padding=1) for a, b in pairwise((channels, *maps)))

    def forward(self, x: Float[Tensor, "batch channel time"]) -> Float[Tensor, "batch map frame"]:
        """[b channels t] -> [b maps[-1] t / 2^layers], all values 0 or more."""
        for layer in self.layers:
            x = F.relu(layer(x))
        return x


class StridedDecoder(nn.Module):
    """The encoder's mirror: a transposed convolution per layer, a ReLU behind each but the last; gives `samples` back."""

    def __init__(self, channels: int, maps: Sequence[int], samples: int):
        super().__init__()
        lengths = [samples]
        for _ in maps:
            lengths.append((lengths[-1] + 1) // 2)
        layers = [
            nn.ConvTranspose1d(b, a, 3, stride=2, padding=1, output_padding=1 - lengths[i] % 2)
            for i, (a, b) in enumerate(pairwise((channels, *maps)))
        ]
        self.layers = nn.ModuleList(reversed(layers))

    def forward(self, z: Float[Tensor, "batch map frame"]) -> Float[Tensor, "batch channel time"]:
        """[b maps[-1] frames] -> [b channels samples]."""
        for layer in self.layers[:-1]:  # type: ignore[union-attr]
            z = F.relu(layer(z))
        y: Tensor = self.layers[-1](z)
        return y
