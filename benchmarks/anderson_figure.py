"""The figure of docs/metrics/anderson.md: what a total score of 4, 6, 8 and 10 looks like.

python benchmarks/anderson_figure.py
"""

from __future__ import annotations

from pathlib import Path

import matplotlib
import torch

from seislatent.metrics.anderson import anderson_scores

matplotlib.use("Agg")
from matplotlib import pyplot as plt

RATE_HZ = 50.0
OUT = Path(__file__).parents[1] / "docs" / "metrics" / "anderson.png"


def quake(seed: int) -> torch.Tensor:
    """Noise below an envelope, with a spectrum that falls from 5 Hz on."""
    t = torch.arange(1500) / RATE_HZ
    x = torch.randn(len(t), generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    f = torch.fft.rfftfreq(len(t), 1 / RATE_HZ)
    x = x * ((t - 4).clamp(min=0) * torch.exp(-(t - 4) / 3))
    x = torch.fft.irfft(torch.fft.rfft(x) * f / (0.3 + f) / (1 + (f / 5) ** 2), len(t))
    return x / x.abs().max()


def mixed(share: float) -> torch.Tensor:
    """The record with a share of another, later and stronger one."""
    return (1 - share) * quake(1) + share * 2.5 * torch.roll(quake(2), 100)


def main() -> None:
    figure, rows = plt.subplots(4, 1, figsize=(7, 5), sharex=True, layout="constrained")
    for row, wanted in zip(rows, (4, 6, 8, 10), strict=True):
        low, high = 0.0, 1.0
        for _ in range(30):  # the score falls as the share grows
            middle = (low + high) / 2
            below = anderson_scores(mixed(middle), quake(1), RATE_HZ).total < wanted - 1e-6
            low, high = (low, middle) if below else (middle, high)
        estimate = mixed(low)
        score = anderson_scores(estimate, quake(1), RATE_HZ).total.item()
        t = torch.arange(len(estimate)) / RATE_HZ
        row.plot(t[:1000], estimate[:1000], color="C3", lw=0.7, label="estimate")
        row.plot(t[:1000], quake(1)[:1000], color="black", lw=0.7, label="reference")
        row.set_ylabel(f"{score:.1f}", rotation=0, labelpad=14, fontsize=12)
        row.set_yticks([])
    rows[0].legend(loc="upper right", ncols=2, frameon=False)
    rows[-1].set_xlabel("s")
    figure.savefig(OUT, dpi=80)
    print(f"{OUT}: {OUT.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main()
