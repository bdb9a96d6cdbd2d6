"""Which trainings an experiment is made of: products of encoders, heads, ways and sizes, merged into a list of cells.

    Arm = encoders x heads x ways x sizes x repeats     Grid = arms, and how all of them learn     --expand--> cells, each once

The paper (Kong et al., seed 002) trains everything with everything: `paper()`. `small()` is a star around its best encoder, the
overcomplete one of 68 frames with a convolution in the head: one thing at a time is changed, so that every comparison of the paper
is in it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from seislatent.errors import SeislatentError, UsageError, unknown

JOBS = {"noise": ("noise", "earthquake"), "explosion": ("earthquake", "explosion"), "picking": ()}
"""What a head learns, and its labels; `picking` is the sample of P."""
WAYS = ("baseline", "schema 1", "schema 2")
"""From scratch; the encoder frozen; then all layers with small steps (the paper's table 1)."""
HEADS = {"convolution": 32, "dense": 0}
"""With the optional convolution before the dense layer, or without: its kernels."""
ENCODERS: dict[str, dict[str, Any]] = {
    f"{kind}{frames}": {"bottleneck": frames, "maps": maps, "weights": weights}
    for kind, maps, weights in (("over", 128, {"waveform": 1.0, "activity": 1e-4}), ("under", 8, {"waveform": 1.0}))
    for frames in (68, 34, 17)
}
"""The paper's autoencoders: keys of `features/autoencoder`."""
RIVALS = ("contrastive", "masked")
"""Other ways to teach the encoder of `over68` without labels. They have no baseline: it is that of `over68`."""


@dataclass(frozen=True, kw_only=True)
class Arm:
    """A product of settings."""

    sets: tuple[str, ...] = ()
    """Names of record sets; empty: all that are given."""
    encoders: tuple[str, ...] = ("over68",)
    """Names of encoders."""
    heads: tuple[str, ...] = ("convolution",)
    """convolution, dense."""
    ways: tuple[str, ...] = WAYS
    """baseline, schema 1, schema 2; of `contrastive` and `masked` the baseline is left out."""
    sizes: tuple[int, ...] = (25, 50, 100, 200, 0)
    """Records of real sets to train with, those for validation among them; 0: all that there are."""
    synthetic_sizes: tuple[int, ...] = (500, 2000)
    """The same of synthetic sets."""
    repeats: int = 5
    """Trainings with new weights and new draws of records."""
    batch: int = 0
    """Records per step; 0: one in a hundred, and `least_batch` at least."""

    def __post_init__(self) -> None:
        for what, given, known in (("way", self.ways, WAYS), ("head", self.heads, HEADS)):
            for name in given:
                if name not in known:
                    raise UsageError(unknown(what, name, known))
        if self.repeats < 1 or self.batch < 0 or any(n < 0 for n in (*self.sizes, *self.synthetic_sizes)):
            raise UsageError("an arm of the grid: repeats must be 1 or more, batch and sizes 0 or more")


@dataclass(frozen=True, kw_only=True)
class Learning:
    """How every cell learns (table 1 of the paper)."""

    rate: float = 0.001
    """Learning rate of the baseline and of schema 1. The paper's is 0.01, at which most heads die here: see docs."""
    fine_rate: float = 5e-5
    """Learning rate of schema 2."""
    held: float = 0.2
    """Share of the records that validates, whole events."""
    patience: int = 20
    """Epochs without a better validation after which training stops."""
    epochs: int = 200
    """Epochs at most; the paper names no limit."""
    least_batch: int = 8
    """Records per step at least: one in a hundred of 25 records would be none."""
    dense: int = 100
    """Neurons of the dense layer."""

    def __post_init__(self) -> None:
        if not (0 < self.held < 1 and self.rate > 0 and self.fine_rate > 0):
            raise UsageError("learning: held must lie between 0 and 1, rates above 0")
        if min(self.patience, self.epochs, self.least_batch, self.dense) < 1:
            raise UsageError("learning: patience, epochs, least_batch and dense must be 1 or more")


@dataclass(frozen=True, kw_only=True)
class Grid:
    """The arms of an experiment and how its cells learn."""

    arms: tuple[Arm, ...]
    """Products of settings; what two arms share is trained once."""
    learning: Learning = Learning()
    """Of all cells."""
    tested: int = 1000
    """Test records of a set at most, drawn once by event."""
    seed: int = 0
    """Of weights, draws and order."""


@dataclass(frozen=True, kw_only=True, order=True)
class Cell:
    """One training."""

    set: str
    encoder: str
    head: str
    way: str
    n: int
    """Records to train with, those for validation among them."""
    batch: int
    """Records per step."""
    repeat: int

    @property
    def name(self) -> str:
        """As a part of a file's name."""
        way = self.way.replace(" ", "")
        return f"{self.set.replace(':', '-')}.{self.encoder}.{self.head}.{way}.n{self.n}.b{self.batch}.r{self.repeat}"


@dataclass(frozen=True, kw_only=True)
class Amount:
    """How many records there are to train with."""

    pool: int
    synthetic: bool


def small() -> Grid:
    """The paper's comparisons one at a time, in some 40 minutes of one core for two real sets and three synthetic ones."""
    centre = ("over68", *RIVALS)
    few = Arm(encoders=centre, sizes=(25, 50, 100), synthetic_sizes=(), repeats=5)
    more = Arm(encoders=centre, sizes=(200, 0), synthetic_sizes=(), repeats=2)
    synthetic = Arm(encoders=centre, sizes=(), synthetic_sizes=(500,), repeats=2)
    others = tuple(name for name in ENCODERS if name != "over68")
    one = Arm(sizes=(100,), synthetic_sizes=(), repeats=2)
    return Grid(
        arms=(
            few,
            replace(one, encoders=others),
            replace(one, encoders=("over68", "under68"), heads=("dense",)),
            more,
            synthetic,
            replace(one, encoders=("over68", "under68"), sizes=(200,), repeats=1, batch=256),
            replace(synthetic, encoders=("over68",), synthetic_sizes=(2000,), repeats=1),
        )
    )


def paper() -> Grid:
    """Everything with everything, five times, up to 100,000 synthetic records; days of one core."""
    sizes = (500, 1500, 5000, 15_000, 25_000, 50_000, 100_000)
    heads = tuple(HEADS)
    everything = Arm(encoders=(*ENCODERS, *RIVALS), heads=heads, synthetic_sizes=sizes)
    fixed = Arm(encoders=("over68", "under68"), synthetic_sizes=sizes, batch=256)
    return Grid(arms=(everything, fixed), tested=50_000)


def expand(grid: Grid, amounts: Mapping[str, Amount], encoders: Iterable[str]) -> list[Cell]:
    """The cells of a grid, each once, for the sets and encoders there are; a size above what a set has is left out (0: all of it).

    They come in the order of the arms, repeat by repeat: what matters most stands first in a grid.

    Raises:
        SeislatentError: nothing is left.
    """
    there, found = set(encoders), dict[Cell, int]()
    for place, arm in enumerate(grid.arms):
        for name in arm.sets:
            if name not in amounts:
                raise SeislatentError(unknown("record set in the grid", name, amounts))
        for name in arm.sets or amounts:
            amount = amounts[name]
            sizes = {n or amount.pool for n in (arm.synthetic_sizes if amount.synthetic else arm.sizes)}
            for n in sorted(s for s in sizes if s <= amount.pool):
                batch = arm.batch or max(n // 100, grid.learning.least_batch)
                for cell in (
                    Cell(set=name, encoder=encoder, head=head, way=way, n=n, batch=batch, repeat=repeat)
                    for encoder in arm.encoders if encoder in there
                    for head in arm.heads for way in arm.ways for repeat in range(arm.repeats)
                    if way != "baseline" or encoder not in RIVALS
                ):  # fmt: skip
                    found.setdefault(cell, place)
    if not found:
        told = ", ".join(f"{name} with {amount.pool} records" for name, amount in amounts.items())
        raise SeislatentError(f"the grid has no cell for {told or 'no set'} and the encoders {', '.join(sorted(there)) or 'none'}")
    return sorted(found, key=lambda c: (found[c], c.repeat, c.n, c))
