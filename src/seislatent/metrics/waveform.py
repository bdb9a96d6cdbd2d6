"""How far samples are from samples, per trace."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from seislatent.errors import SeislatentError


@dataclass(frozen=True, kw_only=True)
class WaveformErrors:
    """One value per trace, in float64."""

    mse: Float[Tensor, "*trace"]
    """Mean squared error, in the unit of the samples squared."""
    mae: Float[Tensor, "*trace"]
    """Mean absolute error, in the unit of the samples."""
    snr_db: Float[Tensor, "*trace"]
    """10 log10 of the reference's energy over the error's, in dB."""


def waveform_errors(estimate: Tensor, reference: Shaped[Tensor, "*trace time"], sampling_rate_hz: float) -> WaveformErrors:
    """Errors of an estimate [*trace time] against its reference.

    The signal-to-noise ratio is +inf where the estimate is exact and the reference not silent, -inf where a silent reference is
    missed, NaN where both are silent or the trace has no samples (there all three are NaN): decide what such traces count before
    taking a mean. A NaN sample makes its trace NaN.

    Energy is taken about zero: remove an offset first, or it counts as signal. Blind to the phase and frequency of the error. The
    sampling rate does not enter; every metric takes one.

    Raises SeislatentError where the shapes differ.
    """
    if estimate.shape != reference.shape or estimate.ndim < 1:
        raise SeislatentError(
            f"cannot compare an estimate of shape {tuple(estimate.shape)} with a reference of shape {tuple(reference.shape)}"
        )
    x, y = estimate.to(torch.float64), reference.to(torch.float64)
    error = x - y
    mse = error.square().mean(-1)
    return WaveformErrors(mse=mse, mae=error.abs().mean(-1), snr_db=10 * torch.log10(y.square().mean(-1) / mse))
