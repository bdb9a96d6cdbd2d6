"""The one record: samples with the physics that belongs to them."""

from __future__ import annotations

import html
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
    """0 only where there is none: text, or no samples at all."""
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
        # a log of text has no rate, and a trace without samples need not have one
        timeless = (self.data.dtype.kind in "SU" or not self.data.shape[1]) and self.sampling_rate_hz == 0
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
        """From the first sample to one interval past the last; 0 where there is no rate."""
        if self.sampling_rate_hz == 0:
            return 0.0
        return self.data.shape[1] / self.sampling_rate_hz

    def with_data(self, data: NDArray[Any], *, did: str, **changes: Any) -> Waveform:
        """The same record with other samples, its history signed with what was done."""
        return replace(self, data=data, history=(*self.history, did), **changes)

    def select(self, rows: Sequence[int]) -> Waveform:
        """Some rows, in the order given."""
        return replace(self, data=self.data[list(rows)], channels=tuple(self.channels[i] for i in rows))

    @property
    def start_text(self) -> str:
        """Start in UTC, ISO 8601 with nanoseconds."""
        return f"{np.datetime_as_string(np.datetime64(int(self.start_ns), 'ns'), unit='ns')}Z"

    def __repr__(self) -> str:
        unit = f" {self.unit}" if self.unit else ""
        return (
            f"Waveform({', '.join(self.ids)} | {self.start_text} | {self.sampling_rate_hz:g} Hz,"
            f" {self.data.shape[1]} samples of {self.data.dtype}{unit})"
        )

    def _repr_html_(self) -> str:
        """A table and a sketch of every channel for notebooks; nothing is loaded from elsewhere."""
        facts = {
            "start": self.start_text,
            "rate": f"{self.sampling_rate_hz:g} Hz",
            "samples": f"{self.data.shape[1]} ({self.duration_s:g} s), {self.data.dtype}",
            "unit": self.unit or "not known",
            "history": "; ".join(self.history) or "none",
        }
        rows = "".join(f"<tr><th>{name}</th><td>{html.escape(value)}</td></tr>" for name, value in facts.items())
        sketches = "".join(
            f"<tr><th>{html.escape(channel.id)}<br>{html.escape(channel.component)}</th><td>{_sketch(row)}</td></tr>"
            for channel, row in zip(self.channels, self.data, strict=True)
        )
        return f"<table>{rows}{sketches}</table>"


def _sketch(row: NDArray[Any], width: int = 480, height: int = 48) -> str:
    """One channel as an inline SVG: from the lowest to the highest sample of each column, gaps where nothing is finite."""
    if row.dtype.kind not in "iuf" or not row.size or not np.isfinite(row).any():
        return "no numbers to draw"
    values = np.where(np.isfinite(row), row, np.nan).astype(np.float64)
    low, high = np.nanmin(values), np.nanmax(values)
    half = max(high / 2 - low / 2, np.finfo(float).tiny)
    level = (values / 2 - low / 4 - high / 4) / half * 2  # -1 to 1, halved first so that the largest floats do not overflow
    lines = []
    for x, part in enumerate(np.array_split(level, min(width, row.size))):
        given = part[~np.isnan(part)]
        if given.size:
            top, bottom = (height / 2 * (1 - 0.94 * v) for v in (given.max(), given.min()))
            at = (x + 0.5) * width / min(width, row.size)
            lines.append(f"M{at:.1f} {top - 0.5:.1f}V{bottom + 0.5:.1f}")
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" role="img" aria-label="waveform">'
        f'<path d="{"".join(lines)}" stroke="currentColor" fill="none"/></svg><br>{low:.4g} to {high:.4g}'
    )
