"""Draws docs/losses.svg: what losses say to a shift, and to noise.

OMP_NUM_THREADS=1 python benchmarks/losses_figure.py
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import obspy
import torch
from matplotlib import rc_context
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from seislatent.losses.amplitude_phase import stft_amplitude_phase
from seislatent.losses.focal_frequency import focal_frequency
from seislatent.losses.hyperspherical import hyper_spherical
from seislatent.losses.mel import multiscale_mel
from seislatent.losses.spectral import multiscale_stft
from seislatent.losses.waveform import squared_error

TARGET = Path(__file__).parents[1] / "docs" / "losses.svg"
LOSSES = {
    "squared_error": squared_error,
    "hyper_spherical": hyper_spherical,
    "focal_frequency": focal_frequency,
    "stft phase": lambda x, y: stft_amplitude_phase(x, y).phase,
    "multiscale_stft": multiscale_stft,
    "multiscale_mel": lambda x, y: multiscale_mel(x, y, 100.0),
}


def record() -> torch.Tensor:
    """ObsPy's example: an earthquake on three components at 100 Hz, each to unit variance."""
    y = torch.tensor(np.stack([trace.data for trace in obspy.read()]), dtype=torch.float64)[None]
    return (y - y.mean(-1, keepdim=True)) / y.std(-1, keepdim=True)


def look(name: str) -> dict:
    """Dashes where two lines lie on each other."""
    return {"lw": 1.2, "ls": "--" if name == "focal_frequency" else "-"}


def main() -> None:
    """Each loss over what it gives for the same spectrum with phases at random: 1 is as bad as a stranger."""
    y = record()
    dice = torch.Generator().manual_seed(0)
    noise = torch.randn(y.shape, generator=dice, dtype=y.dtype)
    spectrum = torch.fft.rfft(y)
    angles = 2 * torch.pi * torch.rand(spectrum.shape, generator=dice, dtype=y.dtype)
    stranger = torch.fft.irfft(torch.polar(spectrum.abs(), angles), y.shape[-1])
    lags, snr_db = np.arange(0, 61), np.arange(0, 61, 3)
    figure = Figure(figsize=(7.5, 2.8), layout="constrained")
    FigureCanvasAgg(figure)
    left, right = figure.subplots(1, 2)
    for name, loss in LOSSES.items():
        scale = float(loss(stranger, y))
        left.plot(lags / 100, [float(loss(y.roll(int(k), -1), y)) / scale for k in lags], label=name, **look(name))
        right.semilogy(snr_db, [float(loss(y + 10 ** (-s / 20) * noise, y)) / scale for s in snr_db], **look(name))
    left.set(xlabel="shift [s]", ylabel="loss over that of random phases", xlim=(0, 0.6), ylim=(0, 1.4))
    right.set(xlabel="signal-to-noise ratio [dB]", xlim=(0, 60), ylim=(1e-12, 10))
    left.legend(frameon=False, ncols=2, fontsize=7)
    figure.savefig(TARGET, metadata={"Date": None})  # no date: the same file every time


if __name__ == "__main__":
    with rc_context({"svg.hashsalt": "losses", "font.size": 8}):
        main()
