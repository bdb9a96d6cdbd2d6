"""Groups of one event over stations, for a symmetric autoencoder: P windows in displacement, zero mean, unit variance.

    record --one component at a time--> around the pick, with a margin --integration or response--> displacement
           --band, rate--> [pick - before_s, pick + after_s) --> (x - mean) / deviation, `group`

Records of a group share what is *coherent* in it (by event: the source; by station: the site and the receiver) and differ in the
rest, the *nuisance*. Bharadwaj et al. (2024), section 5 and table 1: displacement P windows of deep earthquakes. They give neither
window, band nor rate: those here are ours.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from seislatent.data.archive import ArchiveConfig, open_events
from seislatent.data.recipe import DataRecipe, Made, Rejected
from seislatent.data.records import Records
from seislatent.data.travel_times import arrivals_s
from seislatent.errors import SeislatentError
from seislatent.prepare import condition
from seislatent.prepare.excerpt import excerpt, flaw, length_at, mark, marked
from seislatent.prepare.level import level
from seislatent.prepare.motion import QUANTITIES, Motion, motion_of
from seislatent.prepare.response import Responses, differentiate, integrate, remove_response, to_si
from seislatent.prepare.windows import cut
from seislatent.waveform import Waveform

KM_PER_DEG = 111.195
HIGHEST_SHARE = 0.45
"""The upper corner of the band is at most this share of the windows' rate."""


@dataclass(frozen=True, kw_only=True)
class GroupsConfig:
    """Which windows, in which quantity, and what they are grouped by."""

    group_by: Literal["event", "station"] = "event"
    """What the records of a group have in common."""
    smallest_group: int = 10
    """Groups with fewer records are left out, after all records are made."""
    picks: tuple[str, ...] = ("trace_p_arrival_sample", "pick_t0_sample")
    """Columns of the arrival, the first that a record has: picked or theoretical (pick_t0_sample: SAC's t0)."""
    predict: bool = True
    """Where a record has none, P as iasp91 predicts it from depth, distance and the record's start after the origin."""
    before_s: float = 20.0
    """The window begins this many seconds before the pick."""
    after_s: float = 60.0
    """It ends this many seconds after the pick."""
    margin_s: float = 60.0
    """Filter and integration see this much more on either side, as far as the record goes, in seconds."""
    quantity: Literal["displacement", "velocity", "as recorded"] = "displacement"
    """What the samples are; of counts up to a gain, by the instrument letter of the channel code."""
    inventory: str = ""
    """StationXML with responses, by which counts are turned to `quantity`; empty for none."""
    band_hz: tuple[float, float] | None = (0.02, 2.0)
    """Corners of a Butterworth band pass of order 4, in Hz; null for none, and the integral is then only freed of its line."""
    zero_phase: bool = True
    """Filter forwards and backwards, which moves no onset but spreads it; false filters causally."""
    sampling_rate_hz: float = 10.0
    """Of the windows, in Hz."""
    components: str = "ZNE12RT"
    """Components that are taken, where a record has them."""
    separate: bool = True
    """Each component is a record of its own; else a record keeps its rows, in the order of `components`."""
    distance_deg: tuple[float, float] | None = None
    """Least and largest epicentral distance in degrees; null takes all, and 30 to 95 is the usual one for teleseismic P."""
    demean: bool = True
    """Take the mean of the window out."""
    archive: ArchiveConfig = field(default_factory=lambda: ArchiveConfig(before_s=90.0, after_s=150.0, farthest_km=11000.0))
    """How records are cut from waveform files with a catalogue, with or without picks; a record set is taken as it is."""


class Groups(DataRecipe):
    """Windows around an arrival with the group that each belongs to."""

    Config = GroupsConfig
    config: GroupsConfig

    def __init__(self, config: GroupsConfig) -> None:
        super().__init__(config)
        if config.before_s + config.after_s <= 0 or config.margin_s < 0:
            raise SeislatentError("before_s + after_s must be above 0, and margin_s not below: the window would hold no sample")
        self.responses = Responses(config.inventory) if config.inventory else None
        highest = HIGHEST_SHARE * config.sampling_rate_hz
        if config.band_hz is not None and not 0 < config.band_hz[0] < config.band_hz[1] <= highest:
            raise SeislatentError(
                f"band {config.band_hz[0]:g} to {config.band_hz[1]:g} Hz: give corners above 0, the first below the second, up to"
                f" {HIGHEST_SHARE:g} of the windows' rate ({highest:g} Hz)"
            )

    def open(self, source: Sequence[Path]) -> Records:
        """Records of waveform files with a catalogue (P predicted where nobody picked it), or of record sets."""
        return open_events(source, self.config.archive)

    def select(self, table: pd.DataFrame) -> pd.Series:
        """Pick and distance, as far as the table tells them."""
        c = self.config
        reason = pd.Series("", index=table.index, dtype=object)
        there = [column for column in c.picks if column in table]
        picked = pd.Series(False, index=table.index)
        for column in there:
            picked |= pd.to_numeric(table[column], errors="coerce").notna()
        if c.predict:
            picked |= predicted_s(table).notna()
        reason = reason.mask(~picked, "no pick")
        if c.distance_deg is not None:
            far = pd.Series(np.nan, index=table.index)
            for column, unit in (("path_ep_distance_deg", 1.0), ("path_ep_distance_km", KM_PER_DEG)):
                if column in table:
                    far = far.fillna(pd.to_numeric(table[column], errors="coerce") / unit)
            least, largest = c.distance_deg
            reason = reason.mask((reason == "") & far.isna(), "no distance")
            reason = reason.mask((reason == "") & ~far.between(least, largest), f"not within {least:g} to {largest:g} degrees")
        return reason

    def make(self, records: Sequence[Waveform], rngs: Sequence[np.random.Generator]) -> Iterable[Made | Rejected]:
        """The windows of each record; nothing is drawn at random."""
        for record in records:
            yield from self.windows(record)

    def windows(self, record: Waveform) -> Iterator[Made | Rejected]:
        """One window per component of a record, or one of all."""
        c, name = self.config, str(record.metadata.get("trace_name", ""))
        order = {letter: k for k, letter in enumerate(c.components)}
        rows = sorted((i for i, code in enumerate(record.components) if code in order), key=lambda i: order[record.components[i]])
        group = self.group(record)
        if not rows or not group:
            yield Rejected(name=name, reason="missing component" if not rows else f"no {c.group_by} id")
            return
        for part in [[i] for i in rows] if c.separate else [rows]:
            one = record.select(part)
            own = f"{name}_{one.components[0]}" if c.separate and len(record.channels) > 1 else name
            try:
                yield self.window(one, own, group)
            except SeislatentError as error:
                yield Rejected(name=own, reason="cannot be conditioned", detail=str(error))

    def window(self, record: Waveform, name: str, group: str) -> Made | Rejected:
        """The window of one record of one or several components."""
        c = self.config
        pick, column = next(((s, p) for p in c.picks if (s := mark(record, p)) is not None), (None, ""))
        if pick is None and c.predict:
            pick, column = _predicted(record), "predicted"
        if pick is None:
            return Rejected(name=name, reason="no pick")
        if c.quantity != "as recorded" and motion(record) is None:
            return Rejected(name=name, reason="quantity not known", detail=f"unit {record.unit}, channel {record.channels[0].code}")
        rate, count = record.sampling_rate_hz, record.data.shape[1]
        if not 0 <= pick < count:
            return Rejected(name=name, reason="pick outside the record")
        first = max(0, math.floor(pick - (c.before_s + c.margin_s) * rate))
        wide = cut(marked(record), first, min(count, math.ceil(pick + (c.after_s + c.margin_s) * rate) + 1))
        wide = replace(wide, start_ns=wide.start_ns if record.start_ns or "trace_start_time" in record.metadata else 0)
        trouble = flaw(wide, 0, length_at(wide, rate), rate)
        if trouble:
            return Rejected(name=name, reason=trouble)
        if c.band_hz is not None and c.band_hz[1] > HIGHEST_SHARE * rate:
            return Rejected(name=name, reason="rate too low", detail=f"{rate:g} Hz for a band up to {c.band_hz[1]:g} Hz")
        wide = self.in_quantity(replace(wide, data=wide.data.astype(np.float64)))
        wide = condition.bandpass(wide, *c.band_hz, zero_phase=c.zero_phase) if c.band_hz is not None else wide
        at = round(((pick - first) / rate - c.before_s) * c.sampling_rate_hz)
        end = at + round((c.before_s + c.after_s) * c.sampling_rate_hz)
        trouble = flaw(wide, at, end, c.sampling_rate_hz)
        if trouble:
            return Rejected(name=name, reason=trouble)
        window = level(excerpt(wide, at, end, c.sampling_rate_hz), "deviation", demean=c.demean)
        about = {
            "trace_name": name, "group": group, "trace_pick": column, "trace_quantity": "as recorded",
            "trace_pick_sample": (pick - first) / rate * c.sampling_rate_hz - at,
        }  # fmt: skip
        return Made(record=replace(window, metadata=about | window.metadata | {"trace_name": name}))

    def in_quantity(self, record: Waveform) -> Waveform:
        """The record in the quantity asked for, without the trend that integrating an offset and a drift leaves."""
        c = self.config
        if c.quantity == "as recorded":
            return condition.detrend(record)
        if self.responses is not None and record.unit in (None, "counts"):
            low, high = c.band_hz or (None, None)
            band = None if low is None or high is None else (low / 2, low, high, min(1.5 * high, 0.5 * record.sampling_rate_hz))
            found = remove_response(condition.detrend(record), self.responses, c.quantity, pre_filter_hz=band,
                                    water_level_db=None if band else 60.0)  # fmt: skip
            return replace(found, metadata=found.metadata | {"trace_quantity": c.quantity})
        record = to_si(record)
        held = motion(record)
        if held is None:
            raise SeislatentError(f"{', '.join(record.ids)}: what the samples in {record.unit} measure is not known")
        steps = QUANTITIES.index(c.quantity) - QUANTITIES.index(held.quantity)
        for _ in range(abs(steps)):
            record = differentiate(record) if steps > 0 else integrate(record)
        named = c.quantity if held.size is not None else f"{c.quantity} up to a gain"
        degree = 1 + max(0, -steps)
        return record.with_data(
            without_polynomial(record.data, degree), did=f"take out the best polynomial of degree {degree}",
            metadata=record.metadata | {"trace_quantity": named},
        )  # fmt: skip

    def group(self, record: Waveform) -> str:
        """What the record is grouped by, an empty text where that is not known."""
        if self.config.group_by == "event":
            return str(record.metadata.get("source_id") or "")
        channel = record.channels[0]
        return f"{channel.network}.{channel.station}" if channel.station else ""

    def sift(self, table: pd.DataFrame) -> pd.Series:
        """Groups that came out too small."""
        size = table["group"].groupby(table["group"]).transform("size")
        return pd.Series("", index=table.index, dtype=object).mask(size < self.config.smallest_group, "group too small")


def predicted_s(table: pd.DataFrame) -> pd.Series:
    """First P of iasp91 in seconds after the record's start; NaN where depth, distance, or start and origin are not known.

    The start after the origin is `b_s` (the SAC header b, the file's reference being the origin), or start_ns less the origin time.
    """

    def number(column: str) -> pd.Series:
        return pd.to_numeric(table[column], errors="coerce") if column in table else pd.Series(np.nan, index=table.index)

    distance_km = number("path_ep_distance_km").fillna(number("path_ep_distance_deg") * KM_PER_DEG)
    start_s = number("b_s")
    if {"source_origin_time", "start_ns"} <= {*table.columns}:
        origin = pd.to_datetime(table["source_origin_time"], utc=True, errors="coerce", format="mixed")
        start = pd.to_datetime(number("start_ns").where(lambda ns: ns != 0), utc=True)
        start_s = start_s.fillna((start - origin).dt.total_seconds())
    p_s, _ = arrivals_s(distance_km.to_numpy(float), number("source_depth_km").to_numpy(float))
    return pd.Series(p_s, index=table.index) - start_s


def _predicted(record: Waveform) -> float | None:
    """Sample of the predicted P of one record."""
    start = record.start_ns if record.start_ns else np.nan
    found = float(predicted_s(pd.DataFrame([record.metadata | {"start_ns": start}])).iloc[0])
    return found * record.sampling_rate_hz if math.isfinite(found) else None


def motion(record: Waveform) -> Motion | None:
    """What the samples measure; None where neither unit nor channel codes tell."""
    return motion_of(record.unit, [channel.code for channel in record.channels])


def without_polynomial(x: NDArray[np.float64], degree: int) -> NDArray[np.float64]:
    """Each channel of x [channel time] without the polynomial in time that fits it best (least squares)."""
    basis, _ = np.linalg.qr(np.polynomial.legendre.legvander(np.linspace(-1, 1, x.shape[-1]), min(degree, x.shape[-1] - 1)))
    return np.asarray(x - (x @ basis) @ basis.T)
