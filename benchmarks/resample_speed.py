"""Seconds to resample a day of one channel to 40 Hz on one core, against scipy's upfirdn with as many taps.

OMP_NUM_THREADS=1 python benchmarks/resample_speed.py
"""

from __future__ import annotations

import time
from collections.abc import Callable
from fractions import Fraction

import numpy as np
from scipy.signal import firwin, upfirdn

from seislatent.prepare.resample import BETA, CUTOFF, HALF_WIDTH, resample

RATE_OUT_HZ = 40.0


def seconds(call: Callable[[], object]) -> float:
    """The best of three."""
    best = np.inf
    for _ in range(3):
        start = time.perf_counter()
        call()
        best = min(best, time.perf_counter() - start)
    return best


def main() -> None:
    print(f"{'rate':>10} {'seislatent':>11} {'upfirdn':>8} {'ratio':>6}")
    for rate_hz in (20.0, 50.0, 62.5, 100.0, 200.0, 99.9987):
        x = np.random.default_rng(0).normal(size=round(86400 * rate_hz))
        ours = seconds(lambda x=x, rate=rate_hz: resample(x, rate, RATE_OUT_HZ))
        ratio = Fraction(RATE_OUT_HZ / rate_hz).limit_denominator(512)
        if abs(float(ratio) * rate_hz / RATE_OUT_HZ - 1) > 1e-12:
            print(f"{rate_hz:>10g} {ours:>10.2f}s {'none: no small ratio':>15}")
            continue
        up, down = ratio.numerator, ratio.denominator
        taps = firwin(2 * HALF_WIDTH * max(up, down) + 1, CUTOFF / max(up, down), window=("kaiser", BETA)) * up
        theirs = seconds(lambda x=x, taps=taps, up=up, down=down: upfirdn(taps, x, up, down))
        print(f"{rate_hz:>10g} {ours:>10.2f}s {theirs:>7.2f}s {theirs / ours:>6.2f}")


if __name__ == "__main__":
    main()
