"""Distance between spectra at several resolutions at once."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from seislatent.signal.spectral import magnitude

WINDOWS = (16, 32, 64, 128, 256, 512)
"""Samples: 0.4 to 12.8 s at 40 Hz, from a P onset to the period of the microseism."""


def multiscale_stft(
    estimate: Float[Tensor, "batch channel time"],
    reference: Float[Tensor, "batch channel time"],
    windows: Sequence[int] = WINDOWS,
    *,
    logarithmic: bool = False,
    floor: float = 1e-3,
) -> Float[Tensor, " batch"]:
    """Mean over window lengths of l1 + l2 between magnitude spectra, one value per record.

    l(x, y) = 1 / |W| sum over w of  mean |S_w(x) - S_w(y)|  +  root mean square of (L_w(x) - L_w(y)),

    L = S, or log(S + floor) where `logarithmic`; after Défossez et al. (2022, "High fidelity neural audio compression", section
    3.4) with linear instead of mel frequencies: mel bands are made for ears. Hop is a quarter window.

    Range 0 to infinity, in the unit of the records (the logarithmic part in nepers). The spectra's scale is that of the samples, so
    give records of about unit variance; `floor` then hides what lies more than 60 dB below it.
    Blind to the phase of single frames: a record and its negative are at distance 0.
    """
    total = reference.new_zeros(len(reference))
    for window in windows:
        x, y = magnitude(estimate, window), magnitude(reference, window)
        total = total + (x - y).abs().mean((1, 2, 3))
        if logarithmic:
            x, y = torch.log(x + floor), torch.log(y + floor)
        total = total + _root_mean_square(x - y)
    return total / len(windows)


def _root_mean_square(x: Float[Tensor, "batch channel frequency frame"]) -> Float[Tensor, " batch"]:
    """0 with gradient 0 at 0: below 1e-6 it bends into a parabola."""
    bend = 1e-6
    return (x.square().mean((1, 2, 3)) + bend**2).sqrt() - bend
