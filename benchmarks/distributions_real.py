"""What the measures of distributions say of real records against real records, and of records made wrong on purpose.

    SEISLATENT_RECORDS=FOLDER python benchmarks/distributions_real.py [--gap 15]

Iceland: dike swarm and icequakes (`iceland_quakemigrate`), three components, the most frequent rate, 1 to 40 Hz, 6 s from 1 s
before P. Log spectra in 12 bands from 1 to 40 Hz. "Other half" are real records of other events: what a perfect generator would
give.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import torch
from scipy.signal import butter, sosfiltfilt

from seislatent.metrics.discrepancy import maximum_mean_discrepancy
from seislatent.metrics.diversity import coverage_density
from seislatent.metrics.frechet import frechet_extrapolated, frechet_with_floor, log_spectra, logarithmic_bands
from seislatent.metrics.memorisation import memorisation


def records(gap_s: float) -> tuple[torch.Tensor, np.ndarray, float]:
    folder = Path(os.environ["SEISLATENT_RECORDS"]) / "iceland_quakemigrate"
    table = pd.read_csv(folder / "metadata.csv", low_memory=False)
    rate = float(table["trace_sampling_rate_hz"].mode()[0])
    table = table[(table["trace_sampling_rate_hz"] == rate) & (table["n_components"] == 3) & (table["n_flat_components"] == 0)]
    band = butter(4, (1.0, 40.0), "bandpass", fs=rate, output="sos")
    kept, events = [], []
    with h5py.File(folder / "waveforms.hdf5") as file:
        for row in table.itertuples():
            onset = row.trace_p_arrival_sample if row.trace_p_arrival_sample > 0 else row.trace_p_modelled_sample
            if not np.isfinite(onset):
                continue
            data = np.asarray(file["data"][row.trace_name], dtype=np.float64)
            if not np.isfinite(data).all():
                continue
            data = sosfiltfilt(band, data - data.mean(1, keepdims=True), axis=1)
            first = int(onset - rate)
            part = data[:, max(first, 0) : first + int(6 * rate)]
            if first >= 0 and part.shape == (3, int(6 * rate)) and (np.ptp(part, axis=1) > 0).all():
                kept.append(part - part.mean(1, keepdims=True))
                events.append(row.source_id)
    return torch.from_numpy(np.stack(kept)), apart(np.asarray(events), gap_s), rate


def apart(source: np.ndarray, gap_s: float) -> np.ndarray:
    """Events less than `gap_s` apart as one: their windows hold the same samples, and a split between them would leak."""
    names, back = np.unique(source, return_inverse=True)
    times = pd.to_datetime([str(v)[:14] for v in names], format="%Y%m%d%H%M%S") + pd.to_timedelta(
        [int(str(v)[14:]) for v in names], "ms"
    )
    return np.concatenate([[0], (np.diff(times.to_numpy()) / np.timedelta64(1, "s") > gap_s).cumsum()])[back]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gap", type=float, default=15.0, help="events nearer than this in s count as one; 0: the catalogue's")
    g = torch.Generator().manual_seed(0)
    x, events, rate = records(parser.parse_args().gap)
    names = np.unique(events)
    chosen = torch.randperm(len(names), generator=g).numpy()
    one = np.isin(events, names[chosen[: len(names) // 2]])
    bands = logarithmic_bands(1.0, min(40.0, rate / 2), 12)
    f = log_spectra(x, rate, bands).movedim(-2, 0)  # [component record band]
    print(f"{len(x)} records of {len(names)} events at {rate:g} Hz; halves of {one.sum()} and {(~one).sum()} records")
    real, other = f[:, one], f[:, ~one]
    tilt = torch.linspace(0, -1.0, 12, dtype=f.dtype)
    trials = {
        "other half": other,
        "other half, 40 Hz weaker by 63 %": other + tilt,
        "mean and scatter of each band, no correlation": real.mean(1, keepdim=True)
        + torch.randn(other.shape, generator=g, dtype=f.dtype) * real.std(1, keepdim=True),
    }
    print("| set | d^2 Z | matched | floor by event | ratio | floor by record | coverage (expected) | MMD p by event | by record |")
    print("|---|---:|---:|---:|---:|---:|---:|---:|---:|")
    for name, made in trials.items():
        made_events = events[~one]
        by_event = frechet_with_floor(made, real, g, events=events[one], generated_events=made_events)
        by_record = frechet_with_floor(made, real, g)
        cover = coverage_density(made[0], real[0])
        p = [maximum_mean_discrepancy(made[0], real[0], g, events=a, other_events=b).p_value.item()
             for a, b in ((made_events.astype(str), events[one].astype(str)), (None, None))]  # fmt: skip
        print(
            f"| {name} | {by_event.distance[0]:.2f} | {by_event.matched[0].mean():.2f} | {by_event.floor[0].mean():.2f} |"
            f" {by_event.ratio[0]:.2f} | {by_record.floor[0].mean():.2f} | {cover.coverage:.2f} ({cover.expected_coverage:.2f}) |"
            f" {p[0]:.3f} | {p[1]:.3f} |"
        )
    endless = frechet_extrapolated(other, real, g)
    print(f"other half, extrapolated: {endless.distance[0]:.2f} of {endless.values[0, -1, 0]:.2f}")
    shift = torch.roll(x[one][::3], int(0.2 * rate), -1)
    noise = torch.randn(shift.shape, generator=g, dtype=x.dtype) * shift.std((1, 2), keepdim=True)
    copies = {db: (-3 * (shift + 10 ** (-db / 20) * noise), events[one][::3]) for db in (30, 20, 10)}
    unseen = x[~one]
    print("| generated | median distance | held out | nearer | p by event |\n|---|---:|---:|---:|---:|")
    label = events[~one]
    split = np.isin(label, np.unique(label)[::2])
    trials = {f"copies 0.2 s later, -3 times as large, noise at {db} dB": v for db, v in copies.items()}
    for name, (made, made_events) in {**trials, "real records of other events": (unseen[split], label[split])}.items():
        held, held_events = unseen[~split], label[~split]
        found = memorisation(
            made, held, x[one], rate, g, max_shift_s=1.0,
            events=[f"made {e}" for e in made_events], held_out_events=[f"held {e}" for e in held_events],
        )  # fmt: skip
        values = found.generated.median(), found.held_out.median(), found.nearer
        print(f"| {name} | {' | '.join(f'{v:.2f}' for v in values)} | {found.p_value:.3f} |")
    copied = int((torch.cat([found.generated, found.held_out]) < 0.05).sum())
    print(f"records of the other half nearer than 0.05 to one of this half: {copied} of {len(unseen)}")


if __name__ == "__main__":
    main()
