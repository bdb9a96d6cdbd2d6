"""Amplitude out of records and back: components without their means, records in [-1, 1]."""

from __future__ import annotations

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class Levelled:
    """Records without amplitude, and what gives it back: `x * scale + mean` is the record."""

    x: Float[Tensor, "batch channel time"]
    """Means of 0, and 1 as the largest absolute value of the record; silence stays 0."""
    mean: Float[Tensor, "batch channel 1"]
    scale: Float[Tensor, "batch 1 1"]

    def restore(self, y: Float[Tensor, "batch channel time"]) -> Float[Tensor, "batch channel time"]:
        """Records like `x` in the unit of those that were levelled."""
        return y * self.scale + self.mean


def levelled(x: Float[Tensor, "batch channel time"]) -> Levelled:
    """Each component less its mean, each record divided by one peak, so that its components keep their ratios.

    What is within 1e-6 of the record's largest value before the means are taken out is rounding of float32, and counts as silence.
    """
    top = x.abs().amax((1, 2), keepdim=True)
    unit = x / top.clamp_min(1e-37)  # no sum overflows
    mean = unit.mean(2, keepdim=True)
    moved = unit - mean
    peak = moved.abs().amax((1, 2), keepdim=True)
    live = peak > 1e-6
    y = (moved / peak.where(live, peak.new_ones(()))).where(live, moved.new_zeros(()))
    return Levelled(x=y, mean=mean * top, scale=(peak * top).where(live, peak.new_ones(())))
