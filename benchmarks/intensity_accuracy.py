"""How near PSA and RotD50 of real accelerograms come to an exact solution: seislatent, eqsig, pyrotd.

    SEISLATENT_RECORDS=DIR python benchmarks/intensity_accuracy.py [--records 100]

Records are pairs of horizontals of strongmotion_gmprocess below SEISLATENT_RECORDS, with the default correction. Exact: the record
interpolated in its band by 32 between zeros of 100 s, and the recursion of Nigam and Jennings on that, whose straight lines are
then true to 0.1 %. How to have pyrotd: benchmarks/metrics_speed.py.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import torch
from metrics_speed import optional

from seislatent.metrics.intensity import corrected
from seislatent.metrics.rotated import ANGLES_DEG, over_angles
from seislatent.signal.oscillator import directional_peaks

PERIODS_S = [0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0]
BY_NETWORK = 3
"""Records of a network at first; if these are too few, all."""


def exact(pair: torch.Tensor, rate_hz: float) -> torch.Tensor:
    """Peaks [period angle]; zeros before and after, so that nothing of the interpolation is lost."""
    lead, more = round(100 * rate_hz), 32
    m = pair.shape[-1] + 2 * lead
    spectrum = torch.fft.rfft(torch.nn.functional.pad(pair, (lead, lead)))
    if m % 2 == 0:
        spectrum[..., -1] /= 2
    fine = more * torch.fft.irfft(spectrum, m * more)[..., (lead - 50) * more : (lead + pair.shape[-1] - 1) * more + 1]
    return directional_peaks(fine[0], fine[1], rate_hz * more, PERIODS_S, ANGLES_DEG, interpolate=False)


def chosen(records: int) -> pd.DataFrame:
    table = pd.read_csv(Path(os.environ["SEISLATENT_RECORDS"]) / "strongmotion_gmprocess" / "metadata.csv", low_memory=False)
    table = table[(table.units == "cm/s^2") & (table.n_components == 3) & (table.trace_npts < 15000) & (table.peak > 1)]
    some = table.groupby("station_network_code").head(BY_NETWORK).head(records)
    rest = table.drop(some.index)
    return pd.concat([some, rest.iloc[:: max(1, len(rest) // max(1, records - len(some)))]]).head(records)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--records", type=int, default=100)
    table = chosen(parser.parse_args().records)
    eqsig, pyrotd = optional("eqsig.sdof"), optional("pyrotd")
    periods = np.array(PERIODS_S)
    away: dict[str, list[np.ndarray]] = {}
    with h5py.File(Path(os.environ["SEISLATENT_RECORDS"]) / "strongmotion_gmprocess" / "waveforms.hdf5") as file:
        for name, rate in zip(table.trace_name, table.trace_sampling_rate_hz, strict=True):
            pair = corrected(torch.from_numpy(file["data"][name][()][1:3]), rate, unit="cm/s^2").a_cm_s2
            truth, ours = exact(pair, rate), directional_peaks(pair[0], pair[1], rate, PERIODS_S, ANGLES_DEG)
            one, both = truth[:, 0].numpy(), over_angles(truth, [50.0])[:, 0].numpy()
            found = {
                "PSA seislatent": ours[:, 0].numpy() / one,
                "RotD50 seislatent": over_angles(ours, [50.0])[:, 0].numpy() / both,
            }
            if eqsig:
                moved = np.abs(eqsig.nigam_and_jennings_response(pair[0].numpy(), 1 / rate, periods, 0.05)[0]).max(1)
                found["PSA eqsig"] = moved * (2 * np.pi / periods) ** 2 / one
            if pyrotd:
                first, second = pair.numpy()
                psa = pyrotd.calc_spec_accels(1 / rate, first, 1 / periods).spec_accel
                rotd = pyrotd.calc_rotated_spec_accels(1 / rate, first, second, 1 / periods, percentiles=[50]).spec_accel
                found |= {"PSA pyrotd": psa / one, "RotD50 pyrotd": rotd / both}
            for what, ratio in found.items():
                away.setdefault(what, []).append(100 * np.abs(np.log(ratio)))
    print(f"{len(table)} records; |ln| to the exact solution in per cent: median (largest), at each period in s\n")
    print(f"| T in s | {' | '.join(f'{p:g}' for p in PERIODS_S)} |\n|---|{'---|' * len(PERIODS_S)}")
    for what in sorted(away):
        cells = zip(np.median(away[what], 0), np.max(away[what], 0), strict=True)
        print(f"| {what} | {' | '.join(f'{m:.2f} ({x:.1f})' for m, x in cells)} |")


if __name__ == "__main__":
    main()
