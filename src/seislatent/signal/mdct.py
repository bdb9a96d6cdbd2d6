"""Modified discrete cosine transform (MDCT) with blocks of any even lengths, there and back.

    x [time] --rotate samples across each border--> --DCT-IV of each block--> coefficients [time]

As many coefficients as samples, and orthonormal: energies and squared errors are the same on both sides. A block overlaps its
neighbour by the shorter of the two, half of that on either side of their border, so that blocks of different lengths stand side by
side (Princen and Bradley 1986, doi:10.1109/TASSP.1986.1164954; window switching: Edler 1989). There is no overlap beyond the ends.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache

import torch
from jaxtyping import Float
from torch import Tensor

from seislatent.errors import SeislatentError


def mdct(x: Float[Tensor, "*trace time"], block: int) -> Float[Tensor, "*trace frame coefficient"]:
    """Blocks of one even length, sine window; coefficient k of a block of n samples stands for (k + 1/2) / (2 n) of the rate.

    Raises:
        SeislatentError: a block that is odd, or of which no whole number makes up the record.
    """
    return switched_mdct(x, _equal(x.shape[-1], block)).unflatten(-1, (-1, block))


def inverse_mdct(coefficients: Float[Tensor, "*trace frame coefficient"]) -> Float[Tensor, "*trace time"]:
    """The record whose `mdct` this is, exactly but for rounding."""
    frames, block = coefficients.shape[-2:]
    return inverse_switched_mdct(coefficients.flatten(-2), [block] * frames)


def switched_mdct(x: Float[Tensor, "*trace time"], blocks: Sequence[int]) -> Float[Tensor, "*trace time"]:
    """Coefficients, block after block, low frequencies first.

    Args:
        x: records, float32 or float64.
        blocks: length of each block in samples: even, together as long as the record.

    Raises:
        SeislatentError: lengths that are odd or do not fill the record.
    """
    lengths = _checked(x.shape[-1], blocks)
    return _cosines(_rotated(x, lengths, back=False), lengths)


def inverse_switched_mdct(coefficients: Float[Tensor, "*trace time"], blocks: Sequence[int]) -> Float[Tensor, "*trace time"]:
    """The record whose `switched_mdct` with these blocks this is, exactly but for rounding."""
    lengths = _checked(coefficients.shape[-1], blocks)
    return _rotated(_cosines(coefficients, lengths), lengths, back=True)


def _equal(time: int, block: int) -> list[int]:
    if block < 2 or block % 2 or time % block:
        raise SeislatentError(f"blocks of {block} samples in a record of {time}: give an even length of which it is a multiple")
    return [block] * (time // block)


def _checked(time: int, blocks: Sequence[int]) -> Tensor:
    lengths = torch.as_tensor(blocks, dtype=torch.int64).cpu()
    if lengths.ndim != 1 or int(lengths.sum()) != time or (lengths < 2).any() or (lengths % 2).any():
        raise SeislatentError(f"{len(lengths)} blocks, {int(lengths.sum())} samples long, for a record of {time}: give even lengths"
                              " that fill it")  # fmt: skip
    return lengths


def _rotated(x: Tensor, lengths: Tensor, back: bool) -> Tensor:
    """Each sample before a border and its mirror image behind it, turned by the angle of the sine window at that place.

    With all of one length this is the window, the folding and their inverse of the textbooks, as one orthonormal step.
    """
    borders = lengths.cumsum(0)[:-1]
    overlap = torch.minimum(lengths[:-1], lengths[1:])
    y = x.clone()
    for shared in overlap.unique().tolist():
        away = torch.arange(shared // 2)
        angle = math.pi / (2 * shared) * (shared // 2 + away.double() + 0.5)
        c, s = (f(angle).to(x) for f in (torch.sin, torch.cos))
        s = -s if back else s
        at = borders[overlap == shared, None]
        first, second = (at - 1 - away).to(x.device), (at + away).to(x.device)
        before, after = x[..., first], x[..., second]
        y[..., first] = c * before - s * after
        y[..., second] = c * after + s * before
    return y


def _cosines(x: Tensor, lengths: Tensor) -> Tensor:
    """DCT-IV of each block, its own inverse."""
    starts = lengths.cumsum(0) - lengths
    y = torch.empty_like(x)
    for length in lengths.unique().tolist():
        inside = (starts[lengths == length, None] + torch.arange(length)).to(x.device)
        y[..., inside] = x[..., inside] @ _matrix(length).to(x)
    return y


@lru_cache(maxsize=16)
def _matrix(length: int) -> Tensor:
    with torch.inference_mode(False):  # or the matrix could not be used where gradients are taken
        place = torch.arange(length, dtype=torch.float64) + 0.5
        return math.sqrt(2 / length) * torch.cos(math.pi / length * place[:, None] * place)
