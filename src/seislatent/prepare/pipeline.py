"""The verb `prepare`: conditioning of an ObsPy stream or of Waveforms in one call."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, TypeVar, cast

import numpy as np

from seislatent.errors import SeislatentError, UsageError
from seislatent.prepare import condition
from seislatent.waveform import Channel, Waveform

Step = Callable[[Waveform], Waveform]
Records = TypeVar("Records")


def prepare(
    records: Records,
    *steps: Step,
    demean: bool = False,
    detrend: bool = False,
    taper: bool | float = False,
    bandpass_hz: tuple[float, float] | None = None,
    lowpass_hz: float | None = None,
    highpass_hz: float | None = None,
    zero_phase: bool = True,
    rate_hz: float | None = None,
) -> Records:
    """Condition records; what is asked for runs in the order of the options, then `steps` in theirs. The input stays as it is.

    Args:
        records: an ObsPy Stream or Trace, a Waveform, or a sequence of Waveforms; the same kind comes back (a sequence as a list).
            A trace of a stream that holds gaps (a mask) is split at them.
        *steps: functions from a Waveform to a Waveform, such as those of `seislatent.prepare.condition`.
        demean: subtract each channel's mean.
        detrend: subtract the best straight line.
        taper: True tapers 5 % at each end, a number that share.
        bandpass_hz: lower and upper corner of a Butterworth filter of order 4.
        lowpass_hz: its corner.
        highpass_hz: its corner.
        zero_phase: filter forwards and backwards; False filters causally.
        rate_hz: sampling rate to go to.

    Raises:
        SeislatentError: a corner at or above the Nyquist frequency, samples that are not finite, text.
        UsageError: no records of a known kind.
    """
    chain: list[Step] = []
    if demean:
        chain.append(condition.demean)
    if detrend:
        chain.append(condition.detrend)
    if taper is not False:
        chain.append(partial(condition.taper, share=0.05 if taper is True else taper))
    if bandpass_hz is not None:
        low_hz, high_hz = bandpass_hz
        chain.append(partial(condition.bandpass, low_hz=low_hz, high_hz=high_hz, zero_phase=zero_phase))
    if lowpass_hz is not None:
        chain.append(partial(condition.lowpass, corner_hz=lowpass_hz, zero_phase=zero_phase))
    if highpass_hz is not None:
        chain.append(partial(condition.highpass, corner_hz=highpass_hz, zero_phase=zero_phase))
    if rate_hz is not None:
        chain.append(partial(condition.resample, rate_hz=rate_hz))
    return cast(Records, _each(records, [*chain, *steps]))


def _each(records: Any, chain: Sequence[Step]) -> Any:
    """The chain on every record of any kind of container."""
    if isinstance(records, Waveform):
        return _run(records, chain)
    from obspy import Stream, Trace

    if isinstance(records, Trace):
        if np.ma.is_masked(records.data):
            raise SeislatentError(f"{records.id} holds gaps: prepare it as a Stream, which is split at them")
        return next(_traces(records, chain))
    if isinstance(records, Stream):
        return Stream([done for trace in records for done in _traces(trace, chain)])
    if isinstance(records, Sequence) and all(isinstance(w, Waveform) for w in records):
        return [_run(w, chain) for w in records]
    raise UsageError(f"cannot prepare {type(records).__name__}: give an ObsPy Stream or Trace, a Waveform, or a list of Waveforms")


def _run(waveform: Waveform, chain: Sequence[Step]) -> Waveform:
    for step in chain:
        waveform = step(waveform)
    return waveform


def _traces(trace: Any, chain: Sequence[Step]) -> Iterator[Any]:
    """The conditioned trace, or one for each run of samples between its gaps; all other header fields stay."""
    masked = np.ma.is_masked(trace.data)
    for piece in trace.split() if masked else [trace]:
        stats = piece.stats
        waveform = Waveform(
            data=np.ma.getdata(piece.data)[None],
            sampling_rate_hz=float(stats.sampling_rate),
            channels=(Channel(network=stats.network, station=stats.station, location=stats.location, code=stats.channel),),
            start_ns=stats.starttime.ns,
            unit=stats.get("unit"),
        )
        after = _run(waveform, chain)
        done = piece.copy()
        done.data = np.ascontiguousarray(after.data[0])
        if after.data is waveform.data:
            done.data = done.data.copy()
        done.stats.sampling_rate = after.sampling_rate_hz
        if after.start_ns != waveform.start_ns:
            done.stats.starttime = type(stats.starttime)(ns=after.start_ns)
        if after.unit is not None:
            done.stats.unit = after.unit
        if after.history:
            done.stats.processing = [*stats.get("processing", []), *(f"seislatent: {did}" for did in after.history)]
        yield done
