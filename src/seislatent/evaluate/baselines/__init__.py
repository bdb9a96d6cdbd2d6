"""What every claim is judged beside: classical coders, as files that decode.

A coder of records has a name, the qualities at which it is judged, `encode` and `decode`. `try_baseline` makes of it what
`evaluate.trial.try_record` makes of a codec, and `points` the same in plain numbers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np

from seislatent.evaluate.baselines.container import payload_bytes
from seislatent.evaluate.baselines.mdct import Mdct
from seislatent.evaluate.trial import Errors, Point, Trial, _windows, at_own_rate, at_rate, errors, normalised, unusable
from seislatent.waveform import Waveform

__all__ = ["BaselinePoint", "CodecBaseline", "Mdct", "points", "try_baseline"]


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


def try_baseline(
    baseline: CodecBaseline, waveform: Waveform, window_s: float | None = None, sampling_rate_hz: float | None = None
) -> Trial:
    """Codes a record of any number of channels at every quality and measures: a level of the trial is one of the qualities.

    Args:
        baseline: the coder.
        waveform: the record; channels that are silent or not finite are left out and counted.
        window_s: also measure windows of this length in seconds, each scaled by itself.
        sampling_rate_hz: resample first, to the rate of the codec beside which it is judged; None: the record's own.
    """
    rate, trial = sampling_rate_hz or waveform.sampling_rate_hz, Trial()
    kept: dict[int, tuple[Waveform, Waveform]] = {}
    for i in range(len(waveform.data)):
        own = coded = waveform.select([i])
        reason = unusable(own)
        if not reason and rate != own.sampling_rate_hz:
            coded = replace(own, data=at_rate(own, rate)[None], sampling_rate_hz=rate)
            reason = "" if normalised(coded.data[0])[1] > 0 else "silent below half the codec's rate"
        if reason:
            trial.skipped.append(reason)
        else:
            kept[i] = own, coded
    if not kept:
        return trial
    rows = [coded for _, coded in kept.values()]
    together = replace(rows[0], data=np.concatenate([r.data for r in rows]), channels=tuple(r.channels[0] for r in rows))
    trial.seconds = sum(own.duration_s for own, _ in kept.values())
    trial.rows = list(kept)
    trial.points = [[] for _ in kept]
    for level, quality in enumerate(baseline.qualities, 1):
        data = baseline.encode(together, quality)
        trial.file_bytes.append(len(data))
        for found, (own, x), y in zip(trial.points, kept.values(), baseline.decode(data).data, strict=True):
            windows, silent = _windows(y, x.data[0], rate, window_s)
            trial.silent_windows += silent if level == 1 else 0
            alone = errors(y, x.data[0])
            back = alone if own is x else errors(at_own_rate(y, rate, own), own.data[0])
            found.append(Point(level=level, codec=alone, own=back, windows=windows))
    return trial
