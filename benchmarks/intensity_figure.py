"""The figure of docs/metrics/intensity.md, and its values: three pairs of one Arias intensity that shake differently.

OMP_NUM_THREADS=1 python benchmarks/intensity_figure.py --out docs/metrics/intensity.png

Noise of one spectrum under envelopes of 2, 8 and 25 s; the shortest one is polarised, its motion mostly along one line.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

import matplotlib
import numpy as np
import torch
from PIL import Image

matplotlib.use("Agg")
from matplotlib import pyplot as plt

from seislatent.metrics.intensity import PERIODS_S, corrected, husid, measure
from seislatent.metrics.rotated import rotate

RATE_HZ = 100.0
PAIRS = {"short, along a line": (2.0, 0.15), "ordinary": (8.0, 1.0), "long": (25.0, 1.0)}
SHOWN = ("PGA_g", "PGV_cm_s", "CAV_cm_s", "D5_95_s", "SA(1.0)_g")


def pair(length_s: float, across: float) -> torch.Tensor:
    """Acceleration [component time] in cm/s^2 whose first component has an Arias intensity of 10 cm/s."""
    n = 6000
    t = torch.arange(n, dtype=torch.float64) / RATE_HZ
    x = torch.randn(2, n, generator=torch.Generator().manual_seed(4), dtype=torch.float64)
    x[1] = 0.6 * x[0] + across * x[1] if across < 1 else x[1]
    x = x * ((t - 5).clamp(min=0) / length_s) ** 0.5 * torch.exp(-(t - 5).clamp(min=0) / length_s * 2)
    f = torch.fft.rfftfreq(n, 1 / RATE_HZ)
    x = torch.fft.irfft(torch.fft.rfft(x) * f / (0.5 + f) / (1 + (f / 6) ** 2), n)
    arias = np.pi / (2 * 980.665) * x[0].square().sum() / RATE_HZ
    return x * (10 / arias).sqrt()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="PNG to write")
    out = parser.parse_args().out
    plt.rcParams.update({"font.size": 7})
    figure = plt.figure(figsize=(7.4, 3.6), layout="constrained")
    grid = figure.add_gridspec(3, 3, width_ratios=(1.5, 1, 1.2))
    growth, spectra = figure.add_subplot(grid[:, 1]), figure.add_subplot(grid[:, 2])
    print(f"| pair | {' | '.join(SHOWN)} | RotD100 / RotD50 at 1 s |\n|---|{'---|' * (len(SHOWN) + 1)}")
    traces = None
    for i, (name, (length_s, across)) in enumerate(PAIRS.items()):
        motion = corrected(pair(length_s, across), RATE_HZ, unit="cm/s^2")
        values = {k: float(v[0]) for k, v in measure(motion, RATE_HZ).columns().items()}
        first, second = (type(motion)(**{k: v[j] for k, v in vars(motion).items()}) for j in (0, 1))
        both = rotate(first, second, RATE_HZ).SA_g
        one = rotate(first, second, RATE_HZ, periods_s=[1.0]).SA_g[:, 0]
        print(f"| {name} | {' | '.join(f'{values[k]:.3g}' for k in SHOWN)} | {one[1] / one[0]:.2f} |")
        t = np.arange(motion.a_cm_s2.shape[-1]) / RATE_HZ
        traces = figure.add_subplot(grid[i, 0], sharex=traces, sharey=traces)
        traces.plot(t, motion.a_cm_s2[0], color=f"C{i}", linewidth=0.4)
        traces.set_title(f"{name}: PGA {values['PGA_g']:.3f} g", loc="left", pad=2)
        traces.set(xlim=(0, 50), ylabel="cm/s²")
        growth.plot(t, husid(motion.a_cm_s2[0], RATE_HZ), color=f"C{i}", linewidth=1, label=f"D5-95 {values['D5_95_s']:.1f} s")
        spectra.loglog(PERIODS_S, both[0], color=f"C{i}", linewidth=1, label="RotD50" if not i else None)
        spectra.loglog(PERIODS_S, both[1], color=f"C{i}", linewidth=0.7, linestyle="--", label="RotD100" if not i else None)
    assert traces is not None
    traces.set_xlabel("s")
    for level in (0.05, 0.95):
        growth.axhline(level, color="0.7", linewidth=0.5)
    growth.set(xlim=(0, 50), ylim=(0, 1), xlabel="s", title="Husid curve")
    growth.legend(loc="center right", frameon=False)
    spectra.set(xlabel="period in s", title="SA in g, 5 %")
    spectra.legend(loc="lower left", frameon=False)
    figure.set_dpi(100)
    figure.canvas.draw()
    part = out.with_suffix(".part")
    Image.fromarray(np.asarray(figure.canvas.buffer_rgba())[..., :3]).quantize(64, dither=Image.Dither.NONE).save(
        part, "PNG", optimize=True
    )
    os.replace(part, out)


if __name__ == "__main__":
    main()
