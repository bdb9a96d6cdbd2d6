"""Training windows for pickers: records of stores, played at other speeds, with other events, noise and faults, and their P and S.

    stores --by class and set--> records, other events, noise --cut around P or S, played--> sum --band, clipping, glitches-->
    Batch: x [b Z,N,E t], valid, condition [b P,S,P,S] (samples), mask [b P,S t] (where it is known whether the phase is there)

A window is a pure function of the seed, the step and its place in the batch, so that runs resume exactly and processes share a
batch. A record of noise has no P; one of an earthquake whose S nobody read tells nothing of S from P on.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from seislatent.batch import Batch
from seislatent.data.cuts import Cuts, one_rate, open_stores, table_of
from seislatent.data.record_batches import SharedDice, numbers_of
from seislatent.data.shared import tensor
from seislatent.errors import SeislatentError, unknown
from seislatent.io.picks import read_picks
from seislatent.prepare.augment import Amplitude, Augmentation, Dice, Dropout, Gaps, Noise, Polarity, Rotation, Windows, augmented
from seislatent.prepare.distort import EDGE, Alone, Band, Clip, Counts, Glitches, Overlay, Playback
from seislatent.prepare.kinds import kinds

COMPONENTS = "ZNE"
NAMES = ("trace_p_arrival_sample", "trace_s_arrival_sample")
DISTURBED = (
    "played", "joined", "lower_rate", "highpassed", "lowpassed", "other_motion", "clipped", "counted", "glitches", "gapped",
    "dropped",
)  # fmt: skip
"""Shares that are 0 for records that are held out."""
QUIET = 0.7
"""Share of noise among records that are held out."""
OF_PICKS = ("station_network_code", "station_code", "start_ns")
NEAR_S = 0.5
"""Where an arrival itself is not heard (in a gap), nothing is known so near to it."""


@dataclass(frozen=True, kw_only=True)
class PickingWindowsConfig:
    """Which records come how often, and what happens to them. Shares are of windows, each drawn by itself."""

    split: str = "train"
    """Records of this split: train, dev or test."""
    sampling_rate_hz: float = 100.0
    """What the records must have, in Hz."""
    window: int = 4096
    """Samples of a window."""
    sets: dict[str, float] = field(default_factory=dict)
    """Weight of each set of earthquakes, by its name in the column `dataset`; one that is not named has the square root of its
    number of records."""
    noise_sets: dict[str, float] = field(default_factory=dict)
    """The same for records of noise."""
    noise_without: str = ""
    """File of picks (CSV, QuakeML, GSE2.0): records of noise that hold one, at its station, are left out. A first picker's picks
    on continuous data keep what it finds from being taught as noise."""
    quiet: float = 0.25
    """Share of windows of noise alone; where there are no records of noise, none."""
    speeds: tuple[float, float] = (0.5, 2.0)
    """Records are played so many times as fast; the logarithm is uniform between both ends."""
    played: float = 0.5
    """Share of windows that are played at another speed."""
    joined: float = 0.15
    """Share of windows with a second event."""
    joined_db: tuple[float, float] = (-10.0, 10.0)
    """Least and greatest ratio in dB of the first event's largest deviation to the second's."""
    noisy: float = 0.5
    """Share of windows of events with noise of another record."""
    noise_snr_db: tuple[float, float] = (-5.0, 30.0)
    """Least and greatest ratio in dB of the record's mean square to that of the noise added."""
    rotated: float = 0.5
    """Share whose horizontals are turned."""
    lower_rate: float = 0.2
    """Share as from a recorder of 20, 40 or 50 Hz."""
    highpassed: float = 0.1
    """Share with a high pass, 0.5 to 3 Hz."""
    lowpassed: float = 0.1
    """Share with a low pass, 5 to 30 Hz."""
    other_motion: float = 0.1
    """Share differentiated; as many again are integrated."""
    clipped: float = 0.05
    """Share clipped."""
    counted: float = 0.1
    """Share rounded to coarse counts."""
    glitches: float = 0.05
    """Share of each kind of glitch: spikes, steps, held values, offsets."""
    alone: float = 0.12
    """Share with the vertical alone."""
    dropped: float = 0.06
    """Probability of each component to be silenced; one always stays."""
    gapped: float = 0.1
    """Share with gaps."""
    amplitude: tuple[float, float] = (1e-6, 1e6)
    """Least and greatest factor."""
    held: int = 1024
    """Windows of another split, for validation and calibration: hardly changed."""


class PickingWindows:
    """Batches for pickers, from record stores of events (data/picking, data/synthetic_picking) and of noise (data/noise).

    Args:
        config: see `PickingWindowsConfig`.
        folders: the stores.
        batch: windows of a step, over all processes.
        seed: of everything that is drawn.

    Raises:
        SeislatentError: a folder is no store, or no record with P is left.
    """

    Config = PickingWindowsConfig

    def __init__(self, config: PickingWindowsConfig, folders: Sequence[Path], *, batch: int, seed: int) -> None:
        self.config, self.folders, self.size, self.seed = config, [Path(f) for f in folders], batch, seed
        stores = open_stores(self.folders)
        table = table_of(stores, config.split, [*NAMES, "dataset", "label", "source_type", "trace_category", *OF_PICKS])
        self.rate = one_rate(table, config.sampling_rate_hz)
        kind = kinds(table)
        for name in NAMES:
            table[name] = numbers_of(table, name, "the stores") if name in table else np.nan
        if config.noise_without:
            kept = ~_picked(table, config.noise_without)
            table, kind = table[kept].reset_index(drop=True), kind[kept].reset_index(drop=True)
        table["noise"] = ((kind == "noise") & table[NAMES[0]].isna()).to_numpy()
        table = table[table["noise"] | table[NAMES[0]].notna()].reset_index(drop=True)
        if table["noise"].all():
            places = ", ".join(map(str, self.folders))
            raise SeislatentError(f"{places}: no record of the split '{config.split}' has P: make stores with data/picking")
        fastest = max(config.speeds[1], 1.0) if config.played else 1.0  # it takes the most of a record
        self.cuts = Cuts(stores, table, COMPONENTS, math.ceil((config.window + 2 * EDGE) * fastest / 2) * 2)
        strict = config.split == "train"  # another split need not have records of every set
        self.marks = table[[*NAMES]].to_numpy(np.float64)
        self.events, self.event_ends = _drawn(table, ~table["noise"].to_numpy(), config.sets, "sets", strict)
        self.noises, self.noise_ends = _drawn(table, table["noise"].to_numpy(), config.noise_sets, "noise_sets", strict)
        self.playback = Playback(length=config.window, speeds=config.speeds, share=config.played)
        self.chain = self._chain()

    def __len__(self) -> int:
        return len(self.cuts)

    def batch(self, step: int, rank: int, world: int) -> Batch:
        """The share of process `rank` of `world` in the windows of a step."""
        if self.size % world:
            raise SeislatentError(f"a batch of {self.size} windows does not divide over {world} processes: change recipe.batch")
        count = self.size // world
        return self.make(SharedDice(np.random.default_rng([self.seed, step]), rank * count, count, self.size))

    def of(self, split: str) -> PickingWindows:
        """Windows of another split, hardly changed: with some noise, and some stations of one component.

        Most of them are noise alone, as most of a stream is: thresholds are set on these windows.
        """
        calm: dict[str, Any] = dict.fromkeys(DISTURBED, 0.0) | {"noisy": 0.25, "alone": 0.06, "quiet": QUIET}
        config = replace(self.config, split=split, **calm)
        return PickingWindows(config, self.folders, batch=self.size, seed=self.seed)

    def once(self) -> Iterator[Batch]:
        """`held` windows, the same each time."""
        for k in range(math.ceil(self.config.held / self.size)):
            yield self.make(SharedDice(np.random.default_rng([self.seed, 2**32 + k]), 0, self.size, self.size))

    def make(self, dice: SharedDice) -> Batch:
        """One batch."""
        c, b = self.config, dice.count
        quiet, joined, noisy = (dice.random((b, 3)) < (c.quiet, c.joined, c.noisy)).T
        has_noise = bool(len(self.noises))
        it = self._windows(dice, np.ones(b, bool), quiet & has_noise)
        # records that are not wanted are not read either: they come silent, and what is silent is not added
        it = Overlay(source=lambda d, _: self._windows(d, joined), ratio_db=c.joined_db)(it, dice)
        if has_noise:
            it = Noise(source=lambda d, *_: self._noise(d, noisy), snr_db=c.noise_snr_db)(it, dice)
        it = augmented(it, self.chain, dice)
        marks, known = self._known(it)
        return Batch(x=tensor(it.x), valid=tensor(it.valid), condition=tensor(marks.astype(np.float32)), mask=tensor(known))

    def _chain(self) -> tuple[Augmentation, ...]:
        """What happens to the sum."""
        c = self.config
        band = Band(lower_rate=c.lower_rate, highpassed=c.highpassed, lowpassed=c.lowpassed, other_motion=c.other_motion)
        return (
            Rotation(share=c.rotated), Polarity(), band, Clip(share=c.clipped), Counts(share=c.counted), Glitches(share=c.glitches),
            Dropout(probability=c.dropped), Alone(share=c.alone), Gaps(shortest_s=0.05, longest_s=3.0, share=c.gapped),
            Amplitude(least=c.amplitude[0], most=c.amplitude[1]),
        )  # fmt: skip

    def _windows(self, dice: Dice, wanted: NDArray[np.bool_], quiet: NDArray[np.bool_] | None = None) -> Windows:
        """Records of events (of noise where `quiet`), each around P or S and played at a speed; silence where not wanted.

        Its marks are P, S, and `unread`: from where on nobody knows whether S is there.
        """
        count, length = len(wanted), self.config.window
        drawn = dice.random((count, 3))
        rows = self.events[np.searchsorted(self.event_ends, drawn[:, 0], side="right")]
        if quiet is not None and quiet.any():
            rows[quiet] = self.noises[np.searchsorted(self.noise_ends, drawn[quiet, 0], side="right")]
        x, valid = np.zeros((count, len(COMPONENTS), length), np.float32), np.ones((count, len(COMPONENTS), length), bool)
        marks = np.full((count, 3), np.nan)
        x[wanted], valid[wanted], marks[wanted] = self._read(rows[wanted], drawn[wanted], _Some(dice, wanted))
        named = dict(zip((*NAMES, "unread"), marks.T, strict=True))
        return Windows(x=x, valid=valid, components=COMPONENTS, sampling_rate_hz=self.rate, marks=named)

    def _read(
        self, rows: NDArray[np.int64], drawn: NDArray[np.float64], dice: Dice
    ) -> tuple[NDArray[np.float32], NDArray[np.bool_], NDArray[np.float64]]:
        """Samples and validity [record channel time] of some records, and P, S, `unread` [record 3]."""
        marks, room = self.marks[rows], self.cuts.npts[rows] - self.cuts.length
        p, s = marks.T
        near = np.where((drawn[:, 2] < 0.5) | np.isnan(s), p, s)
        first = np.where(np.isnan(near), drawn[:, 1] * np.maximum(room, 0), near - drawn[:, 1] * self.cuts.length)
        # within the record; of a shorter one all, anywhere in what is read
        first = np.clip(first, np.minimum(room, 0), np.maximum(room, 0)).astype(np.int64)
        x, valid = self.cuts.read(rows, first)
        named = dict(zip(NAMES, (marks - first[:, None]).T, strict=True))
        it = Windows(x=x, valid=valid, components=COMPONENTS, sampling_rate_hz=self.rate, marks=named)
        it, at = self.playback.cut(it, dice)
        inside = np.where((at >= 0) & (at < self.config.window), at, np.nan)
        unread = np.where(np.isnan(s), np.maximum(at[:, 0], 0.0), np.nan)
        return it.x, it.valid, np.column_stack([inside, unread])

    def _noise(self, dice: Dice, wanted: NDArray[np.bool_]) -> NDArray[np.float32]:
        """See `NoiseSource`; silence where not wanted."""
        it = self._windows(dice, wanted, np.ones(len(wanted), bool))
        return np.where(it.valid, it.x, np.float32(np.nan))

    def _known(self, it: Windows) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
        """P, S, P, S of both events as far as they are heard, and where it is known [batch phase time] whether a phase is there."""
        b, _, n = it.x.shape
        none = np.full(b, np.nan)
        both = [[it.marks.get(f"{name}{end}", none) for name in (*NAMES, "unread")] for end in ("", " 2")]
        marks = np.stack([both[0][0], both[0][1], both[1][0], both[1][1]], 1)
        time, given = np.arange(n), np.asarray(it.valid.any(1))
        known = np.ones((b, 2, n), bool)
        for _, _, unread in both:
            known[:, 1] &= ~(time >= unread[:, None])
        for i, k in zip(*np.nonzero(~np.isnan(marks)), strict=True):
            if not bool(given[i, int(marks[i, k])]):
                known[i, k % 2] &= np.abs(time - marks[i, k]) > NEAR_S * self.rate
                marks[i, k] = np.nan
        return marks, known


def _picked(table: pd.DataFrame, path: str) -> NDArray[np.bool_]:
    """Whether a record without P holds one of a file's picks."""
    picks = read_picks(path).table
    begin = pd.to_numeric(table["start_ns"], errors="coerce").fillna(-1).to_numpy(np.int64)
    end = begin + (table["trace_npts"] / table["trace_sampling_rate_hz"] * 1e9).to_numpy(np.int64)
    found = np.zeros(len(table), bool)
    of_station = picks.groupby([_codes(picks["station_network_code"]), _codes(picks["station_code"])])["time_ns"]
    known = {name: np.sort(times.to_numpy(np.int64)) for name, times in of_station}
    stations = list(zip(_codes(table["station_network_code"]), _codes(table["station_code"]), strict=True))
    for i in np.flatnonzero(table[NAMES[0]].isna() & (begin > 0)):
        if (times := known.get(stations[i])) is not None:
            found[i] = np.searchsorted(times, begin[i]) < np.searchsorted(times, end[i])
    return found


class _Some:
    """The dice of some of the records: what is drawn for one does not depend on which others are among them."""

    def __init__(self, dice: Dice, chosen: NDArray[np.bool_]) -> None:
        self.dice, self.chosen = dice, chosen

    def random(self, size: tuple[int, ...]) -> NDArray[np.float64]:
        """See `Dice`."""
        return self.dice.random((len(self.chosen), *size[1:]))[self.chosen]


def _drawn(
    table: pd.DataFrame, chosen: NDArray[np.bool_], given: dict[str, float], what: str, strict: bool
) -> tuple[NDArray, NDArray]:
    """Rows of some records, and the upper ends of their shares of the draw."""
    rows = np.flatnonzero(chosen)
    names = table["dataset"].astype(str).to_numpy()[rows] if len(rows) else np.empty(0, str)
    for name in given:
        if name not in names and strict:
            raise SeislatentError(f"{what}: {unknown('set', name, np.unique(names))}")
    kinds_of, of, counts = np.unique(names, return_inverse=True, return_counts=True)
    weight = np.array([given.get(str(name), float(n) ** 0.5) for name, n in zip(kinds_of, counts, strict=True)])
    if not (np.isfinite(weight).all() and (weight >= 0).all() and (weight.sum() > 0 or not len(rows))):
        raise SeislatentError(f"weights of {what} {given}: they must be 0 or more, and one above 0")
    each = (weight / counts)[of] if len(rows) else np.empty(0)
    ends = np.cumsum(each / each.sum()) if len(rows) else each
    return rows, np.minimum(ends, np.where(np.arange(len(ends)) == len(ends) - 1, np.inf, ends))


def _codes(column: pd.Series) -> pd.Series:
    """A column of codes as text; a missing one is empty."""
    return column.astype(object).fillna("").astype(str)
