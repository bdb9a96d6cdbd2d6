"""Distances between samples, one value per record."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

FLOOR = 1e-8
"""Mean square under which a record counts as silent: 80 dB below unit variance."""


def relative_squared_error(
    estimate: Float[Tensor, "batch channel time"], reference: Float[Tensor, "batch channel time"], floor: float = FLOOR
) -> Float[Tensor, " batch"]:
    """Quotient mean (estimate - reference)^2 / (mean reference^2 + floor): the inverse of the signal-to-noise ratio in power.

    No unit, 0 to infinity; an estimate of zeros gives nearly 1. Give records of about unit variance: `floor` is in their unit
    squared, and keeps silence finite. Blind to where the error lies: one burst and a steady hum of equal energy weigh the same.
    """
    error = (estimate - reference).square().mean((1, 2))
    return error / (reference.square().mean((1, 2)) + floor)


def negative_snr(
    estimate: Float[Tensor, "batch channel time"], reference: Float[Tensor, "batch channel time"], floor: float = FLOOR
) -> Float[Tensor, " batch"]:
    """10 log10 of (mean square error + floor) / (mean square of the reference + floor): minus the signal-to-noise ratio in dB.

    From 10 log10(floor) or so at identity (-80 dB for unit variance) upwards; 0 for an estimate of zeros, and for silence answered
    by silence. Every record weighs the same in dB, however well it is already met; above the floor it is blind to the amplitude
    that both share, and as `relative_squared_error` to where the error lies.
    """
    error = (estimate - reference).square().mean((1, 2))
    power = reference.square().mean((1, 2))
    return 10 * torch.log10((error + floor) / (power + floor))
