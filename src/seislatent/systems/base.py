"""What a system is: networks, the verbs they serve, and the turns in which they learn.

    batch --system.turns--> Turn(*players, at=..., **terms) --engine--> mean over all processes, weigh or balance, backward
          <-- next turn --  into these players only, average their gradients, clip, step

See docs/decisions/0001-turns.md for the contract and what was measured before it was chosen.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

from jaxtyping import Bool, Float, Int
from torch import Generator, Tensor, nn

from seislatent.batch import Batch
from seislatent.waveform import Waveform


class Turn:
    """These players step on these terms: `Turn("encoder", "generator", fool=..., kl=...)`.

    A term is a tensor of any shape, **not yet averaged**: one value per record, group, frame or sample. The engine takes the mean
    of its values over all processes, so unequal shares stay exact. None: declared, but idle at this step (by the step, never by
    the records).

    `at`, a tensor [batch ...] such as the decoder's output: terms that pass through it are balanced instead of weighed
    (Défossez et al. 2022, section 3.4).
    """

    def __init__(self, *players: str, at: Tensor | None = None, **terms: Tensor | None):
        self.players, self.at, self.terms = players, at, terms


class System(nn.Module):
    """Networks and the turns in which they learn. `Config` is a frozen dataclass; `config.weights` names every loss term."""

    Config: ClassVar[type]

    def __init__(self, config: Any):
        super().__init__()
        self.config = config

    def frozen(self) -> list[nn.Module]:
        """Modules that never learn; the engine keeps them in eval mode, without gradients."""
        return []

    def players(self) -> dict[str, list[nn.Module]]:
        """Who learns: every trainable parameter belongs to exactly one player."""
        return {"model": [m for m in self.children() if m not in self.frozen()]}

    def turns(self, batch: Batch) -> Iterator[Turn]:
        """One step of learning. What stands after a `yield` runs after that turn's players have stepped."""
        raise NotImplementedError(f"{type(self).__name__} does not learn")

    def measures(self, batch: Batch) -> dict[str, Tensor]:
        """Values, one per record or finer, whose means tell what the system is worth on records it does not learn from.

        Here the terms of its turns; a system with several turns, or a better measure of its own, overrides this.
        """
        return {name: value for turn in self.turns(batch) for name, value in turn.terms.items() if value is not None}

    def calibrate(self, records: Callable[[], Iterator[Batch]]) -> dict[str, Any]:
        """After training: sets buffers that are measured, not learnt (a temperature, say), on records of the dev split.

        `records()` goes through all of them, as often as it is called. What is returned goes into the weights' metadata as
        `calibration`. Here nothing is set.
        """
        return {}


def still(function: Callable[..., Any]) -> Callable[..., Any]:
    """`still(self.encoder)(x)`, `still(codec.embed)(x)`: gradients pass through, none reach the module's parameters."""
    module = function if isinstance(function, nn.Module) else function.__self__  # type: ignore[attr-defined]

    def call(*inputs: Any, **named: Any) -> Any:
        moving = [p for p in module.parameters() if p.requires_grad]
        for p in moving:
            p.requires_grad_(False)
        try:
            return function(*inputs, **named)
        finally:
            for p in moving:
                p.requires_grad_(True)

    return call


@dataclass(frozen=True, kw_only=True)
class Tokens:
    """The code of a batch of segments: what a decoder needs, as whole numbers.

    Level k of the code is the first k rows of `indices`. `offset` and `scale` put the amplitude back; their meaning is the codec's
    own (`seislatent.signal.gain` for `codec/eqcodec`).
    """

    indices: Int[Tensor, "batch book frame"]
    """Codebook entries. A place on the last axis is a second for `codec/eqcodec`; where it lends (`lend`), in book 1 alone: places
    in the others are given out by what book 1 and `scale` say."""
    offset: Int[Tensor, " batch"]
    """Level that is taken off before coding, in steps that the least scale sets."""
    scale: Int[Tensor, "batch frame"]
    """Amplitude of each frame as a step of a logarithmic scale; constant but where amplitudes jump by decades."""


class Reconstructor(ABC):
    """Gives a record back from its own code."""

    @abstractmethod
    def reconstruct(self, x: Float[Tensor, "batch channel time"]) -> Float[Tensor, "batch channel time"]:
        """The record after coding and decoding, in the unit of `x`."""


class Codec(ABC):
    """Turns segments into tokens and back.

    To code whole traces and files (`systems/codec/stream.py`) it also tells, as attributes or properties: `sampling_rate_hz`;
    `frame`, samples of one; `margin`, samples of context that it wants on either side; `books`; `bits_per_index`, in a file.
    """

    @abstractmethod
    def encode(
        self, x: Float[Tensor, "batch channel time"], margin: int = 0, ends: Bool[Tensor, "batch 2"] | None = None
    ) -> Tokens:
        """Tokens of segments at the codec's own sampling rate, in any unit.

        `margin` samples on either side are context, not coded; `ends` tells which segments begin and which end their trace.
        """

    @abstractmethod
    def decode(self, tokens: Tokens, level: int | None = None) -> Float[Tensor, "batch channel time"]:
        """The segments back, from the first `level` books (all of them when None)."""

    @property
    @abstractmethod
    def bits_per_second(self) -> float:
        """Nominal rate of one level, in bit/s."""


class Sampler(ABC):
    """Draws new records."""

    @abstractmethod
    def sample(
        self, condition: Float[Tensor, "batch condition"] | None, n: int, generator: Generator
    ) -> Float[Tensor, "batch draw channel time"]:
        """`n` draws for each condition."""


class Translator(ABC):
    """Gives each record a counterpart: from low frequencies to broad ones, say."""

    @abstractmethod
    def translate(
        self, x: Float[Tensor, "batch channel time"], n: int, generator: Generator
    ) -> Float[Tensor, "batch draw channel time"]:
        """`n` counterparts of each record."""


class Embedder(ABC):
    """Gives each record a vector, and heads the maps to decide on.

    It may tell `sampling_rate_hz` and `samples`, the rate and length of the records it is made for.
    """

    @abstractmethod
    def embed(self, x: Float[Tensor, "batch channel time"]) -> Float[Tensor, "batch latent"]:
        """One row per record."""

    def features(self, x: Float[Tensor, "batch channel time"]) -> Float[Tensor, "batch map frame"]:
        """What a head stands on: maps along time; the vector as maps of one frame where there is no time in it."""
        return self.embed(x)[:, :, None]

    def trunk(self) -> list[nn.Module]:
        """The modules through which `features` runs: what a head may fine-tune. The rest (a decoder, say) rests under a head."""
        return [self] if isinstance(self, nn.Module) else []


@dataclass(frozen=True, kw_only=True)
class Pick:
    """An arrival in a record."""

    phase: str
    """P or S."""
    sample: float
    """From the record's first sample, at the record's rate; may lie between two samples."""
    probability: float = 1.0
    """0 to 1; 1 where the picker gives none."""
    uncertainty_s: float = float("nan")
    """Standard deviation of its time, in s, as the picker was calibrated; NaN where it was not."""


class Annotator(ABC):
    """Gives every sample of a window the probability of each phase: what a stream of any length is picked with.

    A sample's answer may depend on `margin` samples on either side of it at most, and windows begin at whole multiples of `stride`
    samples since 1970: so the same samples give the same answer, wherever a file was cut. Nothing else of the window (its mean,
    its peak) may enter.
    """

    phases: tuple[str, ...]
    """Of each row of `probabilities`: P, S."""
    sampling_rate_hz: float
    """What it works at, in Hz."""
    samples: int
    """Length of the windows it is best given, in samples, with their margins."""
    margin: int
    """Samples of context on either side that an answer may depend on."""
    stride: int
    """What the beginnings of windows are multiples of, in samples."""
    thresholds: dict[str, float]
    """Of each phase: the probability from which on a peak is a pick."""

    @abstractmethod
    def probabilities(
        self, x: Float[Tensor, "batch channel time"], valid: Bool[Tensor, "batch channel time"]
    ) -> Float[Tensor, "batch phase time"]:
        """For each sample, from records Z, N, E in any unit; `valid` is False in gaps and where a component is missing."""

    def uncertainty_s(self, phase: str, probability: float) -> float:
        """Standard deviation of the time of a pick with this probability, in s; NaN where it was not calibrated."""
        return float("nan")


class Picker(ABC):
    """Finds arrivals."""

    @abstractmethod
    def pick(self, waveform: Waveform) -> list[Pick]:
        """Every pick that it stands by, in any order; none is an answer."""


class Classifier(ABC):
    """Says what a record shows. It may tell `sampling_rate_hz`: records then come at that rate."""

    labels: tuple[str, ...]
    """The name of each column of `classify`."""

    @abstractmethod
    def classify(self, x: Float[Tensor, "batch channel time"]) -> Float[Tensor, "batch label"]:
        """The probability of each label, one row per record."""


class Disentangler(ABC):
    """Splits records of a group into what they share and what is each record's own."""

    @abstractmethod
    def codes(
        self, x: Float[Tensor, "batch channel time"], group: Int[Tensor, " batch"]
    ) -> tuple[Float[Tensor, "batch coherent"], Float[Tensor, "batch nuisance"]]:
        """The coherent code of the group that each record belongs to (equal within a group), and the record's nuisance code.

        `group` are whole numbers; groups are of any size. A system that can redatum also has `redatum(coherent, nuisance)`, which
        gives the records [batch channel time] of these codes, row by row, from whatever records the two come.
        """
