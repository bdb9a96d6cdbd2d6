"""`python benchmarks/distributions_figure.py` draws docs/metrics/distributions.svg from Gaussian draws."""

from __future__ import annotations

from pathlib import Path

import torch
from matplotlib.figure import Figure

from seislatent.evaluate.maps import write_picture
from seislatent.evaluate.report import COLOURS, Picture
from seislatent.metrics.diversity import pit_histogram, spread_calibration
from seislatent.metrics.frechet import frechet_distance, frechet_extrapolated

RECORDS, FEATURES = 2000, 20


def draw(canvas: Figure) -> None:
    g = torch.Generator().manual_seed(0)
    panels = canvas.subplots(1, 5, width_ratios=(1, 1, 1, 1, 1.6))
    real = torch.randn(RECORDS, 1, generator=g, dtype=torch.float64)
    trials = {
        "right": (1.0, 0.0),
        "half the spread": (0.5, 0.0),
        "twice the spread": (2.0, 0.0),
        "half a sigma too large": (1.0, 0.5),
    }
    for panel, (name, (spread, bias)) in zip(panels, trials.items(), strict=False):
        draws = spread * torch.randn(50, RECORDS, 1, generator=g, dtype=torch.float64) + bias
        found = spread_calibration(draws, real, g)
        histogram = pit_histogram(found.pit)
        panel.bar(torch.arange(10) / 10 + 0.05, histogram.counts[0] / histogram.expected, width=0.09, color=COLOURS[0])
        panel.axhline(1, color=COLOURS[6], linewidth=0.8)
        panel.set(title=f"{name}\nshare {found.share.item():.2f}, p {histogram.p_value.item():.2g}", xlabel="PIT", ylim=(0, 3))
    panels[0].set_ylabel("count / expected")
    sizes = (30, 60, 120, 250, 500, 1000)
    plain, endless = [], []
    for n in sizes:
        x, y = (torch.randn(n, FEATURES, generator=g, dtype=torch.float64) for _ in range(2))
        plain.append(frechet_distance(x, y).distance.item())
        endless.append(frechet_extrapolated(x, y, g).distance.item())
    panels[4].plot(sizes, plain, "o-", color=COLOURS[1], label="Fréchet distance")
    panels[4].plot(sizes, endless, "s-", color=COLOURS[2], label="extrapolated")
    panels[4].axhline(0, color=COLOURS[6], linewidth=0.8)
    panels[4].set(xscale="log", xlabel="records per set", title=f"two equal Gaussians,\n{FEATURES} dimensions", ylabel="d²")
    panels[4].legend()


if __name__ == "__main__":
    caption = "PIT histograms and the bias of the Fréchet distance"
    picture = Picture(name="distributions", caption=caption, width_in=12, height_in=3, draw=draw)
    write_picture(picture, Path(__file__).parents[1] / "docs" / "metrics" / "distributions.svg", overwrite=True)
