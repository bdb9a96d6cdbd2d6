"""Distance between spectra at several resolutions at once."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from seislatent.losses.pairs import bent_root, pair, several_windows
from seislatent.losses.precision import in_full
from seislatent.signal.spectral import magnitude

WINDOWS = (16, 32, 64, 128, 256, 512)
"""Samples: 0.4 to 12.8 s at 40 Hz, from a P onset to the period of the microseism."""


@in_full
def multiscale_stft(
    estimate: Float[Tensor, "batch channel time"],
    reference: Float[Tensor, "batch channel time"],
    windows: Sequence[int] = WINDOWS,
    *,
    logarithmic: bool = False,
    floor: float = 1e-3,
    valid: Bool[Tensor, "batch channel time"] | None = None,
) -> Float[Tensor, " batch"]:
    """Mean over window lengths of l1 + l2 between magnitude spectra, one value per record.

    l(x, y) = 1 / |W| sum over w of  mean |S_w(x) - S_w(y)|  +  root mean square of (L_w(x) - L_w(y)),

    L = S, or log(S + floor) where `logarithmic`; after Défossez et al. (2022, "High fidelity neural audio compression", section
    3.4; seed 004, equation 2.61) with linear instead of mel frequencies: mel bands are made for ears. Hop is a quarter window.

    Range 0 to infinity, in the unit of the records (the logarithmic part in nepers). The spectra's scale is that of the samples, so
    give records of about unit variance; `floor` then hides what lies more than 60 dB below it.
    Blind to the phase of single frames: a record and its negative are at distance 0.
    """
    both = pair(estimate, reference, valid)
    total = both.reference.new_zeros(len(reference))
    for window in several_windows(windows):
        x, y = magnitude(both.estimate, window), magnitude(both.reference, window)
        total = total + both.mean((x - y).abs())
        if logarithmic:
            x, y = torch.log(x + floor), torch.log(y + floor)
        total = total + bent_root(both.mean((x - y).square()))
    return total / len(windows)
