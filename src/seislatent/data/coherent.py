"""The synthetic experiment of the symmetric autoencoder: two sources, each seen along many paths, every truth kept.

    record = (shift(source * path) + noise - offset) / scale

    source [time]: moment rate of a few subevents, band-limited
    path [time]: P, an impulse, and its coda, random impulses that die away
    noise [time]: Gaussian, band-limited
    shift in s: error of the travel time

Bharadwaj (seed 003, section 1 and figure 1) tells what is convolved, shifted and normalised, that the noise is band-limited and
that there are about 5,000 seismograms of two sources; rate, length, functions, bands and sizes are ours: docs/data/synthetic.md.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from seislatent.errors import SeislatentError
from seislatent.waveform import Channel, Waveform

Array = NDArray[np.floating[Any]]

Subevent = tuple[float, float, float]
"""Onset after the first in s, duration in s, peak."""


@dataclass(frozen=True, kw_only=True)
class CoherentConfig:
    """What the experiment is made of."""

    sampling_rate_hz: float = 10.0
    samples: int = 512
    """Per record."""
    sources: tuple[tuple[Subevent, ...], ...] = (
        ((0.0, 4.0, 1.0), (5.0, 3.0, 0.45)),
        ((0.0, 3.0, 0.4), (3.5, 3.0, 1.0), (8.0, 4.5, 0.7)),
    )
    """Subevents of each source; a raised cosine each."""
    corner_hz: tuple[float, float] = (0.5, 1.0)
    """Sources pass whole up to the first, not at all from the second."""
    source_onset_s: float = 2.0
    """From the beginning of a source's array."""
    p_s: float = 8.0
    """From the beginning of a path's array to P; P stands in the record at the sum of both, and the shift."""
    coda_decay_s: tuple[float, float] = (3.0, 12.0)
    """From which a path's coda's decay time is drawn."""
    coda_energy: tuple[float, float] = (0.1, 2.0)
    """From which its energy is drawn, as a multiple of P's, evenly in the logarithm."""
    coda_rate_hz: float = 2.0
    """Mean number of coda's impulses per second."""
    noise_band_hz: tuple[float, float, float, float] = (0.02, 0.05, 0.8, 1.2)
    """Noise is whole between the middle two, gone beyond the outer two."""
    snr_db: tuple[float, float] = (0.0, 20.0)
    """From which the ratio of the mean squares of signal and noise over a record is drawn."""
    shift_s: float = 3.0
    """Shifts are drawn evenly from minus to plus this; positive is later."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Coherent:
    """Records with all that they were made of."""

    config: CoherentConfig
    records: Array
    """[record time], mean 0 and variance 1."""
    source: NDArray[np.int64]
    """[record], row of `sources`."""
    sources: Array
    """[source time], peak 1."""
    paths: Array
    """[record time], 1 at P."""
    noise: Array
    """[record time], in the unit of source * path; 0 without noise."""
    shifts_s: Array
    """[record]; 0 without shifts."""
    snr_db: Array
    """[record]; infinite without noise."""
    offsets: Array
    """[record], the mean that was taken out."""
    scales: Array
    """[record], what was divided by."""


def experiment(
    seed: int,
    records: int = 5000,
    *,
    noise: bool = True,
    shifts: bool = True,
    crossed: bool = False,
    config: CoherentConfig | None = None,
) -> Coherent:
    """Seismograms of the sources in turn, each along a path of its own, or, `crossed`, all sources along one path before the next.

    Crossed records of one path have its shift, and each a noise of its own: each is the truth of what swapping codes should give.

    With the same seed, sets with and without noise or shifts have the same paths, and what they share is equal. The sources do not
    depend on the seed: a set to test on is another seed.

    Raises:
        SeislatentError: no records, or a config in which something does not fit.
    """
    c = config or CoherentConfig()
    _check(c, records)
    n, m = c.samples, 2 * c.samples
    f = np.fft.rfftfreq(m, 1 / c.sampling_rate_hz)
    stream = [np.random.default_rng([seed, part]) for part in range(3)]  # paths, noise, shifts: each its own
    sources = np.stack([_source(events, c) for events in c.sources])
    which = np.arange(records) % len(sources)
    own = np.arange(records) // len(sources) if crossed else np.arange(records)
    paths = _paths(stream[0], own[-1] + 1, c)[own]
    shift_s = stream[2].uniform(-c.shift_s, c.shift_s, own[-1] + 1)[own] if shifts else np.zeros(records)
    spectrum = np.fft.rfft(sources, m)[which] * np.fft.rfft(paths, m) * np.exp(-2j * np.pi * f * shift_s[:, None])
    signal = np.fft.irfft(spectrum, m)[:, :n]
    snr_db, rough = np.full(records, np.inf), np.zeros((records, n))
    if noise:
        snr_db = stream[1].uniform(*c.snr_db, records)
        white = np.fft.rfft(stream[1].standard_normal((records, m)))
        rough = np.fft.irfft(white * _band(f, *c.noise_band_hz), m)[:, :n]
        wanted = np.sqrt((signal**2).mean(1)) * 10 ** (-snr_db / 20)
        rough *= (wanted / np.sqrt((rough**2).mean(1)))[:, None]
    whole = signal + rough
    offset, scale = whole.mean(1), whole.std(1)
    return Coherent(
        config=c,
        records=((whole - offset[:, None]) / scale[:, None]).astype(np.float32),
        source=which,
        sources=sources,
        paths=paths.astype(np.float32),
        noise=rough.astype(np.float32),
        shifts_s=shift_s,
        snr_db=snr_db,
        offsets=offset,
        scales=scale,
    )


def rebuilt(made: Coherent, rows: NDArray[np.integer[Any]] | slice = slice(None)) -> Array:
    """Records [record time] from their truths alone, by the equation at the head of this file."""
    c = made.config
    m = 2 * c.samples
    turn = np.exp(-2j * np.pi * np.fft.rfftfreq(m, 1 / c.sampling_rate_hz) * made.shifts_s[rows, None])
    spectrum = np.fft.rfft(made.sources, m)[made.source[rows]] * np.fft.rfft(made.paths[rows], m) * turn
    whole = np.fft.irfft(spectrum, m)[:, : c.samples] + made.noise[rows]
    return np.asarray((whole - made.offsets[rows, None]) / made.scales[rows, None])


def waveforms(made: Coherent) -> list[Waveform]:
    """One record of one channel each, ready for a store or a SeisBench folder: `source_id` names the group, truths are columns.

    The unit is none: each record was divided by its own `trace_scale`.
    """
    c = made.config
    out = []
    for i, (row, k) in enumerate(zip(made.records, made.source, strict=True)):
        p_s = c.source_onset_s + c.p_s + made.shifts_s[i]
        channel = Channel(network="XX", station=f"S{i:05d}", code="BHZ", component="Z")
        metadata = {
            "source_id": f"source-{k + 1}",
            "source_type": "synthetic",
            "station_network_code": "XX",
            "station_code": channel.station,
            "trace_name": f"coherent-{i:05d}",
            "trace_p_arrival_sample": float(p_s * c.sampling_rate_hz),
            "trace_shift_s": float(made.shifts_s[i]),
            "trace_snr_db": float(made.snr_db[i]),
            "trace_offset": float(made.offsets[i]),
            "trace_scale": float(made.scales[i]),
        }
        out.append(
            Waveform(
                data=row[None],
                sampling_rate_hz=c.sampling_rate_hz,
                channels=(channel,),
                start_ns=(946_684_800 + 3600 * int(k)) * 1_000_000_000,
                history=("synthetic source * path (seed 003, figure 1)",),
                metadata=metadata,
            )
        )
    return out


def _check(c: CoherentConfig, records: int) -> None:
    duration_s, nyquist_hz = c.samples / c.sampling_rate_hz, c.sampling_rate_hz / 2
    longest_s = max((onset + width for events in c.sources for onset, width, _ in events), default=np.inf)
    lead_s = c.source_onset_s + c.p_s
    troubles = {
        f"{records} records of {len(c.sources)} sources": records >= 1 and bool(c.sources),
        f"P at {lead_s:g} s with shifts to {c.shift_s:g} s in {duration_s:g} s": c.shift_s <= lead_s <= duration_s - c.shift_s,
        f"a source of {longest_s:g} s in {duration_s:g} s": c.source_onset_s + longest_s <= duration_s,
        f"bands to {max(c.corner_hz[1], c.noise_band_hz[3]):g} Hz at {c.sampling_rate_hz:g} Hz": (
            0 < c.corner_hz[0] < c.corner_hz[1] <= nyquist_hz and list(c.noise_band_hz) == sorted(set(c.noise_band_hz))
            and c.noise_band_hz[0] >= 0 and c.noise_band_hz[3] <= nyquist_hz
        ),
    }  # fmt: skip
    for trouble, right in troubles.items():
        if not right:
            raise SeislatentError(f"no coherent experiment with {trouble}: change the config")


def _source(events: tuple[Subevent, ...], c: CoherentConfig) -> Array:
    """Moment rate [time], low-passed without a shift of phase, peak 1."""
    t = np.arange(c.samples) / c.sampling_rate_hz - c.source_onset_s
    x = np.zeros(c.samples)
    for onset_s, duration_s, peak in events:
        share = np.clip((t - onset_s) / duration_s, 0, 1)
        x += peak * (1 - np.cos(2 * np.pi * share)) / 2
    f = np.fft.rfftfreq(2 * c.samples, 1 / c.sampling_rate_hz)
    x = np.fft.irfft(np.fft.rfft(x, 2 * c.samples) * _band(f, -2, -1, *c.corner_hz))[: c.samples]
    return np.asarray(x / np.abs(x).max())


def _paths(rng: np.random.Generator, records: int, c: CoherentConfig) -> Array:
    """P and coda [record time]: impulses at random times, of random sign and size under a decaying envelope."""
    late_s = np.arange(c.samples) / c.sampling_rate_hz - c.p_s
    decay_s = rng.uniform(*c.coda_decay_s, (records, 1))
    low, high = np.log(c.coda_energy)
    energy = np.exp(rng.uniform(low, high, (records, 1)))
    hit = rng.random((records, c.samples)) < c.coda_rate_hz / c.sampling_rate_hz
    coda = rng.standard_normal((records, c.samples)) * hit * np.where(late_s > 0, np.exp(-late_s / decay_s), 0)
    coda *= np.sqrt(energy / np.maximum((coda**2).sum(1, keepdims=True), 1e-12))
    coda[:, round(c.p_s * c.sampling_rate_hz)] += 1
    return coda


def _band(f: Array, from_hz: float, whole_hz: float, to_hz: float, end_hz: float) -> Array:
    """A gain of 1 from the second to the third frequency, of 0 before the first and after the last, cosines between."""
    rise = np.clip((f - from_hz) / (whole_hz - from_hz), 0, 1)
    fall = np.clip((end_hz - f) / (end_hz - to_hz), 0, 1)
    return np.asarray((1 - np.cos(np.pi * rise)) * (1 - np.cos(np.pi * fall)) / 4)
