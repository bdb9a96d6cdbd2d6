"""Training windows for the discriminator of noise and earthquakes: the picker's windows, each with a class in place of arrivals.

    PickingWindows --arrivals in the window?--> label 0 noise, 1 earthquake, -1 neither (teaches nothing) --cut short?--> x

A window is an earthquake where P or S stands in it, not nearer than `edge_s` to its end: streams are looked at in windows that
overlap, so that another one shows the rest. It is noise where nothing stands in it and nothing is left open; a coda whose S nobody
read is neither.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from seislatent.batch import Batch
from seislatent.data.cuts import Cuts
from seislatent.data.picking_windows import PickingWindows, PickingWindowsConfig
from seislatent.data.record_batches import SharedDice
from seislatent.data.shared import tensor


def windows() -> PickingWindowsConfig:
    """27 s at 20 Hz, as many of noise as of events."""
    return PickingWindowsConfig(
        sampling_rate_hz=20.0, window=540, quiet=0.5, joined=0.0, lower_rate=0.0, lowpassed=0.0, noise_snr_db=(3.0, 30.0)
    )


class Mirrored:
    """What `Cuts` reads, and short records of noise forth and back as often as a window needs: a gap must not tell noise.

    Args:
        cuts: what reads.
        noise: [record] which records are of noise.
    """

    def __init__(self, cuts: Cuts, noise: NDArray[np.bool_]) -> None:
        self.cuts, self.noise = cuts, noise
        self.npts, self.length = cuts.npts, cuts.length

    def __len__(self) -> int:
        return len(self.cuts)

    def read(self, records: NDArray[np.int64], first: NDArray[np.int64], array: str = "x") -> tuple[NDArray, NDArray]:
        """As `Cuts.read`."""
        x, valid = self.cuts.read(records, first, array)
        for i in np.flatnonzero(self.noise[records] & (self.npts[records] < self.length)):
            n = int(self.npts[records[i]])
            if n > 1 and first[i] <= 0:
                place = (np.arange(self.length) + first[i]) % (2 * n - 2)
                place = np.minimum(place, 2 * n - 2 - place) - first[i]
                x[i], valid[i] = x[i][:, place], valid[i][:, place]
        return x, valid


@dataclass(frozen=True, kw_only=True)
class DiscriminationWindowsConfig:
    """The picker's windows, and what makes a class."""

    split: str = "train"
    """Records of this split: train, dev or test."""
    sampling_rate_hz: float = 20.0
    """What the records must have, in Hz."""
    length: int = 540
    """Samples of a window."""
    edge_s: float = 2.0
    """An arrival nearer than this to the window's end makes it neither."""
    truncated: float = 0.1
    """Share of windows of which a part at the beginning or the end is not there, as of records shorter than a window."""
    windows: PickingWindowsConfig = field(default_factory=windows)
    """How windows are made; its split, rate and length follow from here."""


class DiscriminationWindows:
    """Batches for a classifier of noise and earthquakes, from the stores of `PickingWindows`.

    Args:
        config: see `DiscriminationWindowsConfig`.
        folders: the stores.
        batch: windows of a step, over all processes.
        seed: of everything that is drawn.

    Raises:
        SeislatentError: as `PickingWindows`.
    """

    Config = DiscriminationWindowsConfig

    def __init__(self, config: DiscriminationWindowsConfig, folders: Sequence[Path], *, batch: int, seed: int) -> None:
        self.config, self.size, self.seed, self.folders = config, batch, seed, folders
        inner = replace(config.windows, split=config.split, sampling_rate_hz=config.sampling_rate_hz, window=config.length)
        self.windows = PickingWindows(inner, folders, batch=batch, seed=seed)
        noise = np.zeros(len(self.windows), bool)
        noise[self.windows.noises] = True
        self.windows.cuts = Mirrored(self.windows.cuts, noise)  # type: ignore[assignment]

    def __len__(self) -> int:
        return len(self.windows)

    def batch(self, step: int, rank: int, world: int) -> Batch:
        """The share of process `rank` of `world` in the windows of a step."""
        count = self.size // world
        dice = SharedDice(np.random.default_rng([self.seed, step, 1]), rank * count, count, self.size)
        return self.told(self.windows.batch(step, rank, world), dice)

    def of(self, split: str) -> DiscriminationWindows:
        """Windows of another split."""
        return DiscriminationWindows(replace(self.config, split=split), self.folders, batch=self.size, seed=self.seed)

    def once(self) -> Iterator[Batch]:
        """Windows of the whole split, the same each time; as training's are."""
        for k, batch in enumerate(self.windows.once()):
            yield self.told(batch, SharedDice(np.random.default_rng([self.seed, 2**32 + k, 1]), 0, len(batch.x), len(batch.x)))

    def told(self, batch: Batch, dice: SharedDice) -> Batch:
        """The batch with its classes; the picker's condition and mask are taken out."""
        assert batch.condition is not None and batch.mask is not None and batch.valid is not None
        c, n = self.config, batch.x.shape[2]
        drawn = dice.random((len(batch.x), 2))
        length = np.where(drawn[:, 0] < c.truncated, np.floor(n * (0.25 + 0.75 * np.abs(2 * drawn[:, 1] - 1))), n)
        time, late = np.arange(n), drawn[:, 1] > 0.5  # what is gone: the beginning, or the end
        there = torch.from_numpy(np.where(late[:, None], time >= n - length[:, None], time < length[:, None]))[:, None]
        valid = batch.valid & there
        low = torch.from_numpy(np.where(late, n - length, 0.0))[:, None]
        high = torch.from_numpy(np.where(late, n, length))[:, None]
        mark, edge = batch.condition, c.edge_s * c.sampling_rate_hz
        event = ((mark >= low) & (mark < high - edge)).any(1)
        noise = mark.isnan().all(1) & batch.mask.flatten(1).all(1)
        label = torch.where(event, 1, torch.where(noise & valid.flatten(1).any(1), 0, -1))
        return Batch(x=torch.where(valid, batch.x, 0.0), valid=valid, label=tensor(label.numpy()))
