"""How far classical pickers are from manual picks of P and S.

SEISLATENT_RECORDS=FOLDER OMP_NUM_THREADS=1 python benchmarks/pick_baselines.py [--sets NAME,NAME] [--out FILE.json]

Records of three live components are cut to 30 s whose start is drawn (seeded) so that P lies 6 to 25 s behind it: in some sets P is
always at one sample, which a picker must not be able to know. S counts where it lies inside. A pick that was not made counts as
wrong. Intervals (95 %) are by event; where a set names none, records whose first samples lie within 120 s are one event.
The pickers' defaults were chosen on `ncedc_phasenet`, of a few dozen settings; the other sets were not looked at before.
"""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path

import numpy as np
import torch

from seislatent.errors import SeislatentError
from seislatent.evaluate.baselines.picking import PICKERS
from seislatent.io.seisbench import SeisBenchFile
from seislatent.metrics.detection import interval_by_event
from seislatent.metrics.picks import by_snr, pick_scores
from seislatent.waveform import Waveform

SETS = ("ncedc_phasenet", "stead_sample50", "telica_gismo_3c", "ncedc_deepdenoiser")
LENGTH_S, EARLIEST_S, LATEST_S = 30.0, 6.0, 25.0
SNR_EDGES_DB = (-np.inf, 10.0, 20.0, np.inf)
SNR_NAMES = ("below 10 dB", "10 to 20 dB", "20 dB and more")


def cut(record: Waveform, rng: np.random.Generator) -> tuple[Waveform, float, float] | None:
    """30 s of a record, and its P and S in samples from there; None where it does not hold them or a component is dead."""
    rate = record.sampling_rate_hz
    p, s = (float(record.metadata.get(f"trace_{phase}_arrival_sample") or np.nan) for phase in ("p", "s"))
    n = round(LENGTH_S * rate)
    lead = int(rng.uniform(EARLIEST_S, LATEST_S) * rate)
    if len(record.data) != 3 or "Z" not in record.components or not np.isfinite(p):
        return None
    # where the record has no room, the draw moves to what it has
    first = min(max(0, int(p) - lead), record.data.shape[1] - n)
    part = record.data[:, max(first, 0) : first + n]
    if first < 0 or not EARLIEST_S * rate <= p - first < n or not np.isfinite(part).all() or (np.ptp(part, axis=1) == 0).any():
        return None
    s = s - first if 0 <= s - first < n else np.nan
    return record.with_data(part, did="cut"), p - first, s


def snr_db(record: Waveform, p: float) -> float:
    """Energy of the 3 s after P over that of the 3 s before, all components, means of the noise removed."""
    k = round(3 * record.sampling_rate_hz)
    x = np.asarray(record.data, np.float64)
    noise, signal = x[:, int(p) - k - 10 : int(p) - 10], x[:, int(p) : int(p) + k]
    level = noise.mean(-1, keepdims=True)
    before, after = ((v - level).var() for v in (noise, signal))
    return 10 * np.log10(after / before) if before > 0 and after > 0 else np.nan


def events(records: list[Waveform]) -> list[str]:
    last, number = -np.inf, 0
    order = np.argsort([r.start_ns for r in records])
    told = [r.metadata.get("source_id") or r.metadata.get("event_id") for r in records]
    names = [""] * len(records)
    for i in order:
        if records[i].start_ns - last > 120e9:
            number += 1
        last = records[i].start_ns
        names[i] = str(told[i]) if isinstance(told[i], str | int) else f"group {number}"
    return names


def judged(folder: Path) -> dict:
    rng, found = np.random.default_rng(0), []
    file = SeisBenchFile(folder)
    originals = []
    for i in range(len(file)):
        record = file[i]
        part = cut(record, rng)
        if part is not None:
            found.append(part)
            originals.append(record)
    if not found:
        raise SeislatentError(f"{folder} holds no record of three live components with P")
    event = np.asarray(events(originals))
    snr = torch.tensor([snr_db(r, p) for r, p, _ in found])
    result: dict = {"records": len(found), "events": len(set(event)), "pickers": {}}
    for name, picker in PICKERS.items():
        picks = [picker(r) for r, _, _ in found]
        result["pickers"][name] = {}
        for phase, true, at in (
            ("P", [p for _, p, _ in found], [q.p_sample for q in picks]),
            ("S", [s for _, _, s in found], [q.s_sample for q in picks]),
        ):
            here = np.isfinite(true)
            if not here.any():
                continue
            rate = np.asarray([r.sampling_rate_hz for r, _, _ in found])
            residual = torch.as_tensor((np.asarray([np.nan if q is None else q for q in at]) - np.asarray(true))[here] / rate[here])
            scores = pick_scores(residual)
            ends = [
                interval_by_event(lambda w, k=k, r=residual: pick_scores(r, weight=w).share_within[:, k], event[here])
                for k in range(len(scores.tolerances_s))
            ]
            result["pickers"][name][phase] = {
                "truths": int(here.sum()),
                "picked": int(scores.picked),
                "within": {
                    str(t): {"share": float(v), "low": e.low, "high": e.high}
                    for t, v, e in zip(scores.tolerances_s, scores.share_within, ends, strict=True)
                },
                **{k: float(getattr(scores, k)) for k in ("mean_s", "median_s", "std_s", "mad_s")},
                "within_by_snr": {
                    name: None if one is None else [int(one.picked + one.missed), *one.share_within.tolist()]
                    for name, one in zip(
                        SNR_NAMES, by_snr(residual, snr[torch.as_tensor(here)], SNR_EDGES_DB).values(), strict=True
                    )
                },
            }
    return result


def table(name: str, result: dict) -> str:
    lines = [f"{name}: {result['records']} records, {result['events']} events"]
    lines.append("| picker | phase | truths | within 0.1 s | within 0.5 s | median, MAD (s) | mean, std (s) |")
    lines.append("|---|---|---|---|---|---|---|")
    for picker, phases in result["pickers"].items():
        for phase, v in phases.items():
            shares = [
                f"{100 * w['share']:.0f} %" + (f" ({100 * w['low']:.0f}-{100 * w['high']:.0f})" if w["low"] is not None else "")
                for w in v["within"].values()
            ]
            lines.append(
                f"| `{picker}` | {phase} | {v['truths']} | {' | '.join(shares)} | {v['median_s']:+.3f}, {v['mad_s']:.3f}"
                f" | {v['mean_s']:+.2f}, {v['std_s']:.2f} |"
            )
    bins = list(SNR_NAMES)
    lines.append(f"\n| picker, share within 0.1 / 0.5 s | phase | {' | '.join(bins)} |\n|---|---|{'---|' * len(bins)}")
    for picker, phases in result["pickers"].items():
        for phase, v in phases.items():
            cells = [
                "none" if one is None else f"{100 * one[1]:.0f} / {100 * one[2]:.0f} % of {one[0]}"
                for one in v["within_by_snr"].values()
            ]
            lines.append(f"| `{picker}` | {phase} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=os.environ.get("SEISLATENT_RECORDS"), help="folder that holds the sets")
    parser.add_argument("--sets", default=",".join(SETS))
    parser.add_argument("--out", type=Path, help="also write the figures here (JSON)")
    asked = parser.parse_args()
    if asked.data is None:
        parser.error("give --data or set SEISLATENT_RECORDS")
    results = {}
    for name in asked.sets.split(","):
        results[name] = judged(Path(asked.data) / name)
        print(table(name, results[name]), flush=True)
    if asked.out:
        temporary = asked.out.with_name(f".{asked.out.name}.part")
        temporary.write_text(json.dumps(results, indent=1))
        os.replace(temporary, asked.out)


if __name__ == "__main__":
    main()
