"""What every claim is judged beside: classical coders, as files that decode.

A coder of records has a name, the qualities at which it is judged, `encode` and `decode`. `try_baseline` makes of it what
`evaluate.trial.try_record` makes of a codec, and `points` the same in plain numbers.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np

from seislatent.errors import SeislatentError
from seislatent.evaluate.baselines.container import pack, payload_bytes
from seislatent.evaluate.baselines.mdct import Mdct
from seislatent.evaluate.trial import TOO_HIGH, Compare, Errors, Trial, at_own_rate, at_rate, errors, measured, normalised, unusable
from seislatent.systems.codec.segments import cast_to
from seislatent.waveform import Waveform

__all__ = ["BaselinePoint", "CodecBaseline", "Mdct", "content", "exact", "follows", "points", "try_baseline"]


class CodecBaseline(Protocol):
    """A classical coder of whole records."""

    @property
    def name(self) -> str:
        """Such as baseline/mdct."""

    @property
    def qualities(self) -> tuple[float, ...]:
        """Signal-to-noise ratios that `encode` aims at, in dB; one, infinite, of a lossless coder."""

    def encode(self, waveform: Waveform, snr_db: float | None = None) -> bytes:
        """A file that needs nothing else."""

    def decode(self, data: bytes) -> Waveform:
        """The record back, without its metadata and history."""


@dataclass(frozen=True, kw_only=True)
class BaselinePoint:
    """One record at one quality."""

    quality_db: float
    file_bytes: int
    payload_bytes: int
    """Without what the record is (rate, start, names, unit, gaps) and the checksum."""
    samples: int
    errors: tuple[Errors, ...]
    """Of each channel."""

    @property
    def bits_per_sample(self) -> float:
        """Of the payload."""
        return 8 * self.payload_bytes / self.samples


def points(baseline: CodecBaseline, waveform: Waveform, qualities_db: Sequence[float] | None = None) -> list[BaselinePoint]:
    """What a record costs in a real file at each quality, and what comes back.

    Raises:
        SeislatentError: a channel that is silent or not finite, or a record that the coder does not take.
    """
    found = []
    for quality in baseline.qualities if qualities_db is None else qualities_db:
        data = baseline.encode(waveform, quality)
        back = baseline.decode(data)
        found.append(
            BaselinePoint(
                quality_db=quality,
                file_bytes=len(data),
                payload_bytes=payload_bytes(baseline.name, data),
                samples=waveform.data.size,
                errors=tuple(errors(y, x) for y, x in zip(back.data, waveform.data, strict=True)),
            )
        )
    return found


def exact(baseline: CodecBaseline) -> bool:
    """Whether every sample comes back."""
    return not any(map(math.isfinite, baseline.qualities))


def follows(baseline: CodecBaseline) -> bool:
    """Whether the coder can be asked for a rate."""
    return "bits_per_sample" in inspect.signature(baseline.encode).parameters


def try_baseline(
    baseline: CodecBaseline,
    waveform: Waveform,
    window_s: float | None = None,
    sampling_rate_hz: float | None = None,
    sizes: Sequence[int] | None = None,
    compare: Compare | None = None,
) -> Trial:
    """Codes a record of any number of channels at every quality and measures: a level of the trial is one of the qualities.

    Args:
        baseline: the coder.
        waveform: the record; channels that are silent or not finite are left out and counted.
        window_s: also measure windows of this length in seconds, each scaled by itself.
        sampling_rate_hz: resample first, to the rate of the codec beside which it is judged; None: the record's own.
        sizes: bytes of the codec's file at each of its levels. A coder that can be asked for a rate is asked for files of these
            sizes in place of its qualities; where it cannot make one so small, for 0 dB.
        compare: also tells the use of what comes back, of all traces of the record together.

    Raises:
        SeislatentError: a record that the coder does not take.
    """
    rate, trial = sampling_rate_hz or waveform.sampling_rate_hz, Trial()
    kept: dict[int, tuple[Waveform, Waveform]] = {}
    for i in range(len(waveform.data)):
        own = replace(waveform.select([i]), metadata={})
        reason = unusable(own)
        coded = own if reason else content(baseline, own, rate)
        if not reason and not normalised(coded.data[0])[1] > 0:
            reason = TOO_HIGH
        if reason:
            trial.skipped.append(reason)
        else:
            kept[i] = own, coded
    if not kept:
        return trial
    rows = [coded for _, coded in kept.values()]
    together = replace(rows[0], data=np.concatenate([r.data for r in rows]), channels=tuple(r.channels[0] for r in rows))
    trial.seconds, trial.sampling_rate_hz = sum(own.duration_s for own, _ in kept.values()), rate
    trial.rows = list(kept)
    trial.points = [[] for _ in kept]
    against = compare(together) if compare is not None else None
    for level, (data, asked) in enumerate(_files(baseline, together, sizes), 1):
        trial.file_bytes.append(len(data))
        trial.payload_bytes.append(payload_bytes(baseline.name, data))
        trial.asked.append(asked)
        back = baseline.decode(data)
        for found, (own, x), y in zip(trial.points, kept.values(), back.data, strict=True):
            same = rate == own.sampling_rate_hz
            at_own = None if same else errors(at_own_rate(y, rate, own), own.data[0])
            found.append(measured(trial, level, y, x.data[0], at_own, rate, window_s))
        if against is not None:
            trial.utility.append(dict(against(together.with_data(back.data, did="decoded"))))
    return trial


def content(baseline: CodecBaseline, row: Waveform, rate_hz: float) -> Waveform:
    """A trace at a rate as the coder is given it: float64, but of whole numbers rounded to them again for a lossless one."""
    data = row.data if row.sampling_rate_hz == rate_hz else at_rate(row, rate_hz)[None]
    if exact(baseline):
        whole = np.array_equal(row.data, np.round(row.data)) and np.abs(row.data).max() < 2**31
        data = cast_to(data, np.dtype(np.int32) if whole else row.data.dtype)
    return replace(row, data=data, sampling_rate_hz=rate_hz)


def _files(baseline: CodecBaseline, waveform: Waveform, sizes: Sequence[int] | None) -> list[tuple[bytes, dict[str, float]]]:
    """The record's file at each level, and what was asked for."""
    if sizes is None or not follows(baseline):
        return [(baseline.encode(waveform, quality), {"snr_db": quality}) for quality in baseline.qualities]
    about = len(pack(baseline.name, waveform, b""))
    found = []
    for size in sizes:
        asked = {"bits_per_sample": 8 * max(0, size - about) / waveform.data.size}
        try:
            data = baseline.encode(waveform, **asked)
        except SeislatentError:
            asked = {"snr_db": 0.0}
            data = baseline.encode(waveform, **asked)
        found.append((data, asked))
    return found
