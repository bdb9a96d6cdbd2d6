"""Two records side by side, without the samples that say nothing, and means that leave those out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from seislatent.errors import SeislatentError


@dataclass(frozen=True)
class Pair:
    """An estimate and its reference, both 0 where a sample is not valid."""

    estimate: Float[Tensor, "batch channel time"]
    reference: Float[Tensor, "batch channel time"]
    valid: Bool[Tensor, "batch channel time"] | None

    def mean(self, values: Float[Tensor, "batch ..."]) -> Float[Tensor, " batch"]:
        """Mean of each record over its valid samples, of values that are 0 where nothing differs.

        Values of another grid (frames, bands, wavelet coefficients) are summed over all of it and divided by the valid share of
        the samples. A record with no valid sample gives 0, with gradient 0.
        """
        mean = values.flatten(1).mean(1)
        if self.valid is None:
            return mean
        return mean / self.valid.flatten(1).to(mean).mean(1).clamp_min(torch.finfo(mean.dtype).tiny)


def pair(
    estimate: Float[Tensor, "batch channel time"],
    reference: Float[Tensor, "batch channel time"],
    valid: Bool[Tensor, "batch channel time"] | None = None,
) -> Pair:
    """The pair with what is not valid set to 0 in both: no value and no gradient comes from there, not even from a NaN.

    Raises SeislatentError where shapes differ: broadcasting would hide it behind a finite number.
    """
    if estimate.shape != reference.shape or estimate.ndim != 3:
        raise SeislatentError(
            f"estimate {list(estimate.shape)} and reference {list(reference.shape)}: give both as [batch channel time] of one shape"
        )
    if not estimate.shape[-1]:
        raise SeislatentError("records without samples have no loss: leave them out")
    if valid is None:
        return Pair(estimate, reference, None)
    if valid.shape != estimate.shape or valid.dtype is not torch.bool:
        raise SeislatentError(f"valid is {valid.dtype} {list(valid.shape)}: give booleans of shape {list(estimate.shape)}")
    zero = estimate.new_zeros(())
    return Pair(torch.where(valid, estimate, zero), torch.where(valid, reference, zero.to(reference)), valid)


def bent_root(square: Float[Tensor, " ..."], bend: float = 1e-6) -> Float[Tensor, " ..."]:
    """Square root that starts as a parabola: 0 with gradient 0 at 0, where the true root has no finite gradient."""
    return (square + bend**2).sqrt() - bend


def several_windows(windows: Sequence[int]) -> Sequence[int]:
    """The window lengths themselves, checked: at least one, each of at least 4 samples, so that a quarter of it is a hop."""
    if not windows or any(window < 4 for window in windows):
        raise SeislatentError(f"windows {list(windows)}: give one length or more, of at least 4 samples each")
    return windows
