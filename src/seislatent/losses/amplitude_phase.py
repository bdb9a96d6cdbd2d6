"""Amplitude and phase of short-time spectra, apart."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from jaxtyping import Bool, Float
from torch import Tensor

from seislatent.losses.pairs import pair, several_windows
from seislatent.losses.precision import in_full
from seislatent.losses.spectral import WINDOWS
from seislatent.signal.spectral import stft

FLOOR = 1e-3
"""Magnitude under which a bin has no phase to speak of; white noise of unit variance has bins of about 1."""


@dataclass(frozen=True)
class SpectralError:
    """Two errors per record, to be two terms of a turn or one by `total`."""

    amplitude: Float[Tensor, " batch"]
    """Mean 1/2 (A_x - A_y)^2, 0 to infinity, in the unit of the records squared."""
    phase: Float[Tensor, " batch"]
    """Mean 1 - cos(phase difference), 0 to 2, no unit."""

    def total(self, phase_weight: float = 1.0) -> Float[Tensor, " batch"]:
        """Amplitude error plus `phase_weight` times phase error (seed 004, equation 2.67, with one alpha for all bins)."""
        return self.amplitude + phase_weight * self.phase


@in_full
def stft_amplitude_phase(
    estimate: Float[Tensor, "batch channel time"],
    reference: Float[Tensor, "batch channel time"],
    windows: Sequence[int] = WINDOWS,
    *,
    floor: float = FLOOR,
    valid: Bool[Tensor, "batch channel time"] | None = None,
) -> SpectralError:
    """Amplitude and phase error of short-time spectra X and Y, mean over bins, frames and window lengths.

        amplitude = 1/2 (|X| - |Y|)^2,    phase = 1/2 |p(X) - p(Y)|^2 = 1 - cos(angle of X - angle of Y),

    Takaki et al. (2019, "STFT spectral loss for training a neural speech waveform model"; seed 004, equations 2.62 to
    2.67), with means in place of sums so that long and short windows weigh the same, and with p(X) = X / root(|X|^2 +
    floor^2) in place of X / |X|: a bin of magnitude below `floor` (records of unit variance: 60 dB down) loses its phase
    smoothly, and the gradient stays below 1 / floor where X / |X| has none.

    Amplitude is blind to phase (a record and its negative: 0), phase is blind to amplitude (a record and its double: 0), and to
    which bins carry the signal: a bin of noise 50 dB down has the vote of the strongest. Were phases weighed by |X| |Y|, the sum
    of both would be 1/2 |X - Y|^2, the mean squared error once more (law of cosines).
    """
    both = pair(estimate, reference, valid)
    amplitude = phase = both.reference.new_zeros(len(reference))
    for window in several_windows(windows):
        x, y = stft(both.estimate, window), stft(both.reference, window)
        a, b = x.abs(), y.abs()
        amplitude = amplitude + both.mean((a - b).square()) / 2
        apart = x / (a.square() + floor**2).sqrt() - y / (b.square() + floor**2).sqrt()
        phase = phase + both.mean(apart.real.square() + apart.imag.square()) / 2
    return SpectralError(amplitude / len(windows), phase / len(windows))
