"""Distances between samples, one value per record."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from seislatent.losses.pairs import pair
from seislatent.losses.precision import in_full

FLOOR = 1e-8
"""Mean square under which a record counts as silent: 80 dB below unit variance."""


@in_full
def absolute_error(
    estimate: Float[Tensor, "batch channel time"],
    reference: Float[Tensor, "batch channel time"],
    valid: Bool[Tensor, "batch channel time"] | None = None,
) -> Float[Tensor, " batch"]:
    """Mean |estimate - reference| over the valid samples (MAE; seed 004, equation 2.53 with p = 1).

    0 to infinity, in the unit of the records; its gradient has one size however small the error. Blind to where the error lies
    and to its sign; a loud record outweighs a quiet one.
    """
    both = pair(estimate, reference, valid)
    return both.mean((both.estimate - both.reference).abs())


@in_full
def squared_error(
    estimate: Float[Tensor, "batch channel time"],
    reference: Float[Tensor, "batch channel time"],
    valid: Bool[Tensor, "batch channel time"] | None = None,
) -> Float[Tensor, " batch"]:
    """Mean (estimate - reference)^2 over the valid samples (MSE; seed 004, equation 2.53 with p = 2, its power restored).

    0 to infinity, in the unit of the records squared. Blind to where the error lies, in time and in frequency (Parseval).
    """
    both = pair(estimate, reference, valid)
    return both.mean((both.estimate - both.reference).square())


@in_full
def relative_squared_error(
    estimate: Float[Tensor, "batch channel time"],
    reference: Float[Tensor, "batch channel time"],
    floor: float = FLOOR,
    *,
    valid: Bool[Tensor, "batch channel time"] | None = None,
) -> Float[Tensor, " batch"]:
    """Quotient mean (estimate - reference)^2 / (mean reference^2 + floor): the inverse of the signal-to-noise ratio in power.

    No unit, 0 to infinity; an estimate of zeros gives nearly 1. Give records of about unit variance: `floor` is in their unit
    squared, and keeps silence finite. Blind to where the error lies: one burst and a steady hum of equal energy weigh the same.
    """
    both = pair(estimate, reference, valid)
    error = both.mean((both.estimate - both.reference).square())
    return error / (both.mean(both.reference.square()) + floor)


@in_full
def negative_snr(
    estimate: Float[Tensor, "batch channel time"],
    reference: Float[Tensor, "batch channel time"],
    floor: float = FLOOR,
    *,
    valid: Bool[Tensor, "batch channel time"] | None = None,
) -> Float[Tensor, " batch"]:
    """10 log10 of (mean square error + floor) / (mean square of the reference + floor): minus the signal-to-noise ratio in dB.

    From 10 log10(floor) or so at identity (-80 dB for unit variance) upwards; 0 for an estimate of zeros, and for silence answered
    by silence. Every record weighs the same in dB, however well it is already met; above the floor it is blind to the amplitude
    that both share, and as `relative_squared_error` to where the error lies.
    """
    both = pair(estimate, reference, valid)
    error = both.mean((both.estimate - both.reference).square())
    power = both.mean(both.reference.square())
    return 10 * torch.log10((error + floor) / (power + floor))
