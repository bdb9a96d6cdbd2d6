"""Picks against the arrivals that records bring with them, each record cut at random around its P.

records --_cuts--> cuts with P at an even draw, cuts of noise --pick--> Answers --scores--> residuals, precision, recall, by SNR
"""

from __future__ import annotations

import zlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from seislatent import __version__
from seislatent.data.records import Records
from seislatent.errors import SeislatentError
from seislatent.evaluate.beside import of_draws
from seislatent.evaluate.bootstrap import SHARE
from seislatent.evaluate.compress import chosen
from seislatent.evaluate.detect_page import WORST, picks_page
from seislatent.evaluate.judged import draws_of, places, ratio, told, weights
from seislatent.evaluate.report import Report
from seislatent.metrics.picks import match_picks, pick_scores
from seislatent.signal.filters import Butterworth, demean
from seislatent.waveform import Waveform

PHASES = ("P", "S")
TAIL_S = 5.0
"""A cut has at least so much behind P."""
GUARD_S = 2.0
"""A cut of noise ends so long before P."""
ROOM_S = 4.0
"""A record in which P can be moved by less is left out: a constant would be right too often (a quarter of them within 0.5 s)."""
SNR_EDGES_DB = (-np.inf, 0.0, 10.0, 20.0, 30.0, np.inf)
CONSTANT = "trivial/constant"
COMPARED = ("within_0.1_s", "within_0.5_s", "f1", "mad_s", "false_in_noise")
"""Measures of which pairs of systems are told apart."""
Values = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Cut:
    """A stretch of a record, and where its arrivals are."""

    record: int
    first: int
    """Of the record's samples."""
    samples: int
    sampling_rate_hz: float
    truth_s: dict[str, float]
    """From the beginning of the cut; empty in a cut of noise."""
    snr_db: dict[str, float] = field(default_factory=dict)
    """By phase: of the vertical about P, of the horizontals about S."""

    def of(self, waveform: Waveform) -> Waveform:
        """The stretch itself; what the record's columns say of arrivals is not told."""
        start = waveform.start_ns + round(self.first / self.sampling_rate_hz * 1e9) if waveform.start_ns else 0
        part = waveform.data[:, self.first : self.first + self.samples]
        return Waveform(
            data=part, sampling_rate_hz=waveform.sampling_rate_hz, channels=waveform.channels, start_ns=start, unit=waveform.unit
        )


@dataclass(kw_only=True)
class Answers:
    """What one system said of every cut: its picks in seconds with their probabilities."""

    picks: list[dict[str, list[tuple[float, float]]]] = field(default_factory=list)
    noise: list[dict[str, list[tuple[float, float]]]] = field(default_factory=list)
    refused: Counter[str] = field(default_factory=Counter)
    """Cuts that it would not take, and why; they count as cuts without a pick."""


def picks(
    named: dict[str, Any],
    data: str | Path | Sequence[str | Path],
    split: str,
    cut_s: float,
    lead_s: float,
    tolerance_s: float,
    seed: int,
    asked: str,
) -> Report:
    """The report about arrivals."""
    if not (lead_s >= 0 and cut_s >= lead_s + TAIL_S + ROOM_S):
        raise SeislatentError(f"cuts of {cut_s:g} s: give {lead_s + TAIL_S + ROOM_S:g} s or more, so that P can be moved in them")
    if not (np.isfinite(tolerance_s) and tolerance_s > 0):
        raise SeislatentError(f"a tolerance of {tolerance_s:g} s: give more than 0")
    records, label = chosen(data, split)
    answers, cuts, noise, skipped = _answers(named, records, cut_s, lead_s, seed)
    events = label[[c.record for c in cuts]]
    events_noise = label[[c.record for c in noise]]
    systems = {name: scores(a, cuts, events, events_noise, tolerance_s) for name, a in answers.items()}
    result = {
        "question": "detect",
        "task": "picks",
        "records": len(cuts),
        "events": len(np.unique(events)),
        "noise_cuts": len(noise),
        "s_records": sum("S" in c.truth_s for c in cuts),
        "systems": systems,
        "differences": of_draws(systems, [f"{phase.lower()}_{m}" for phase in PHASES for m in COMPARED]),
        "skipped": dict(sorted(skipped.items())),
        "cut_s": cut_s,
        "lead_s": lead_s,
        "tolerance_s": tolerance_s,
        "seed": seed,
        "data": places(data),
        "split": split,
        "interval": {"share": SHARE, "draws": draws_of(len(cuts)), "drawn": "events"},
        "version": __version__,
        "command": asked,
    }
    off = {name: {phase: residuals(a, cuts, phase) for phase in PHASES} for name, a in answers.items()}
    return picks_page(result, off, {name: _worst(answers[name], cuts, records) for name in named})


def _answers(
    named: dict[str, Any], records: Records, cut_s: float, lead_s: float, seed: int
) -> tuple[dict[str, Answers], list[Cut], list[Cut], Counter[str]]:
    """What every system and the constant say of all cuts, the cuts with P, those of noise, and why records have none.

    Raises:
        SeislatentError: no record has a cut.
    """
    cuts: list[Cut] = []
    noise: list[Cut] = []
    answers = {name: Answers() for name in [*named, CONSTANT]}
    skipped: Counter[str] = Counter()
    for i in range(len(records)):
        made = _cuts(records, i, cut_s, lead_s, seed)
        if isinstance(made, str):
            skipped[made] += 1
            continue
        waveform, pair = made
        for kept, to, cut in ((cuts, "picks", pair[0]), (noise, "noise", pair[1])):
            if cut is not None:
                kept.append(cut)
                for name, system in named.items():
                    getattr(answers[name], to).append(_asked(system, cut.of(waveform), answers[name]))
    if not cuts:
        why = "; ".join(f"{reason}: {count}" for reason, count in skipped.items())
        raise SeislatentError(
            f"none of the {len(records)} records can be judged ({why}): give records with P in trace_p_arrival_sample"
        )
    _constant(answers[CONSTANT], cuts, noise)
    return answers, cuts, noise, skipped


def _worst(answers: Answers, cuts: list[Cut], records: Records) -> list[tuple[Any, ...]]:
    """Of the cuts whose P is missed or farthest off: a title, times in s, the vertical, labels and picks."""
    r = residuals(answers, cuts, "P")
    order = np.argsort(-np.where(np.isnan(r), np.inf, np.abs(r)), kind="stable")[:WORST]
    out = []
    for i in order:
        part = cuts[i].of(records[cuts[i].record])
        z = demean(part.data[part.components.index("Z")])
        off = "no P" if np.isnan(r[i]) else f"P {r[i]:+.2f} s"
        title = f"{part.ids[part.components.index('Z')]} {part.start_text[:19]}, {off}, SNR {cuts[i].snr_db['P']:.0f} dB"
        out.append((title, np.arange(len(z)) / part.sampling_rate_hz, z, cuts[i].truth_s, answers.picks[i]))
    return out


def _cuts(records: Records, i: int, cut_s: float, lead_s: float, seed: int) -> str | tuple[Waveform, tuple[Cut, Cut | None]]:
    """A record with a cut around its P and, where there is room before it, one of noise; or why there is none."""
    try:
        waveform = records[i]
    except SeislatentError:
        return "cannot be read"
    row, rate, n = records.metadata.iloc[i], waveform.sampling_rate_hz, waveform.data.shape[1]
    p = _sample(row, "p")
    if p is None or not 0 <= p < n:
        return "no P"
    if "Z" not in waveform.components:
        return "no vertical component"
    z = waveform.data[waveform.components.index("Z")]
    if waveform.data.dtype.kind not in "iuf" or not np.isfinite(waveform.data).all():
        return "values that are not finite"
    if np.ptp(z) == 0:
        return "silent (all samples of the vertical equal)"
    size = round(cut_s * rate)
    earliest, latest = max(0, round(p + TAIL_S * rate) - size), min(int(p - lead_s * rate), n - size)
    if latest - earliest < ROOM_S * rate:
        return "no room to cut at random around P"
    # by what the record is and not by its place, so that adding records changes no cut
    key = zlib.crc32(f"{row['trace_name']} {waveform.start_ns} {','.join(waveform.ids)}".encode())
    draw = np.random.default_rng([seed, key])
    first = int(draw.integers(earliest, latest + 1))
    truth, snr = {"P": (p - first) / rate}, {"P": _snr_db(z[None], p, p, rate)}
    s = _sample(row, "s")
    if s is not None and p < s < first + size:
        truth["S"] = (s - first) / rate
        level = [row for row, component in zip(waveform.data, waveform.components, strict=True) if component != "Z"]
        snr["S"] = _snr_db(np.stack(level), p, s, rate) if level else float("nan")
    cut = Cut(record=i, first=first, samples=size, sampling_rate_hz=rate, truth_s=truth, snr_db=snr)
    room = int(p - GUARD_S * rate) - size
    quiet = None
    if room >= 0:
        quiet = Cut(record=i, first=int(draw.integers(0, room + 1)), samples=size, sampling_rate_hz=rate, truth_s={})
    return waveform, (cut, quiet)


def _sample(row: Any, phase: str) -> float | None:
    """Where a phase arrives by the record's table; None where that says nothing."""
    try:
        value = float(row.get(f"trace_{phase}_arrival_sample", float("nan")))
    except (TypeError, ValueError):
        return None
    return value if np.isfinite(value) else None


def _snr_db(x: NDArray[Any], p: float, at: float, rate_hz: float) -> float:
    """Mean square of rows [channel time] 2 s from an arrival on over that in the 5 s up to 0.5 s before P, in dB, above 1 Hz."""
    x = demean(x)
    if rate_hz > 2.5:
        x = Butterworth(kind="highpass", corners_hz=1.0, rate_hz=rate_hz, order=4, zero_phase=False)(x)
    after = x[:, int(at) : int(at + 2 * rate_hz)]
    before = x[:, max(0, int(p - 5.5 * rate_hz)) : max(0, int(p - 0.5 * rate_hz))]
    signal, quiet = (float(np.mean(v**2)) if v.size else 0.0 for v in (after, before))
    return 10 * float(np.log10(signal / quiet)) if signal > 0 and quiet > 0 else float("nan")


def _asked(system: Any, waveform: Waveform, answers: Answers) -> dict[str, list[tuple[float, float]]]:
    """The picks of one cut, by phase, in seconds from its beginning."""
    try:
        with torch.inference_mode():
            given = system.pick(waveform)
    except SeislatentError as error:
        answers.refused[str(error).partition(":")[2].strip() or str(error)] += 1
        given = []
    found: dict[str, list[tuple[float, float]]] = {phase: [] for phase in PHASES}
    for pick in given:
        if pick.phase in found and np.isfinite(pick.sample):
            found[pick.phase].append((float(pick.sample) / waveform.sampling_rate_hz, float(pick.probability)))
    return found


def _constant(answers: Answers, cuts: list[Cut], noise: list[Cut]) -> None:
    """What says the mean of these very truths of every cut, noise too: the best that an answer without looking can be."""
    mean = {phase: [c.truth_s[phase] for c in cuts if phase in c.truth_s] for phase in PHASES}
    said = {phase: [(float(np.mean(v)), 1.0)] if v else [] for phase, v in mean.items()}
    answers.picks, answers.noise = [said] * len(cuts), [said] * len(noise)


def residuals(answers: Answers, cuts: list[Cut], phase: str) -> Values:
    """Most probable pick (the earliest of several) less truth, in s, of the cuts that hold the phase; NaN where there is none."""
    out = []
    for found, cut in zip(answers.picks, cuts, strict=True):
        if phase in cut.truth_s:
            best = min(found[phase], key=lambda p: (-p[1], p[0]), default=(float("nan"), 0.0))
            out.append(best[0] - cut.truth_s[phase])
    return np.array(out, np.float64)


def scores(
    answers: Answers, cuts: list[Cut], events: NDArray[Any], events_noise: NDArray[Any], tolerance_s: float
) -> dict[str, Any]:
    """A system's part of report.json, flat: `p_` and `s_` before each measure."""
    out: dict[str, Any] = {}
    by_snr: dict[str, Any] = {}
    for phase in PHASES:
        here = np.array([phase in c.truth_s for c in cuts])
        if not here.any():
            continue
        where, r = events[here], torch.from_numpy(residuals(answers, cuts, phase))
        near = r.where(r.abs() <= tolerance_s + 1e-6, float("nan"))
        some = [(found[phase], c.truth_s[phase]) for found, c, h in zip(answers.picks, cuts, here, strict=True) if h]
        counts = _counts(some, tolerance_s)
        one = _phase(r, near, counts, where)
        snr = np.array([c.snr_db[phase] for c in cuts if phase in c.truth_s])
        bins = [_bin(r, counts, snr, low, high, where) for low, high in pairwise(SNR_EDGES_DB)]
        by_snr[phase] = [told for told in bins if told is not None]
        out |= {f"{phase.lower()}_{name}": value for name, value in one.items()}
    false = torch.tensor([[bool(found[phase]) for phase in PHASES] for found in answers.noise]).reshape(-1, 2).double()
    if len(false):
        for k, phase in enumerate(PHASES):
            out[f"{phase.lower()}_false_in_noise"] = ratio(false[:, k], torch.ones(len(false)).double(), events_noise)
    out["by_snr"] = by_snr
    out["refused"] = dict(sorted(answers.refused.items()))
    return out


def _phase(r: Tensor, near: Tensor, counts: Tensor, where: NDArray[Any]) -> dict[str, Any]:
    """All measures of a phase from residuals, those within the tolerance, and right, false and missed picks [record 3]."""
    out = _residuals_told(r, ("mean_s", "median_s", "std_s", "mad_s"), where)
    out |= {f"matched_{name}": value for name, value in _residuals_told(near, ("mean_s", "std_s"), where).items()}
    right, false, missed = counts.double().unbind(1)
    out["picked"] = ratio((~r.isnan()).double(), torch.ones_like(r), where)
    out["precision"] = ratio(right, right + false, where)
    out["recall"] = ratio(right, right + missed, where)
    out["f1"] = ratio(2 * right, 2 * right + false + missed, where)
    return out


def _residuals_told(r: Tensor, names: Sequence[str], events: NDArray[Any]) -> dict[str, Any]:
    """Some of `pick_scores`, and the shares of all records within each tolerance."""
    whole, drawn = pick_scores(r), pick_scores(r, weight=weights(events))
    out = {name: told(getattr(whole, name), getattr(drawn, name), events) for name in names}
    for k, tolerance in enumerate(whole.tolerances_s if "median_s" in names else ()):
        inside = (r.abs() <= tolerance + 1e-6).double()
        out[f"within_{tolerance:g}_s"] = told(
            whole.share_within[k], drawn.share_within[:, k], events, float(inside.std(correction=0))
        )
    return out


def _counts(some: list[tuple[list[tuple[float, float]], float]], tolerance_s: float) -> Tensor:
    """Right, false and missed picks of each record [record 3]."""
    rows = []
    for found, truth in some:
        m = match_picks([t for t, _ in found], [truth], tolerance_s)
        rows.append((len(m.pick), len(m.false), len(m.missed)))
    return torch.tensor(rows)


def _bin(r: Tensor, counts: Tensor, snr: Values, low: float, high: float, events: NDArray[Any]) -> dict[str, Any] | None:
    """A phase in the records of one range of signal-to-noise ratio: what a picker does where it is hard."""
    inside = (snr >= low) & (snr < high)
    if not inside.any():
        return None
    ends = {
        "low_db": low if np.isfinite(low) else None,
        "high_db": high if np.isfinite(high) else None,
        "records": int(inside.sum()),
    }
    where, (right, false, missed) = events[inside], counts[inside].double().unbind(1)
    return ends | {
        **_residuals_told(r[inside], ("mean_s", "median_s", "std_s", "mad_s"), where),
        "recall": ratio(right, right + missed, where),
        "f1": ratio(2 * right, 2 * right + false + missed, where),
    }
