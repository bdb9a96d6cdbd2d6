"""What values of the metrics of waveforms, spectra and detection look like: the figures of docs/metrics, and their tables.

OMP_NUM_THREADS=1 python benchmarks/metric_values.py --out docs/metrics

One made-up record (P, S and coda of seeded noise, 30 s at 100 Hz, a band of 1 to 15 Hz) is spoiled in known ways; every metric is
printed for each. Nothing is read.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

import matplotlib
import numpy as np
import torch
from scipy import signal
from torch import Tensor

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from PIL import Image

from seislatent.evaluate.baselines.stacking import shifted
from seislatent.metrics.detection import interval_by_event, roc
from seislatent.metrics.envelope import envelope_scores
from seislatent.metrics.onset import onset_shift
from seislatent.metrics.spectrum import coherence, effective_amplitude, fourier_amplitude, log_spectral_distance_db, smoothed
from seislatent.metrics.waveform import correlation, scale_invariant_sdr_db, waveform_errors

RATE, N, P, S = 100.0, 3000, 800, 1300


def filtered(x: np.ndarray, corners: float | tuple[float, float], kind: str) -> np.ndarray:
    return signal.sosfiltfilt(signal.butter(4, corners, kind, fs=RATE, output="sos"), x)


def record(seed: int = 0) -> Tensor:
    rng = np.random.default_rng(seed)
    t = np.arange(N) / RATE
    x = 0.01 * rng.normal(size=N)
    for at, size, decay in ((P, 0.5, 2.0), (S, 1.5, 3.0)):
        since = np.maximum(t - at / RATE, 0)
        x += size * (t >= at / RATE) * np.exp(-since / decay) * rng.normal(size=N)
    x = filtered(x, (1, 15), "bandpass")
    return torch.as_tensor(x / np.abs(x).max())


def noisy(x: Tensor, snr_db: float, seed: int = 9) -> Tensor:
    e = torch.as_tensor(filtered(np.random.default_rng(seed).normal(size=N), (1, 15), "bandpass").copy())
    return x + e * (x.square().mean() / e.square().mean()).sqrt() * 10 ** (-snr_db / 20)


def moved(x: Tensor, shift_s: float) -> Tensor:
    return shifted(x[None, None], torch.tensor([shift_s * RATE], dtype=x.dtype))[0, 0]


SPOILED: dict[str, Callable[[Tensor], Tensor]] = {
    "noise at 20 dB": lambda x: noisy(x, 20),
    "noise at 10 dB": lambda x: noisy(x, 10),
    "noise at 3 dB": lambda x: noisy(x, 3),
    "late by 0.03 s": lambda x: moved(x, 0.03),
    "late by 0.2 s": lambda x: moved(x, 0.2),
    "half as large": lambda x: 0.5 * x,
    "polarity turned": lambda x: -x,
    "low-pass at 4 Hz": lambda x: torch.as_tensor(filtered(x.numpy(), 4, "lowpass").copy()),
    "other phases, same envelope": lambda x: record(seed=5),
}


def scores(x: Tensor, y: Tensor) -> dict[str, float]:
    best = correlation(x, y, RATE, max_shift_s=1.0)
    onset = onset_shift(x, y, RATE, torch.tensor(P))
    both = envelope_scores(x, y, RATE)
    return {
        "SNR (dB)": float(waveform_errors(x, y, RATE).snr_db),
        "SI-SDR (dB)": float(scale_invariant_sdr_db(x, y, RATE)),
        "correlation": float(best.at_zero),
        "best": float(best.best),
        "shift (s)": float(best.shift_s),
        "onset shift (s)": float(onset.shift_s),
        "its coefficient": float(onset.coefficient),
        "LSD (dB)": float(log_spectral_distance_db(x, y, RATE, window_s=1.0, band_hz=(1, 15))),
        "coherence 1-5 Hz": float(coherence(x, y, RATE, segment_s=3.0, bands_hz=[(1, 5)]).by_band[0]),
        "coherence 5-15 Hz": float(coherence(x, y, RATE, segment_s=3.0, bands_hz=[(5, 15)]).by_band[0]),
        "envelopes": float(both.correlation),
        "level (dB)": float(both.level_db),
    }


def number(v: float) -> str:
    return "+inf" if v > 200 else f"{v:.2f}".replace("-0.00", "0.00") if abs(v) < 10 else f"{v:.1f}"


def save(figure: plt.Figure, path: Path) -> None:
    """As PNG of 64 colours, a third of the size of one of all."""
    figure.canvas.draw()
    Image.fromarray(np.asarray(figure.canvas.buffer_rgba())[..., :3]).quantize(64, dither=Image.Dither.NONE).save(
        path, optimize=True
    )


def waveforms(out: Path) -> None:
    y = record()
    found = {name: scores(spoil(y), y) for name, spoil in SPOILED.items()}
    columns = list(next(iter(found.values())))
    print(f"| | {' | '.join(columns)} |\n|---|{'---|' * len(columns)}")
    for name, values in found.items():
        print(f"| {name} | {' | '.join(number(v) for v in values.values())} |")
    figure, axes = plt.subplots(len(found), 1, figsize=(7.2, 7.6), sharex=True)
    t, part = np.arange(N) / RATE, slice(700, 1800)
    for axis, (name, values) in zip(axes, found.items(), strict=True):
        axis.plot(t[part], y[part], color="0.65", linewidth=0.8)
        axis.plot(t[part], SPOILED[name](y)[part], color="tab:red", linewidth=0.5)
        axis.set_yticks([])
        axis.set_ylim(-1.2, 1.2)
        words = ", ".join(f"{k} {number(values[k])}" for k in ("SNR (dB)", "SI-SDR (dB)", "best", "onset shift (s)", "LSD (dB)"))
        axis.set_title(f"{name}: {words}", fontsize=7, loc="left", pad=2)
    axes[-1].set_xlabel("s")
    figure.tight_layout(h_pad=0.3)
    save(figure, out / "waveform.png")


def spectra(out: Path) -> None:
    y = record()
    figure, (left, right) = plt.subplots(1, 2, figsize=(7.2, 3.0))
    raw = fourier_amplitude(y, RATE, spacing_hz=0.01)
    centres = np.geomspace(0.5, 24, 150)
    left.loglog(raw.frequencies_hz, raw.amplitude, color="0.75", linewidth=0.4, label="Fourier amplitude")
    for b, color in ((188.5, "tab:blue"), (40.0, "tab:red"), (20.0, "k")):
        left.loglog(centres, smoothed(raw, centres, b).amplitude, color=color, linewidth=1, label=f"b = {b:g}")
    left.set(xlim=(0.5, 24), ylim=(1e-4, 1), xlabel="Hz", title="smoothing of Konno and Ohmachi")
    left.legend(fontsize=6)
    for snr_db, color in ((20, "tab:green"), (10, "tab:blue"), (3, "tab:red")):
        found = coherence(noisy(y, snr_db), y, RATE, segment_s=3.0)
        right.plot(found.frequencies_hz, found.coherence, color=color, linewidth=0.8, label=f"noise at {snr_db} dB")
    found = coherence(record(5), y, RATE, segment_s=3.0)
    right.plot(found.frequencies_hz, found.coherence, color="0.6", linewidth=0.8, label="nothing in common")
    right.axhline(1 / found.segments, color="k", linewidth=0.5, linestyle=":")
    right.set(xlim=(1, 15), ylim=(0, 1), xlabel="Hz", title=f"coherence, {found.segments} segments of 3 s")
    right.legend(fontsize=6)
    figure.tight_layout()
    save(figure, out / "spectrum.png")
    eas = effective_amplitude(y, record(5), RATE, [1.5, 3.0, 6.0, 12.0])
    print("\nEAS at 1.5, 3, 6, 12 Hz:", [f"{v:.4f}" for v in eas.amplitude.tolist()])


def detections(out: Path) -> None:
    figure, (left, right) = plt.subplots(1, 2, figsize=(7.2, 3.0))
    for apart in (0.36, 0.95, 1.81, 2.9):
        g = torch.Generator().manual_seed(3)
        label = torch.arange(4000) % 2
        curve = roc(torch.randn(4000, generator=g) + apart * label, label)
        left.plot(curve.false_positive_rate, curve.true_positive_rate, linewidth=1, label=f"AUC {curve.auc:.2f}")
    left.plot([0, 1], [0, 1], color="0.7", linewidth=0.5)
    left.set(xlabel="false positive rate", ylabel="true positive rate", title="scores drawn from two Gaussians", aspect="equal")
    left.legend(fontsize=6)
    print("\n| events | AUC | interval | draws without both classes |\n|---|---|---|---|")
    for number_of_events in (10, 30, 100, 300, 1000):
        g = torch.Generator().manual_seed(7)
        label = torch.arange(number_of_events) % 2
        score = torch.randn(number_of_events, generator=g) + 1.19 * label
        auc = float(roc(score, label).auc)
        ends = interval_by_event(lambda w, s=score, y=label: roc(s, y, weight=w).auc, range(number_of_events))
        print(f"| {number_of_events} | {auc:.2f} | {ends.low:.2f} to {ends.high:.2f} | {ends.without_value} |")
        right.errorbar(
            number_of_events, auc, [[auc - ends.low], [ends.high - auc]], color="tab:blue", fmt="o", markersize=3, capsize=3
        )
    right.axhline(0.8, color="0.7", linewidth=0.5)
    right.set(xscale="log", xlabel="events, half of each class", ylim=(0.4, 1.02), title="AUC of a true 0.80 with 95 % interval")
    figure.tight_layout()
    save(figure, out / "detection.png")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder for the figures")
    out = parser.parse_args().out
    out.mkdir(parents=True, exist_ok=True)
    plt.rcParams.update({"font.size": 7, "figure.dpi": 100})
    waveforms(out)
    spectra(out)
    detections(out)


if __name__ == "__main__":
    main()
