"""Where a signal sets in, without a picker: for records that nobody has picked."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from seislatent.signal.filters import Butterworth

LEVEL = 0.2
"""Share of the largest absolute value that ends the stretch in which the onset is sought."""
FEWEST = 20
"""Samples of noise and of signal at least."""


def onset(x: NDArray[Any], rate_hz: float, *, highpass_hz: float = 1.0, after_s: float = 2.0) -> int | None:
    """The sample of x [time] at which its variance rises most clearly, or None where there is no such sample.

    Drift is taken out by a causal high-pass of second order, which moves nothing before its cause. The stretch from the first
    sample to `after_s` past the first one that reaches a fifth of the largest absolute value is then divided in two so that two
    Gaussian noises of their own variance explain it best: the least of k log var(x[:k]) + (n - k) log var(x[k:]) (Maeda, 1985: the
    AIC picker without an autoregressive model). None where noise and signal are not both 20 samples long, or the variance does not
    rise at least fourfold.
    """
    x = Butterworth(kind="highpass", corners_hz=highpass_hz, rate_hz=rate_hz, order=2, zero_phase=False)(x)
    size = np.abs(x)
    if not x.size or not np.isfinite(size).all() or size.max() == 0:
        return None
    n = min(len(x), int(np.argmax(size >= LEVEL * size.max()) + after_s * rate_hz))
    if n < 2 * FEWEST:
        return None
    x = x[:n] / size.max()
    k = np.arange(FEWEST, n - FEWEST + 1)
    total, square = np.concatenate([[0.0], np.cumsum(x)]), np.concatenate([[0.0], np.cumsum(x * x)])
    before = square[k] / k - (total[k] / k) ** 2
    after = (square[n] - square[k]) / (n - k) - ((total[n] - total[k]) / (n - k)) ** 2
    least = 1e-12 * square[n] / n  # cumulative sums leave no exact zero
    before, after = np.maximum(before, least), np.maximum(after, least)
    best = int(np.argmin(k * np.log(before) + (n - k) * np.log(after)))
    return int(k[best]) if after[best] >= 4 * before[best] else None
