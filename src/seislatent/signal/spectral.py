"""Short-time Fourier transform of tensors, there and back."""

from __future__ import annotations

import torch
from jaxtyping import Complex, Float
from torch import Tensor


def stft(
    x: Float[Tensor, "batch channel time"], window: int, hop: int | None = None
) -> Complex[Tensor, "batch channel frequency frame"]:
    """Hann windows of `window` samples, one every `hop` (a quarter window where None), frame k centred on sample k * hop.

    window // 2 + 1 frequencies from 0 to Nyquist and time // hop + 1 frames; beyond its ends the record is zero. Divided by the
    root of the window's energy: white noise of unit variance gives coefficients of unit variance whatever the window. Equals
    `scipy.signal.ShortTimeFFT` up to that factor. float32 and float64.
    """
    weights = hann(window, x)
    spectrum = torch.stft(
        x.flatten(0, 1),
        window,
        hop or window // 4,
        window=weights,
        center=True,
        pad_mode="constant",
        return_complex=True,
    )
    return spectrum.unflatten(0, x.shape[:2]) / weights.square().sum().sqrt()


def istft(
    spectrum: Complex[Tensor, "batch channel frequency frame"], window: int, n: int, hop: int | None = None
) -> Float[Tensor, "batch channel time"]:
    """The record of `n` samples whose STFT lies nearest (least squares; Griffin and Lim 1984).

    The inverse of `stft` where the hop is at most half a window.
    """
    weights = hann(window, spectrum.real)
    x = torch.istft(
        spectrum.flatten(0, 1) * weights.square().sum().sqrt(), window, hop or window // 4, window=weights, center=True, length=n
    )
    return x.unflatten(0, spectrum.shape[:2])


def magnitude(
    x: Float[Tensor, "batch channel time"], window: int, hop: int | None = None
) -> Float[Tensor, "batch channel frequency frame"]:
    """Absolute value of `stft`; its gradient at silence is 0."""
    return stft(x, window, hop).abs()


def hann(window: int, like: Tensor) -> Float[Tensor, " window"]:
    """The periodic Hann window, in the type and on the device of a tensor."""
    return torch.hann_window(window, periodic=True, dtype=like.dtype, device=like.device)
