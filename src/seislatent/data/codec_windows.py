"""Training windows for codecs: one component at the codec's rate, cut at random from every record of every set.

    folders --read, resample--> one long row of samples on disk --(seed, step, record)--> windows [batch 1 time]

A window of a step is a pure function of the seed, the step and its place in the batch, so that a run resumes exactly and processes
share a batch without overlap. Records are split by event, continuous data by the hour, as `evaluate --split test` splits them: what
it judges on is what training left out. Whole sets, with their stations and events elsewhere, can be held out besides.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from seislatent.batch import Batch
from seislatent.data.records import open_records
from seislatent.data.splits import events, split_by_event
from seislatent.data.synthetic import mixture
from seislatent.errors import SeislatentError
from seislatent.prepare.resample import resample
from seislatent.waveform import Waveform


@dataclass(frozen=True, kw_only=True)
class CodecWindowsConfig:
    """Which records, in which shares, and how they are cut."""

    sampling_rate_hz: float = 40.0
    """Rate of the windows, in Hz."""
    frame: int = 40
    """Samples of one frame."""
    frames: int = 32
    """Frames that are coded in a window."""
    margin_frames: int = 4
    """Frames of context on either side."""
    shares: dict[str, float] = field(default_factory=dict)
    """Share of a set in each batch, by folder name; a set that is not named gets the square root of its hours."""
    synthetic: float = 0.1
    """Share of synthetic noise-and-event mixtures in each batch."""
    mixed: float = 0.1
    """Share of records to which another record, scaled by -30 to 30 dB, is added."""
    exclude: tuple[str, ...] = ()
    """Sets left out, by folder name."""
    networks: dict[str, tuple[str, ...]] = field(default_factory=dict)
    """Of these sets only records of these networks."""
    hold_out: tuple[str, ...] = ()
    """Sets never trained on; so are all records of their stations, or within 120 s of their records, in other sets."""
    speeds: tuple[float, ...] = (1.0,)
    """Each record is also taken as if it had been sampled this many times as fast; not for continuous records."""
    longest_s: float = 1800.0
    """Records at least this long count as continuous."""
    shortest_s: float = 20.0
    """Records shorter than this are left out."""
    validation: int = 48
    """Windows of the `dev` split on which a codec is validated."""


@dataclass(frozen=True)
class Span:
    """One component of one record in the long row."""

    start: int
    length: int


class CodecWindows:
    """Batches for training, from folders that `open_records` reads."""

    Config = CodecWindowsConfig

    def __init__(self, config: CodecWindowsConfig, folders: Sequence[Path], *, batch: int, seed: int):
        self.config, self.size, self.seed = config, batch, seed
        self.length = (config.frames + 2 * config.margin_frames) * config.frame
        self.spans: dict[str, dict[str, list[Span]]] = {"train": {}, "dev": {}}
        with tempfile.TemporaryFile(prefix="seislatent-windows-") as file:
            for name, split, row in self.rows(folders):
                start = file.tell() // 4
                file.write(row.tobytes())
                self.spans[split].setdefault(name, []).append(Span(start, len(row)))
            file.flush()
            if not self.spans["train"]:
                raise SeislatentError(
                    f"{', '.join(map(str, folders))}: no record to train on; all are held out for validation and test, left out by"
                    " `exclude` or `hold_out`, or too short: give records of more events"
                )
            self.samples = np.memmap(file, np.float32, "r")
        self.names = sorted(self.spans["train"])
        shares = np.array([self.share(name) for name in self.names])
        self.shares = shares / shares.sum()
        self.held = self.validation_windows()

    def rows(self, folders: Sequence[Path]) -> Iterator[tuple[str, str, NDArray[np.float32]]]:
        """Set, split and samples of every component that can be used."""
        c = self.config
        records = open_records(folders)
        table = records.metadata
        split = split_by_event(table).where(~held_out(table, c.hold_out), "test")
        for i in np.flatnonzero(split.isin(list(self.spans)) & ~table["dataset"].isin(c.exclude)):
            name = str(table["dataset"].iloc[i])
            waveform: Waveform = records[int(i)]
            if name in c.networks and waveform.channels[0].network not in c.networks[name]:
                continue
            short = waveform.duration_s < c.longest_s
            for speed in c.speeds if short and split.iloc[i] == "train" else (1.0,):
                rate = waveform.sampling_rate_hz * speed
                for row in waveform.data if rate >= 0.5 * c.sampling_rate_hz else ():
                    if np.isfinite(row).all() and len(row) / rate >= c.shortest_s and np.ptp(row) > 0:
                        x = row - row.mean(dtype=np.float64)
                        yield name, str(split.iloc[i]), resample(x / np.abs(x).max(), rate, c.sampling_rate_hz).astype(np.float32)

    def share(self, name: str) -> float:
        """Weight of a set in the draw."""
        hours = sum(s.length for s in self.spans["train"][name]) / self.config.sampling_rate_hz / 3600
        return self.config.shares.get(name, hours**0.5)

    def batch(self, step: int, rank: int, world: int) -> Batch:
        """This process's share of the records of a step."""
        if self.size % world:
            raise SeislatentError(f"a batch of {self.size} records does not divide over {world} processes: change recipe.batch")
        mine = range(rank * self.size // world, (rank + 1) * self.size // world)
        return Batch(x=torch.from_numpy(np.stack([self.window(step, i) for i in mine])[:, None]))

    def window(self, step: int, record: int) -> NDArray[np.float64]:
        """One window: a set by its share, a record by its length, a place, a sign, sometimes another record on top."""
        rng = np.random.default_rng([self.seed, step, record])
        if rng.random() < self.config.synthetic:
            x = mixture(rng, self.length, self.config.sampling_rate_hz).astype(np.float64)
        else:
            x = self.cut(rng, self.spans["train"][self.names[rng.choice(len(self.names), p=self.shares)]])
            if rng.random() < self.config.mixed:
                other = self.cut(rng, self.spans["train"][self.names[rng.choice(len(self.names), p=self.shares)]])
                loud = np.sqrt((x.var() + 1e-12) / (other.var() + 1e-12))
                x = x + other * loud * 10 ** rng.uniform(-1.5, 1.5)
        return x * rng.choice([-1.0, 1.0])

    def cut(self, rng: np.random.Generator, spans: list[Span]) -> NDArray[np.float64]:
        """A window from one of some records; a record that is too short goes on as its mirror image."""
        lengths = np.array([s.length for s in spans], float)
        span = spans[rng.choice(len(spans), p=lengths / lengths.sum())]
        x = np.asarray(self.samples[span.start : span.start + span.length], np.float64)
        if len(x) < self.length:
            x = np.pad(x, self.length // 2, mode="symmetric")
        start = rng.integers(0, len(x) - self.length + 1)
        x = x[start : start + self.length]
        return x if np.ptp(x) > 0 else rng.normal(size=self.length)

    def validation_windows(self) -> torch.Tensor | None:
        """Fixed windows of the `dev` split, from every set in turn; None where there is none."""
        dev = {name: spans for name, spans in sorted(self.spans["dev"].items())}
        if not dev:
            return None
        rng, names = np.random.default_rng([self.seed, 2**31]), list(dev)
        rows = [self.cut(rng, dev[names[i % len(names)]]) for i in range(self.config.validation)]
        return torch.from_numpy(np.stack(rows)[:, None])

    def validate(self, codec: Any) -> dict[str, float]:
        """Mean SNR in dB on held-out windows at every level, and over all levels: `snr_db`, `snr_db/1`, ..."""
        if self.held is None:
            raise SeislatentError(
                "no record of the `dev` split to validate on: give records of more events, or set recipe.validate_every to 0"
            )
        m = self.config.margin_frames * self.config.frame
        x = self.held.to(next(codec.parameters()).device)
        tokens, inner = codec.encode(x, margin=m), x[:, :, m:-m]
        power = (inner - inner.mean(2, keepdim=True)).square().sum(2)
        told = {}
        for level in range(1, codec.books + 1):
            error = (codec.decode(tokens, level) - inner).square().sum(2)
            told[f"snr_db/{level}"] = float((10 * torch.log10(power / error.clamp_min(1e-30))).mean())
        return {"snr_db": sum(told.values()) / len(told)} | told


def held_out(table: pd.DataFrame, names: Sequence[str]) -> pd.Series:
    """True for records of the named sets, of their stations, and of their events."""
    mine = table["dataset"].isin(names)
    station = table["station_network_code"].fillna("").astype(str) + "." + table["station_code"].fillna("").astype(str)
    event = events(dated(table))
    return mine | (station.isin(station[mine]) & (station != ".")) | event.isin(event[mine])


def dated(table: pd.DataFrame) -> pd.DataFrame:
    """The table with a start where only the trace name tells one, as 14 digits (year to second) or more."""
    told = table["trace_name"].astype(str).str.extract(r"(?<!\d)((?:19|20)\d{12})", expand=False)
    named = pd.to_datetime(told, format="%Y%m%d%H%M%S", errors="coerce", utc=True)
    ns = (named - pd.Timestamp(0, tz="UTC")) // pd.Timedelta(1, "ns")
    start = pd.to_numeric(table["start_ns"], errors="coerce").astype(float)
    return table.assign(start_ns=start.where(start.notna() & (start != 0), ns.astype(float)))
