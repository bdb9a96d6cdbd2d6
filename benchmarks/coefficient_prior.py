"""Fits the table with which `io/coefficient_coder` begins: probabilities, weights of their mixture, and centroids.

OMP_NUM_THREADS=1 python benchmarks/coefficient_prior.py --data RECORDS --out src/seislatent/io/coefficient_prior.py

One model codes records of many kinds at many steps, in random order, and keeps what it has learned. The sets are none of those on
which the coder is judged in docs/baselines/compression.md, and all of them may be packaged. RECORDS holds the sets of
`SEISLATENT_RECORDS` by their names.
"""

from __future__ import annotations

import argparse
import os
import textwrap
from pathlib import Path

import numpy as np

from seislatent.data.records import open_records
from seislatent.errors import SeislatentError
from seislatent.evaluate.baselines.mdct import TRADE, best_blocks, padded, transformed
from seislatent.io import coefficient_coder as coder
from seislatent.io.coefficient_loop import CONTEXTS, KINDS, LEVELS
from seislatent.prepare.resample import resample

SETS = {"ncedc_phasenet": 40, "stead_sample50": 30, "teleseismic_P_aimbat": 40, "esec_massmovement_3c": 20}
"""Records of each."""
RATES = (None, 40.0)
SNR_DB = (3, 6, 10, 14, 18, 22, 28, 34, 42)
LONGEST, ROUNDS = 6000, 1100


def traces(root: Path, rng: np.random.Generator) -> list[np.ndarray]:
    """Records [channel time] without mean, at their own rate and at 40 Hz."""
    found = []
    for name, most in SETS.items():
        records = open_records(root / name)
        for i in rng.permutation(len(records))[:most]:
            waveform = records[int(i)]
            for rate in RATES:
                if rate and waveform.sampling_rate_hz <= rate:
                    continue
                x = waveform.data.astype(np.float64)
                x = resample(x, waveform.sampling_rate_hz, rate) if rate else x
                x = x[:, :LONGEST] - x[:, :LONGEST].mean(1, keepdims=True)
                x = x[x.std(1) > 0]
                if len(x) and np.isfinite(x).all():
                    found.append(x)
    return found


def fitted(records: list[np.ndarray], rng: np.random.Generator) -> tuple[coder.Model, list[list[int]]]:
    """A model that has seen the records, and by how much of 1/256 step what is quantised to 1, 2, 3 and more lies below it."""
    model = coder.Model(np.full(CONTEXTS, 1 << 15), np.zeros(CONTEXTS, np.int64), np.full((KINDS, 4), 1 << 14))
    shift, count = np.zeros((3, LEVELS)), np.full((3, LEVELS), 30.0)
    for turn in range(ROUNDS):
        x = records[int(rng.integers(len(records)))]
        steps = x.std(1) * 10 ** (-SNR_DB[int(rng.integers(len(SNR_DB)))] / 20) * 3
        blocks = best_blocks(x, steps, (32, 64, 128, 256, 512))
        y = transformed(padded(x, blocks.long), blocks.lengths) / steps[:, None]
        beside = None
        for row in y:
            made = coder.encode(model, row, blocks, beside, TRADE)
            beside, size = made.values, np.abs(made.values)
            kept = size > 0 if turn > ROUNDS // 4 else np.zeros(len(size), bool)
            place = np.minimum(size[kept], 3) - 1, made.level[kept]
            np.add.at(shift, place, size[kept] - np.abs(row[kept]))
            np.add.at(count, place, 1)
    return model, np.round(256 * shift / count).astype(int).tolist()


def source(model: coder.Model, centroids: list[list[int]]) -> str:
    """The module."""
    logits = np.clip(np.round(np.log(model.chance / (65536 - model.chance)) * 16), -127, 127).astype(np.int8)
    table = "\n".join(f'    "{line}"' for line in textwrap.wrap(logits.tobytes().hex(), 120))
    weights = "\n".join(f"    {tuple(int(v) for v in row)}," for row in model.weight)
    low = "\n".join("    (\n" + textwrap.fill(", ".join(map(str, r)), 120, initial_indent=" " * 8, subsequent_indent=" " * 8)
                    + ",\n    )," for r in centroids)  # fmt: skip
    return (
        '"""What `coefficient_coder` begins with, fitted by benchmarks/coefficient_prior.py.\n\n'
        'Files cannot be read with any other.\n"""\n\n'
        f"CONFIDENCE = {coder.CONFIDENCE}\n"
        '"""As if each probability had been learned from so many decisions."""\n'
        f"MIXED = (\n{weights}\n)\n"
        '"""Weights of the four logits [decision, context sort], of 2^16."""\n'
        f"CENTROIDS = (\n{low}\n)\n"
        '"""How far, in 1/256 step, what was quantised to 1, 2, 3 and more lies below [value, level around]."""\n'
        f"PRIOR = (\n{table}\n)\n"
        '"""Logits in 1/16 nat, a signed byte each in hexadecimal [context, decision]."""\n'
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=os.environ.get("SEISLATENT_RECORDS"), help="folder that holds the sets")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, required=True, help="module to write")
    given = parser.parse_args()
    if given.data is None:
        parser.error("no records: give --data, or set SEISLATENT_RECORDS")
    rng = np.random.default_rng(given.seed)
    made = source(*fitted(traces(Path(given.data), rng), rng))
    part = given.out.with_name(given.out.name + ".part")
    part.write_text(made, encoding="utf-8")
    os.replace(part, given.out)


if __name__ == "__main__":
    try:
        main()
    except SeislatentError as error:
        raise SystemExit(f"coefficient_prior: {error}") from None
