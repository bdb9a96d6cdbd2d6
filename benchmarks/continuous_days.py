"""Continuous days with truth: labelled records planted into real noise, as miniSEED with a file of picks.

    noise of held-out hours [Z N E] --------------------------------------------------+--> OUT/planted/*.mseed, picks.csv
    labelled records --resampled, high-passed, tapered, scaled to a drawn SNR, placed--+
                                                                           untouched ----> OUT/untouched/*.mseed, picks.csv

A plant: a record with three live components and labels of P and S, from 8 s before P to 10 s and four times S-P behind S, at the
noise's rate. What lies below 0.5 Hz is taken off by a causal filter. One factor for all components brings the mean square of its
vertical in the 2 s after P, above 1 Hz and less its own noise, to a drawn ratio (0 to 30 dB, even) over the median of the stretch's
5 s. Only records whose own ratio is at least 6 dB better are taken, so that the noise they bring is drowned; it comes and goes by
cosines, from 3.5 to 0.5 s before P and in the last 5 s. One of the two groups is drawn evenly, of its records one used least.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from obspy import Stream, Trace, UTCDateTime

from seislatent.data.splits import split_by_event
from seislatent.errors import SeislatentError
from seislatent.evaluate.compress import chosen
from seislatent.prepare.excerpt import excerpt, flaw, length_at
from seislatent.signal.filters import Butterworth
from seislatent.waveform import Waveform

SETS = ("ncedc_phasenet:test,stead_sample50:test", "telica_gismo_3c:all")
"""Two groups of sets, with the split of each. Nobody has trained on Telica; its S is not used, for of 108 such readings 48 are not
behind P and half of the others less than 0.3 s."""
NOISE = ("anza_19980101", "noise_raspberryshake")
HOUR_S, SKIP_S = 3600, 70.0
"""Windows of training noise that begin in the hour before reach so far into the next."""
LEAD_S, TAPER_S, CLEAR_S, FADE_S, APART_S = 8.0, 3.0, 0.5, 5.0, 10.0
BETTER_DB, SNR_DB = 6.0, (0.0, 30.0)
LEAST_S = 120.0
LONG_S = 25.0
"""So long behind P nothing is known of S where S is not used."""

Samples = NDArray[np.float64]


@dataclass(kw_only=True)
class Plant:
    """A labelled record."""

    group: int
    name: str
    record: Waveform
    p_s: float
    s_s: float
    snr_db: float
    """Its own."""
    used: int = 0


def held_out_hours(starts_ns: Sequence[int], split: str) -> set[int]:
    """Hours since 1970 that the noise recipe, which names its windows by the hour, puts into a split."""
    hours = sorted({at // (HOUR_S * 10**9) for at in starts_ns})
    hours = list(range(hours[0], hours[-1] + 2))
    names = [f"noise_{np.datetime64(h * HOUR_S, 's').astype(str)[:13]}" for h in hours]
    table = pd.DataFrame({"source_id": names, "start_ns": [h * HOUR_S * 10**9 for h in hours]})
    return {h for h, of in zip(hours, split_by_event(table), strict=True) if of == split}


def noise(folder: Path, split: str) -> Iterator[Waveform]:
    """Stretches without gaps that lie within one held-out hour."""
    records, _ = chosen(folder, "all", "ZNE")
    held = held_out_hours([int(t) for t in records.metadata["start_ns"]], split)
    for i in range(len(records)):
        try:
            whole = records[i]
        except SeislatentError:
            continue
        rate, n = whole.sampling_rate_hz, whole.data.shape[1]
        begin, end = whole.start_ns / 1e9, whole.start_ns / 1e9 + n / rate
        for hour in range(int(begin // HOUR_S), int(end // HOUR_S) + 1):
            a, b = max(begin, hour * HOUR_S + SKIP_S), min(end, (hour + 1) * HOUR_S)
            first, last = math.ceil((a - begin) * rate - 1e-3), math.floor((b - begin) * rate + 1e-3)
            part = whole.data[:, max(first, 0) : last]
            if hour in held and b - a >= LEAST_S and np.isfinite(part).all() and (np.ptp(part, axis=1) > 0).all():
                start = whole.start_ns + round(first / rate * 1e9)
                yield replace(whole, data=part.astype(np.float64), start_ns=start, metadata={})


def plants(root: Path, groups: Sequence[str] = SETS) -> list[Plant]:
    """The labelled records that can be planted."""
    found = []
    for group, names in enumerate(groups):
        for told in names.split(","):
            name, _, split = told.partition(":")
            records, _ = chosen(root / name, split)
            for i in range(len(records)):
                made = _plant(records[i], records.metadata.iloc[i], group)
                found += [made] if made is not None else []
    return found


def _plant(record: Waveform, row: pd.Series, group: int) -> Plant | None:
    rate, n = record.sampling_rate_hz, record.data.shape[1]
    p, s = (pd.to_numeric(row.get(f"trace_{phase}_arrival_sample"), errors="coerce") / rate for phase in "ps")
    s = s if group == 0 else p + 0.0  # the record's end is counted from here
    if set(record.components) != set("ZNE") or record.data.dtype.kind not in "iuf" or not np.isfinite([p, s]).all():
        return None
    if not np.isfinite(record.data).all() or (np.ptp(record.data, axis=1) == 0).any():
        return None
    if (
        len({c.code[:-1] for c in record.channels}) > 1 or not (6.0 <= p <= s <= n / rate - 3) or (group == 0 and s <= p)
    ):  # velocity beside acceleration
        return None
    order = [record.components.index(c) for c in "ZNE"]
    data = highpassed(record.data[order].astype(np.float64), rate, 0.5)
    signal, own = power(data[0], rate, p, p + 2), power(data[0], rate, p - 5.5, p - 0.5)
    if not signal > own > 0:
        return None
    channels = tuple(record.channels[k] for k in order)
    record = replace(record, data=data, channels=channels, metadata={})
    return Plant(group=group, name=str(row["trace_name"]), record=record, p_s=p, s_s=s, snr_db=10 * math.log10(signal / own))


def highpassed(data: Samples, rate: float, hz: float, order: int = 2) -> Samples:
    """Causal, so that nothing comes before an onset."""
    centred = data - data[..., : max(2, round(3 * rate))].mean(-1, keepdims=True)
    return Butterworth(kind="highpass", corners_hz=hz, rate_hz=rate, order=order, zero_phase=False)(centred)


def power(z: Samples, rate: float, begin_s: float, end_s: float) -> float:
    """Mean square above 1 Hz between two times."""
    part = highpassed(z, rate, 1.0, 4)[max(0, round(begin_s * rate)) : round(end_s * rate)]
    return float(np.mean(part**2)) if part.size else 0.0


def level(z: Samples, rate: float) -> float:
    """Median of the mean squares above 1 Hz of each 5 s."""
    high, n = highpassed(z, rate, 1.0, 4), round(5 * rate)  # of order 2, the microseism would still be there
    return float(np.median((high[: len(high) // n * n].reshape(-1, n) ** 2).mean(1)))


def shaped(plant: Plant, rate: float) -> tuple[Samples, float, float] | None:
    """The record as it is planted [Z N E, time], at a rate; P and S in s from its beginning."""
    begin = max(0.0, plant.p_s - LEAD_S)
    end = min(plant.record.duration_s, plant.s_s + 4 * (plant.s_s - plant.p_s) + (10 if plant.group == 0 else LONG_S - FADE_S))
    first, last = round(begin * rate), min(math.floor(end * rate), length_at(plant.record, rate))
    if flaw(plant.record, first, last, rate):
        return None
    data = np.asarray(excerpt(plant.record, first, last, rate).data, np.float64)
    t = np.arange(data.shape[1]) / rate
    p, s = plant.p_s - first / rate, plant.s_s - first / rate
    fade = min(FADE_S, max(0.5, t[-1] - s - 1))
    rise = np.clip((t - (p - CLEAR_S - TAPER_S)) / TAPER_S, 0, 1)
    fall = np.clip((t[-1] - t) / fade, 0, 1)
    return data * (0.5 - 0.5 * np.cos(np.pi * rise)) * (0.5 - 0.5 * np.cos(np.pi * fall)), p, s


def planted(host: Waveform, sources: list[Plant], per_hour: float, rng: np.random.Generator) -> tuple[Waveform, list[tuple]]:
    """Noise with records in it; of each: P and S in s from the first sample, SNR, name and group."""
    rate, data = host.sampling_rate_hz, host.data.copy()
    still, rows = level(host.data[0], rate), []
    mean_gap = max(1.0, HOUR_S / per_hour - APART_S - 35.0)  # a plant is about 35 s long
    at = 15 + rng.exponential(mean_gap)
    while at < host.duration_s - 20:
        snr, group = float(rng.uniform(*SNR_DB)), int(rng.integers(len(SETS)))
        fit = [q for q in sources if q.group == group and q.snr_db >= snr + BETTER_DB and q.record.sampling_rate_hz >= rate - 1e-6]
        made = None
        if fit:
            least = min(q.used for q in fit)
            plant = fit[int(rng.choice([k for k, q in enumerate(fit) if q.used == least]))]
            plant.used += 1
            made = shaped(plant, rate)
        if made is None or at + made[0].shape[1] / rate > host.duration_s - 6:
            at += rng.exponential(mean_gap)
            continue
        x, p, s = made
        # what is measured is what is planted: resampled, and less the noise that comes with it
        signal = power(x[0], rate, p, p + 2) * (1 - 10 ** (-plant.snr_db / 10))
        x *= math.sqrt(10 ** (snr / 10) * still / signal)
        first = round(at * rate)
        data[:, first : first + x.shape[1]] += x
        rows.append((first / rate + p, first / rate + s, snr, plant.name, group))
        at += x.shape[1] / rate + APART_S + rng.exponential(mean_gap)
    return replace(host, data=data), rows


def write(record: Waveform, path: Path) -> None:
    """Z, N, E as float32 miniSEED."""
    start = UTCDateTime(ns=int(record.start_ns))
    traces = []
    for row, c in zip(record.data, record.channels, strict=True):
        header = {"network": c.network, "station": c.station, "location": c.location, "channel": c.code, "starttime": start}
        traces.append(Trace(row.astype(np.float32), header | {"sampling_rate": record.sampling_rate_hz}))
    Stream(traces).write(str(path), format="MSEED")


def make(
    root: Path, out: Path, *, hours: float, split: str, per_hour: float, seed: int, sets: Sequence[str] = NOISE
) -> pd.DataFrame:
    """The two folders; a row of truth per plant. `hours` is of one station's noise in all; the sets take turns."""
    sources = plants(root)
    rng, rows, left = np.random.default_rng(seed), [], hours * HOUR_S
    titles = "network,station,phase,time_ns,drawn_snr_db,record,group\n"
    for name in ("planted", "untouched"):
        (out / name).mkdir(parents=True)
    (out / "untouched" / "picks.csv").write_text("network,station,phase,time_ns\n", encoding="utf-8")
    for name in reversed(sets):  # the short one first
        for host in noise(root / "continuous" / name, split):
            if left <= LEAST_S:
                break
            host = replace(host, data=host.data[:, : round(left * host.sampling_rate_hz)])
            left -= host.duration_s
            full, told = planted(host, sources, per_hour, rng)
            c = host.channels[0]
            stem = f"{c.network}.{c.station}.{host.start_ns // 10**9}.mseed"
            write(full, out / "planted" / stem)
            write(host, out / "untouched" / stem)
            for p, s, snr, record, group in told:
                times = ((phase, host.start_ns + round(v * 1e9)) for phase, v in (("P", p), ("S", s)))
                known = [one for one in times if one[0] == "P" or group == 0]
                rows += [(c.network, c.station, phase, ns, round(snr, 2), record.replace(",", ";"), group) for phase, ns in known]
    table = pd.DataFrame(rows, columns=titles.strip().split(","))
    table.to_csv(out / "planted" / "picks.csv", index=False)
    if not len(table):
        raise SeislatentError(f"nothing was planted in {hours:g} hours of split '{split}': give more hours")
    return table
