"""What the low side of a pair has at the ends of its record, by how the filter's input goes on there.

SEISLATENT_RECORDS=FOLDER python benchmarks/pairs_ends.py

Records of 60 s and more are made into pairs whole, and again cut at both edges of the same window. The largest difference of the
two low sides within 1 s of either edge is given in peaks of the whole record's low side: median and 90 % over records.
"""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import numpy as np

from seislatent.data.recipe import Made
from seislatent.data.recipes.pairs import Pairs, PairsConfig
from seislatent.data.records import open_records
from seislatent.waveform import Waveform

FIRST, SAMPLES = 600, 4096


def window(record: Waveform, cut: bool) -> Waveform:
    """The first minute with P 1 s behind the window's start, whole or cut to the window."""
    a, b = (FIRST, FIRST + SAMPLES) if cut else (0, 6000)
    metadata = {"trace_name": "", "trace_p_arrival_sample": 100.0 + (0 if cut else FIRST)}
    return replace(record, data=record.data[:, a:b], metadata=metadata)


def main() -> None:
    folder = Path(os.environ["SEISLATENT_RECORDS"])
    print(f"{'set':<24} {'records':>7}  ends as SciPy has them   mirror image, opposite sign")
    for name in ("stead_sample50", "ncedc_phasenet", "strongmotion_gmprocess"):
        source = [w for w in open_records(folder / name) if w.sampling_rate_hz == 100 and w.data.shape[1] >= 6000]
        given = {"before_p_s": (1.0, 1.0), "magnitude_from": None, "category": None}
        ways = {"whole": (False, 5.0), "scipy": (True, 0.0), "mirror": (True, 5.0)}
        made = {}
        for way, (cut, margin_s) in ways.items():
            recipe = Pairs(PairsConfig(**given, margin_s=margin_s))
            made[way] = list(recipe.make([window(w, cut) for w in source], [np.random.default_rng(0) for _ in source]))
        wrong: dict[str, list[float]] = {"scipy": [], "mirror": []}
        for whole, *others in zip(*made.values(), strict=True):
            if not all(isinstance(m, Made) for m in (whole, *others)):
                continue
            low = whole.others["low"] * whole.record.metadata["trace_peak"]
            for way, other in zip(wrong, others, strict=True):
                off = np.abs(other.others["low"] * other.record.metadata["trace_peak"] - low) / np.abs(low).max()
                wrong[way].append(float(max(off[:, :100].max(), off[:, -100:].max())))
        told = [f"{np.median(v):>10.2f} {np.percentile(v, 90):>10.2f}" for v in wrong.values()]
        print(f"{name:<24} {len(wrong['scipy']):>7}  {told[0]}    {told[1]}")


if __name__ == "__main__":
    main()
