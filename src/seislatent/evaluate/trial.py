"""One record through one codec: what it costs in a real file, and what comes back.

Waveform --codec/stream.encode--> code file --cut at level 1, 2, ...--> bytes
code file --decode--> at the codec's rate, and at the record's own --> errors of normalised traces
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from seislatent.errors import SeislatentError
from seislatent.io.slat import Codes
from seislatent.metrics.kristekova import kristekova
from seislatent.metrics.waveform import waveform_errors
from seislatent.prepare.resample import resample
from seislatent.systems.codec import stream
from seislatent.systems.codec.segments import cast_to
from seislatent.waveform import Waveform

SAMPLE_BITS = 32
"""Of an uncompressed sample, as in the poster's ratio."""
PIECE_FRAMES = 128
"""Frames given to `unquantised` at once."""
FIT_BAND, FIT_LOWEST_HZ, FIT_FREQUENCIES = (5.0, 0.45), 0.5, 40
"""The goodness of fit is taken from five periods a record, 0.5 Hz at least, to 0.45 of the rate, at so many frequencies."""

TOO_HIGH = "silent below half the codec's rate"
"""Why a trace is left out that has nothing there."""

Compare = Callable[[Waveform], Callable[[Waveform], Mapping[str, float]]]
"""Takes an original, and gives what tells of a decoded one some numbers: `utility.against`."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Errors:
    """Of one trace scaled so that the reference has zero mean and unit variance."""

    mse: float
    """Mean squared error: the error's energy as a share of the reference's."""
    mae: float
    """Mean absolute error, in standard deviations of the reference. Its square is at most `mse`."""
    snr_db: float
    """10 log10 of the reference's energy, mean removed, over the error's; -10 log10 of `mse`. An exact trace counts 300 dB."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Point:
    """One trace at one level."""

    level: int
    codec: Errors
    """At the codec's rate: the coding alone."""
    own: Errors
    """At the record's own rate: with what lies above half the codec's rate, and rounding to the record's type."""
    windows: tuple[Errors, ...] = ()
    """Of windows at the codec's rate, each scaled by itself."""
    eg: float = math.nan
    """Envelope goodness of fit at the codec's rate, 0 to 10, of Kristekova et al. (2009); NaN where the record is too short."""
    pg: float = math.nan
    """Phase goodness of fit, 0 to 10."""


@dataclass(kw_only=True)
class Trial:
    """What became of one record: of every trace of it, and of its file."""

    points: list[list[Point]] = field(default_factory=list)
    """For each trace that was coded, its levels from 1 up."""
    rows: list[int] = field(default_factory=list)
    """Which row of the record each of these traces is."""
    unquantised: list[Errors] = field(default_factory=list)
    """For each trace, where the system gives its output without the quantiser."""
    file_bytes: list[int] = field(default_factory=list)
    """Of the record's code file at each level: all bytes, of the traces that were coded."""
    payload_bytes: list[int] = field(default_factory=list)
    """Of a baseline, what the samples of known channels take."""
    asked: list[dict[str, float]] = field(default_factory=list)
    """Of a baseline, what `encode` was asked for at each level."""
    utility: list[dict[str, float]] = field(default_factory=list)
    """Of each level, what `compare` tells."""
    sampling_rate_hz: float = 0.0
    """At which the record was coded."""
    seconds: float = 0.0
    """Duration of the coded traces together."""
    used: NDArray[np.int64] | None = None
    """How often each index was used [level index]."""
    skipped: list[str] = field(default_factory=list)
    """Why a trace was left out, once for each."""
    silent_windows: int = 0


def normalised(reference: NDArray[Any]) -> tuple[float, float]:
    """Mean and standard deviation of a trace [time] in float64; 0 for silence, NaN where a value is not finite."""
    x = np.asarray(reference, np.float64)
    with np.errstate(invalid="ignore", over="ignore"):
        if not len(x) or not np.isfinite(x).all():
            return float("nan"), float("nan")
        peak = float(np.abs(x).max()) or 1.0  # so that squares neither overflow nor vanish
        return float((x / peak).mean() * peak), float((x / peak).std() * peak) if np.ptp(x) else 0.0


def errors(estimate: NDArray[Any], reference: NDArray[Any]) -> Errors:
    """Errors of a trace [time] against its reference, both scaled by the reference's mean and standard deviation.

    Raises:
        SeislatentError: a reference that is silent or not finite, which has no scale.
    """
    mean, std = normalised(reference)
    if not std > 0:
        raise SeislatentError("a silent or non-finite reference has no scale: leave such traces out and count them")
    x, y = ((torch.from_numpy(np.asarray(a, np.float64)) - mean) / std for a in (estimate, reference))
    found = waveform_errors(x, y, 1.0)
    mse = float(found.mse)
    return Errors(mse=mse, mae=float(found.mae), snr_db=min(-10 * math.log10(max(mse, 1e-30)), 300.0))


def unusable(waveform: Waveform) -> str:
    """Why a trace of one channel cannot be judged, "" where it can."""
    data = waveform.data[0]
    if data.dtype.kind not in "iuf":
        return "not numbers"
    if not data.size:
        return "no samples"
    _, std = normalised(data)
    if not np.isfinite(std):
        return "values that are not finite"
    return "" if std > 0 else "silent (all samples equal)"


def try_record(model: Any, waveform: Waveform, window_s: float | None = None, compare: Compare | None = None) -> Trial:
    """Code a record of any number of channels, decode it at every level, and measure.

    Args:
        model: a loaded codec, as `seislatent.load` gives it.
        waveform: the record; channels that are silent, not finite, or that the codec stores losslessly are left out and counted.
        window_s: also measure windows of this length in seconds, each scaled by itself.
        compare: also tells the use of what comes back, of all traces of the record together.
    """
    trial = Trial()
    kept: dict[int, Waveform] = {}
    for i in range(len(waveform.data)):
        row = replace(waveform.select([i]), metadata={})  # a data set's columns are no part of what a code file costs
        reason = unusable(row)
        if reason:
            trial.skipped.append(reason)
        else:
            kept[i] = row
    kept, codes = _coded(model, kept, trial)
    if codes is None:
        return trial
    rate = trial.sampling_rate_hz = codes.head.sampling_rate_hz
    trial.seconds = sum(row.duration_s for row in kept.values())
    trial.file_bytes = [len(codes.truncate(k).to_bytes()) for k in range(1, codes.level + 1)]
    trial.used = used(codes)
    decoded = [list(whole_frames(model, codes, k)) for k in range(1, codes.level + 1)]
    originals, places = [], []
    for i, (place, row) in enumerate(kept.items()):
        x = at_rate(row, rate)
        if not normalised(x)[1] > 0:
            trial.skipped.append(TOO_HIGH)
            continue
        points = []
        for k, level in enumerate(decoded, 1):
            own = errors(at_own_rate(level[i], rate, row), row.data[0])
            points.append(measured(trial, k, level[i][: len(x)], x, own, rate, window_s))
        trial.points.append(points)
        trial.rows.append(place)
        originals.append(x)
        places.append(i)
        bare = without_quantiser(model.system, x)
        if bare is not None:
            trial.unquantised.append(errors(bare, x))
    if compare is not None and originals:
        together = waveform.select(trial.rows)
        against = compare(replace(together, data=np.stack(originals), sampling_rate_hz=rate))
        for level in decoded:
            rows = np.stack([level[i][: len(x)] for i, x in zip(places, originals, strict=True)])
            trial.utility.append(dict(against(replace(together, data=rows, sampling_rate_hz=rate))))
    return trial


def measured(
    trial: Trial, level: int, y: NDArray[Any], x: NDArray[Any], own: Errors | None, rate_hz: float, window_s: float | None
) -> Point:
    """A trace [time] at one level against its original [time]; windows that are silent are counted in the trial, once.

    Without `own` the record's own rate is that at which it was coded.
    """
    parts, silent = windows(y, x, rate_hz, window_s)
    trial.silent_windows += silent if level == 1 else 0
    alone = errors(y, x)
    eg, pg = goodness(y, x, rate_hz)
    return Point(level=level, codec=alone, own=alone if own is None else own, windows=parts, eg=eg, pg=pg)


def goodness(y: NDArray[Any], x: NDArray[Any], rate_hz: float) -> tuple[float, float]:
    """Envelope and phase goodness of fit of a trace [time], of one component, globally normalised; NaN where it is too short."""
    low, high = max(FIT_LOWEST_HZ, FIT_BAND[0] * rate_hz / len(x)), FIT_BAND[1] * rate_hz
    mean, std = normalised(x)
    if not low < high:
        return math.nan, math.nan
    one, other = (torch.from_numpy((np.asarray(v, np.float64) - mean) / std).float()[None] for v in (y, x))
    found = kristekova(one, other, rate_hz, band_hz=(low, high), frequencies=FIT_FREQUENCIES)
    return float(found.eg), float(found.pg)  # type: ignore[arg-type]


def _coded(model: Any, kept: dict[int, Waveform], trial: Trial) -> tuple[dict[int, Waveform], Codes | None]:
    """The traces that the codec serves, and their file; why the others are stored as they are is counted."""
    codes = stream.encode(model, kept.values()) if kept else None
    if codes is not None and any(not entry.frames for entry in codes.traces):
        trial.skipped += [entry.reason for entry in codes.traces if not entry.frames]
        kept = {i: row for (i, row), entry in zip(kept.items(), codes.traces, strict=True) if entry.frames}
        codes = stream.encode(model, kept.values()) if kept else None
    return kept, codes


def at_rate(row: Waveform, rate_hz: float) -> NDArray[np.float64]:
    """Samples [time] of a trace of one channel at another rate."""
    return resample(row.data[0].astype(np.float64), row.sampling_rate_hz, rate_hz)


def whole_frames(model: Any, codes: Codes, level: int) -> Iterator[NDArray[np.float64]]:
    """Each trace of a code file as its whole frames at the codec's rate [time], neither resampled nor rounded."""
    rate, frame = codes.head.sampling_rate_hz, codes.head.frame
    traces = tuple(replace(e, sampling_rate_hz=rate, samples=e.frames * frame, dtype="<f8") for e in codes.traces)
    for waveform in stream.decode_waveforms(model, replace(codes, traces=traces), level):
        yield waveform.data[0]


def at_own_rate(frames: NDArray[np.float64], rate_hz: float, row: Waveform) -> NDArray[Any]:
    """Whole frames at the codec's rate as the decoder would write them: at the record's rate, in its length and type."""
    return cast_to(resample(frames, rate_hz, row.sampling_rate_hz)[: row.data.shape[1]], row.data.dtype)


def used(codes: Codes) -> NDArray[np.int64]:
    """How often each index stands in each level of a code file: [level index]."""
    counts = np.zeros((codes.level, 2**codes.head.bits), np.int64)
    for trace, entry in enumerate(codes.traces):
        for run in range(codes.head.runs(entry.frames) if entry.frames else 0):
            held = codes.run(trace, run, codes.level)
            for indices in held.indices if held else ():
                for level, row in enumerate(indices):
                    counts[level] += np.bincount(row, minlength=counts.shape[1])
    return counts


def windows(y: NDArray[Any], x: NDArray[Any], rate_hz: float, window_s: float | None) -> tuple[tuple[Errors, ...], int]:
    """Errors of whole windows, and how many of them are silent."""
    if window_s is None:
        return (), 0
    size = round(window_s * rate_hz)
    found, silent = [], 0
    for at in range(0, len(x) - size + 1, size):
        part = x[at : at + size]
        if normalised(part)[1] > 0:
            found.append(errors(y[at : at + size], part))
        else:
            silent += 1
    return tuple(found), silent


def without_quantiser(system: Any, x: NDArray[np.float64]) -> NDArray[np.float64] | None:
    """What the system's encoder and decoder alone make of a trace [time] at its rate; None where the system does not offer it.

    Pieces of 128 frames, each with the codec's context on both sides.
    """
    if not hasattr(system, "unquantised"):
        return None
    frame, context = system.frame, -(-system.margin // system.frame) * system.frame
    size, total = PIECE_FRAMES * frame, len(x)
    padded = np.pad(x, (context, context + -total % frame), mode="edge")
    device = next((p.device for p in system.parameters()), torch.device("cpu"))
    parts = []
    for at in range(0, total, size):
        piece = torch.from_numpy(padded[at : at + size + 2 * context].copy())[None, None].to(device)
        with torch.inference_mode():
            y = system.unquantised(piece)[0, 0].double().cpu().numpy()
        parts.append(y[context : len(y) - context])
    return np.concatenate(parts)[:total]
