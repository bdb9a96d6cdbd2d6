"""Distance between spectra in bands that widen with frequency."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Bool, Float
from numpy.typing import NDArray
from torch import Tensor

from seislatent.errors import SeislatentError
from seislatent.losses.pairs import bent_root, pair, several_windows
from seislatent.losses.precision import in_full
from seislatent.losses.spectral import WINDOWS
from seislatent.signal.spectral import magnitude


@in_full
def multiscale_mel(
    estimate: Float[Tensor, "batch channel time"],
    reference: Float[Tensor, "batch channel time"],
    sampling_rate_hz: float,
    windows: Sequence[int] = WINDOWS,
    *,
    bands: int = 64,
    corner_hz: float = 1.0,
    low_hz: float = 0.0,
    high_hz: float | None = None,
    logarithmic: bool = True,
    floor: float = 1e-3,
    valid: Bool[Tensor, "batch channel time"] | None = None,
) -> Float[Tensor, " batch"]:
    """Differences of mel spectrograms M and of their logarithms, mean over window lengths.

    `logarithmic` (seed 004, equation 2.60; Gritsenko et al. 2020; Zeghidour et al. 2021, "SoundStream"), per window of s samples

        mean over frames of  ( |M(x) - M(y)|_1  +  root(s / 2) |log (M(x) + floor) - log (M(y) + floor)|_2 ) / bands,

    norms over bands; otherwise as in EnCodec (equation 2.61), alpha = 1:  mean |M(x) - M(y)| + root mean square (M(x) - M(y)).
    Hop is a quarter window; M is the magnitude of the short-time spectrum in the bands of `mel_bank`.

    The mel scale, 2595 log10(1 + f / 700 Hz), is that of ears: up to 20 Hz it is straight within 0.4 %, so that such bands
    are those of the plain spectrum. `corner_hz`, 1 Hz here, is where bands start to widen; 700 gives the paper's.

    0 to infinity; in the unit of the records, logarithms in nepers. Give records of about unit variance: `floor` is in their unit.
    Blind to phase (a record and its negative: 0) and to where in a band energy lies; with few bands to fine structure of high
    frequencies.
    """
    both = pair(estimate, reference, valid)
    total = both.reference.new_zeros(len(reference))
    for window in several_windows(windows):
        bank = mel_bank(window, sampling_rate_hz, bands, corner_hz=corner_hz, low_hz=low_hz, high_hz=high_hz)
        weights = torch.tensor(bank).to(both.reference)  # a copy: what the cache holds is read-only
        x, y = (weights @ magnitude(z, window) for z in (both.estimate, both.reference))
        total = total + both.mean((x - y).abs())
        if logarithmic:
            apart = (torch.log(x + floor) - torch.log(y + floor)).square().sum(-2)  # over bands; one value per frame is left
            total = total + math.sqrt(window / 2) / bands * both.mean(bent_root(apart))
        else:
            total = total + bent_root(both.mean((x - y).square()))
    return total / len(windows)


def mel(frequency_hz: NDArray[np.float64], corner_hz: float = 700.0) -> NDArray[np.float64]:
    """Mel scale, 2595 log10(1 + f / corner) (seed 004, equation 2.59): linear well below the corner, logarithmic above."""
    return 2595 * np.log10(1 + frequency_hz / corner_hz)


def mel_bank(
    window: int,
    sampling_rate_hz: float,
    bands: int = 64,
    *,
    corner_hz: float = 1.0,
    low_hz: float = 0.0,
    high_hz: float | None = None,
) -> Float[np.ndarray, "band frequency"]:
    """Weights that turn the window // 2 + 1 magnitudes of a short-time spectrum into mel bands; each row sums to 1. float64.

    Triangles whose corners lie evenly on the mel scale from `low_hz` to `high_hz` (Nyquist where None), each averaged over the
    width of a frequency bin. Taken at bin centres, as is usual, the narrow ones of a short window would fall between two bins and
    be empty; so they share bins instead. A band is a weighted mean of magnitudes: white noise looks alike in all of them.

    Raises SeislatentError where band edges, corner or rate make no sense.
    """
    nyquist = sampling_rate_hz / 2
    high = nyquist if high_hz is None else high_hz
    if not (0 <= low_hz < high <= nyquist * (1 + 1e-9) and corner_hz > 0 and bands >= 1):
        raise SeislatentError(
            f"{bands} mel bands from {low_hz:g} to {high:g} Hz with corner {corner_hz:g} Hz at {sampling_rate_hz:g} Hz: "
            "give 0 <= low < high <= half the rate, a positive corner and at least one band"
        )
    return _bank(window, float(sampling_rate_hz), bands, float(corner_hz), float(low_hz), float(high))


@functools.lru_cache(maxsize=64)
def _bank(window: int, rate: float, bands: int, corner: float, low: float, high: float) -> NDArray[np.float64]:
    first, last = mel(np.array([low, high]), corner).tolist()
    ends = np.linspace(first, last, bands + 2)
    edge = corner * (10 ** (ends / 2595) - 1)
    left, middle, right = (edge[i : i + bands, None] for i in range(3))
    step = rate / window
    bins = np.clip((np.arange(window // 2 + 2) - 0.5) * step, 0, rate / 2)  # edges of bins; the outer two are half as wide

    def area(f: NDArray[np.float64]) -> NDArray[np.float64]:
        """Of a triangle of height 1, left of f."""
        rise = (np.clip(f, left, middle) - left) ** 2 / (2 * (middle - left))
        fall = (right - np.clip(f, middle, right)) ** 2 / (2 * (right - middle))
        return rise + (right - middle) / 2 - fall

    weights = np.diff(area(bins), axis=1)
    weights /= weights.sum(1, keepdims=True)
    weights.flags.writeable = False  # the cache gives one array to all
    return weights
