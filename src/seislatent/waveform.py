"""The one record: samples with the physics that belongs to them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from seislatent.errors import SeislatentError


@dataclass(frozen=True, kw_only=True)
class Channel:
    """Who recorded one row of a waveform, and where.

    Codes may have any length: SEED's 2, 5, 2 and 3 letters are a limit of miniSEED 2, not of the record.
    """

    network: str = ""
    station: str = ""
    location: str = ""
    code: str = ""
    """Channel code as recorded, such as HHZ, or the band, source and subsource of an FDSN source identifier (B_H_Z)."""
    component: str = ""
    """Z, N, E, or 1, 2, 3, R, T, ... by the table in `seislatent.components`."""
    latitude_deg: float | None = None
    longitude_deg: float | None = None
    elevation_m: float | None = None
    azimuth_deg: float | None = None
    """Clockwise from north."""
    dip_deg: float | None = None
    """Downward from the horizontal: -90 is up (SEED)."""

    @property
    def id(self) -> str:
        """`network.station.location.code`."""
        return f"{self.network}.{self.station}.{self.location}.{self.code}"


@dataclass(frozen=True, kw_only=True, eq=False)
class Waveform:
    """Samples [channel time] with rate, unit, start, identity and history; frozen, so every step gives a new one."""

    data: NDArray[Any]
    """[channel time]: int32 counts, float32 or float64; int64 where int32 is too narrow, text (S1) of a log channel."""
    sampling_rate_hz: float
    """0 only for text that has no rate."""
    channels: tuple[Channel, ...]
    """One per row of `data`."""
    start_ns: int = 0
    """Time of the first sample, in nanoseconds since 1970-01-01T00:00:00 UTC."""
    unit: str | None = None
    """Such as counts, m, m/s, m/s^2; None where nobody said."""
    history: tuple[str, ...] = ()
    metadata: dict[str, Any] = field(default_factory=dict)
    """Columns with SeisBench's names: source_magnitude, trace_p_arrival_sample, split, ..."""

    def __post_init__(self) -> None:
        if self.data.ndim != 2:
            raise SeislatentError(f"a waveform is [channel time], not of shape {self.data.shape}: give one row per channel")
        if len(self.channels) != len(self.data):
            raise SeislatentError(f"{len(self.data)} rows of samples but {len(self.channels)} channels: give one channel per row")
        timeless = self.data.dtype.kind in "SU" and self.sampling_rate_hz == 0  # a log of text has no rate
        if not ((np.isfinite(self.sampling_rate_hz) and self.sampling_rate_hz > 0) or timeless):
            raise SeislatentError(
                f"sampling rate {self.sampling_rate_hz} Hz of {', '.join(self.ids)}: it must be a positive number"
            )

    @property
    def components(self) -> tuple[str, ...]:
        """Component of each row."""
        return tuple(c.component for c in self.channels)

    @property
    def ids(self) -> tuple[str, ...]:
        """`network.station.location.code` of each row."""
        return tuple(c.id for c in self.channels)

    @property
    def duration_s(self) -> float:
        """From the first sample to one interval past the last; 0 for text without a rate."""
        if self.sampling_rate_hz == 0:
            return 0.0
        return self.data.shape[1] / self.sampling_rate_hz

    def with_data(self, data: NDArray[Any], *, did: str, **changes: Any) -> Waveform:
        """The same record with other samples, its history signed with what was done."""
        return replace(self, data=data, history=(*self.history, did), **changes)

    def select(self, rows: Sequence[int]) -> Waveform:
        """Some rows, in the order given."""
        return replace(self, data=self.data[list(rows)], channels=tuple(self.channels[i] for i in rows))
