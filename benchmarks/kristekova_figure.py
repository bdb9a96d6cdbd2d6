"""Draws what a goodness of fit of 10, 8, 6 and 4 looks like: docs/metrics/kristekova.png, and its values as a table.

OMP_NUM_THREADS=1 python benchmarks/kristekova_figure.py --out docs/metrics/kristekova.png

One made-up record of 20 s (an onset, a second and larger one, coda; 0.5 to 8 Hz) is changed until the score is the one asked for:
by a gain (EG), by a phase shift (PG), by noise of the same band (EG; then PG), by a delay (PG).
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image
from scipy.signal import butter, hilbert, sosfiltfilt

from seislatent.metrics.kristekova import kristekova, verbal_scale

RATE_HZ = 50.0
BAND_HZ = (0.5, 8.0)
SCORES = (10.0, 8.0, 6.0, 4.0)


def record() -> tuple[np.ndarray, np.ndarray]:
    """The record and noise of its band and peak, 20 s."""
    rng = np.random.default_rng(3)
    soft = butter(4, BAND_HZ, "bandpass", fs=RATE_HZ, output="sos")
    noise = sosfiltfilt(soft, rng.standard_normal((2, 1000)))
    time_s = np.arange(1000) / RATE_HZ
    after_p, after_s = np.maximum(time_s - 3, 0), np.maximum(time_s - 7, 0)
    wave = noise[0] * (0.01 + np.minimum(after_p, 0.2) * np.exp(-after_p / 3) + 3 * np.minimum(after_s, 0.4) * np.exp(-after_s / 2))
    return wave / np.abs(wave).max(), noise[1] / np.abs(noise[1]).max()


def scores(estimate: np.ndarray, reference: np.ndarray) -> tuple[float, float]:
    """EG and PG."""
    found = kristekova(torch.from_numpy(estimate), torch.from_numpy(reference), RATE_HZ, band_hz=BAND_HZ)
    assert found.eg is not None and found.pg is not None
    return found.eg.item(), found.pg.item()


def delayed(x: np.ndarray, delay_s: float) -> np.ndarray:
    """The same later, by its spectrum; silence comes in."""
    padded = np.concatenate([x, np.zeros_like(x)])
    phase = np.exp(-2j * np.pi * np.fft.rfftfreq(len(padded), 1 / RATE_HZ) * delay_s)
    return np.fft.irfft(np.fft.rfft(padded) * phase, len(padded))[: len(x)]


def until(change: Callable[[float], np.ndarray], reference: np.ndarray, which: int, wanted: float, most: float) -> float:
    """The strength of a change that gives the wanted EG (0) or PG (1), by halving."""
    low, high = 0.0, most
    for _ in range(40):
        middle = (low + high) / 2
        low, high = (middle, high) if scores(change(middle), reference)[which] > wanted else (low, middle)
    return low


def main() -> None:
    """Draws and prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="PNG to write")
    options = parser.parse_args()
    wave, noise = record()
    analytic = hilbert(wave)
    changes: dict[str, tuple[Callable[[float], np.ndarray], int, float, str]] = {
        "gain": (lambda v: (1 + v) * wave, 0, 3.0, "times {:.2f}"),
        "phase": (lambda v: np.real(analytic * np.exp(1j * np.pi * v)), 1, 1.0, "{:.2f} pi"),
        "noise": (lambda v: wave + v * noise, 0, 10.0, "{:.2f} of the peak"),
        "delay": (lambda v: delayed(wave, v), 1, 0.4, "{:.3f} s"),
    }
    figure = Figure(figsize=(11, 6.2), layout="constrained")
    axes = figure.subplots(len(SCORES), len(changes), sharex=True, sharey="col")
    time_s = np.arange(len(wave)) / RATE_HZ
    print("| change | score | strength | EG | PG |\n|---|---|---|---|---|")
    for column, (name, (change, which, most, words)) in enumerate(changes.items()):
        for row, wanted in enumerate(SCORES):
            strength = 0.0 if wanted == SCORES[0] else until(change, wave, which, wanted, most)
            estimate = change(strength)
            eg, pg = scores(estimate, wave)
            told = words.format(1 + strength if name == "gain" else strength)
            word = verbal_scale(round((eg, pg)[which], 6)).item()
            print(f"| {name} | {('EG', 'PG')[which]} {wanted:g} ({word}) | {told} | {eg:.2f} | {pg:.2f} |")
            ax = axes[row, column]
            ax.plot(time_s, estimate, color="tab:orange", linewidth=0.9, label="estimate")
            ax.plot(time_s, wave, color="black", linewidth=0.6, label="reference")
            ax.set_xlim(6.5, 10.5)
            ax.set_yticks([])
            ax.set_title(f"{name} {told}: EG {eg:.1f}, PG {pg:.1f}", fontsize=8)
    axes[0, 0].legend(fontsize=7, loc="upper right", frameon=False)
    for ax in axes[-1]:
        ax.set_xlabel("time (s)", fontsize=8)
    for ax, wanted in zip(axes[:, 0], SCORES, strict=True):
        ax.set_ylabel(f"{wanted:g}", rotation=0, fontsize=12, labelpad=10)
    part = options.out.with_suffix(".part")
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    Image.fromarray(np.asarray(canvas.buffer_rgba())[..., :3]).quantize(16).save(part, "PNG", optimize=True)
    os.replace(part, options.out)


if __name__ == "__main__":
    main()
