"""Amplitude as whole numbers: a segment's offset, and a scale that follows it where amplitudes jump by decades.

    x [b t] --measure--> offset [b], scale [b f]      both whole numbers, exactly what the code file stores
    x [b t] --normalise(offset, scale)--> y [b t]     about unit variance, float32
    y [b t] --restore(offset, scale)--> x [b t]       float64, in the unit of x

A scale step is a factor 2^(1/4) (1.5 dB), so steps -400 to 400 reach from 1e-30 to 1e30. The scale of a frame is constant over a
segment unless the amplitude (the largest root mean square of a frame and its two neighbours) leaves a decade around the first
frame of the piece; then a new piece begins. Between the middles of two frames the scale is interpolated in its logarithm, so that
a jump of the scale is never a step in the signal. The offset is the median of the frames' means (an earthquake in one half of a
segment does not pull it away from the quiet half) in steps of an eighth of the least scale, rounded down to a power of two.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Float, Int
from torch import Tensor

LOWEST, HIGHEST = -400, 400
"""Range of a scale step; the lowest one means silence and restores zeros."""
STEPS_PER_OCTAVE = 4
DECADE = math.log2(10.0)
FAINTEST = 40
"""A scale is never below 2^-40 of the offset: what lies deeper is rounding, and offsets stay below 2^44 steps."""
LOUDEST = 64.0
"""Context around a segment is cut at this many scales, so that an earthquake next door does not blind the encoder."""


def measure(x: Float[Tensor, "batch time"], frame: int) -> tuple[Int[Tensor, " batch"], Int[Tensor, "batch frame"]]:
    """Offset and scale of segments whose length is a multiple of `frame` samples."""
    x = x.double()
    mean = x.unflatten(1, (-1, frame)).mean(2).median(1, keepdim=True).values
    power = (x - mean).unflatten(1, (-1, frame)).square().mean(2)
    padded = torch.nn.functional.pad(power, (1, 1))
    level = 0.5 * padded.unfold(1, 3, 1).amax(2).clamp_min(1e-70).log2()  # [b f]
    piece = torch.zeros_like(level, dtype=torch.long)
    reference = level[:, 0].clone()
    for f in range(1, level.shape[1]):
        jump = (level[:, f] - reference).abs() > DECADE
        piece[:, f] = piece[:, f - 1] + jump
        reference = torch.where(jump, level[:, f], reference)
    sums = torch.zeros_like(power).scatter_add_(1, piece, power)
    counts = torch.zeros_like(power).scatter_add_(1, piece, torch.ones_like(power))
    mean_power = (sums / counts.clamp_min(1)).gather(1, piece)
    scale = (0.5 * STEPS_PER_OCTAVE * mean_power.clamp_min(1e-70).log2()).round().long()
    floor = STEPS_PER_OCTAVE * (mean.abs().clamp_min(1e-35).log2().floor().long() - FAINTEST)
    scale = torch.maximum(scale, floor).clamp(LOWEST, HIGHEST)
    offset = torch.ldexp(mean[:, 0], -exponent(scale)).round().long()
    return offset, scale


def exponent(scale: Int[Tensor, "batch frame"]) -> Int[Tensor, " batch"]:
    """The offset counts in steps of 2 to this power: an eighth of the segment's least scale, rounded down to a power of two."""
    return torch.div(scale.amin(1), STEPS_PER_OCTAVE, rounding_mode="floor") - 3


def predicted(offset: int, least_scale: int, next_least_scale: int) -> int:
    """A segment's offset as its predecessor foretells it, in its own steps. Exact in whole numbers."""
    shift = least_scale // STEPS_PER_OCTAVE - next_least_scale // STEPS_PER_OCTAVE
    return offset << shift if shift >= 0 else (offset + (1 << (-shift - 1))) >> -shift


def amplitude(scale: Int[Tensor, "batch frame"], frame: int, margin: int = 0) -> Float[Tensor, "batch time"]:
    """The scale at every sample, and over `margin` samples before and after, where it keeps its end values."""
    more = -(-margin // frame) + 1
    before, after = scale[:, :1].expand(-1, more), scale[:, -1:].expand(-1, more)
    steps = torch.cat([before, scale, after], 1).double()
    where = torch.arange(frame, dtype=torch.double, device=scale.device) / frame  # from one frame's middle to the next
    between = steps[:, :-1, None] + (steps[:, 1:] - steps[:, :-1])[:, :, None] * where
    start = frame * more - frame // 2 - margin
    end = start + 2 * margin + scale.shape[1] * frame
    return torch.exp2(between.flatten(1)[:, start:end] / STEPS_PER_OCTAVE)


def normalise(
    x: Float[Tensor, "batch time"], offset: Int[Tensor, " batch"], scale: Int[Tensor, "batch frame"], frame: int, margin: int = 0
) -> Float[Tensor, "batch time"]:
    """(x - offset) / scale as float32; `x` may carry `margin` samples of context on both sides."""
    centred = x.double() - torch.ldexp(offset.double(), exponent(scale))[:, None]
    return (centred / amplitude(scale, frame, margin)).clamp(-LOUDEST, LOUDEST).float()


def restore(
    y: Float[Tensor, "batch time"], offset: Int[Tensor, " batch"], scale: Int[Tensor, "batch frame"], frame: int
) -> Float[Tensor, "batch time"]:
    """Back to y * scale + offset as float64. Silence (the lowest scale) comes back as nothing but the offset."""
    sound = (scale > LOWEST).repeat_interleave(frame, 1)
    level = torch.ldexp(offset.double(), exponent(scale))[:, None]
    return y.double() * torch.where(sound, amplitude(scale, frame), 0.0) + level
