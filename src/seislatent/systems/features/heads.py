"""Application layers on an encoder's features: what a record shows, or when its waves arrive.

    x [b 3 t] --less its mean--> --encoder.features--> [b map frame] --convolution of 32 kernels?--> flat --dense 100--> h [b 100]
    h --softmax--> probability of each label          classifier, from sparse categorical cross-entropy
    h --ReLU--> sample of P, or of P and S            arrivals, from the mean absolute error

Kong et al., "Deep convolutional autoencoders as generic feature extractors in seismological applications", section 2.3, figure 1.
The encoder is any `Embedder`. Whether it learns is the recipe's matter (table 1): rates for `encoder` and `head` train both, a rate
for `head` alone is schema 1, both at 5e-5 from the weights of schema 1 is schema 2.
Ours: the mean of each component is taken out, so that counts with an offset may come in; probabilities are scaled by a temperature
(Guo et al. 2017, arXiv:1706.04599) and records far from all that the head was calibrated on are told (`surroundings.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn

from seislatent.batch import Batch
from seislatent.config import Nested
from seislatent.errors import SeislatentError
from seislatent.prepare.resample import resample
from seislatent.systems.base import Classifier, Pick, Picker, System, Turn
from seislatent.systems.features.footing import Footing, autoencoder, centred
from seislatent.systems.features.surroundings import Surroundings, fitted_temperature
from seislatent.waveform import Waveform

AT_ONCE = 256
"""Windows that go through the networks at once."""
ROWS = {"Z": 0, "N": 1, "1": 1, "E": 2, "2": 2}
"""Where each component of a record stands."""


@dataclass(frozen=True, kw_only=True)
class ClassifierConfig:
    """The paper's application layers, with a softmax."""

    encoder: Nested = field(default_factory=autoencoder)
    """What gives the features: a system, a preset with weights, or a .safetensors file."""
    labels: tuple[str, ...] = ("noise", "earthquake")
    """2 to 20 names, in the order of the numbers in the batches."""
    background: str = ""
    """The label of windows in which nothing happens, such as noise: of a record longer than the window, where no window shows
    anything else. Empty: of a longer record the loudest window speaks."""
    sampling_rate_hz: float | None = None
    """Of the records, in Hz; null: the encoder's, or 20."""
    samples: int | None = None
    """Length of a window in samples; null: the encoder's, or 27 s."""
    components: int = 3
    """Rows of a record: Z, N, E."""
    kernels: int = 32
    """Kernels of the convolution before the dense layer; 0: no convolution."""
    dense: int = 100
    """Neurons of the dense layer."""
    dropout: float = 0.0
    """Share of the dense layer's inputs that are left out in training, drawn anew each time."""
    bank: int = 1024
    """Records of the dev split that are kept, as rows of the dense layer, to tell what is unknown."""
    neighbours: int = 5
    """A record is as far off as its neighbour of this number in the bank."""
    known: float = 0.99
    """Share of the dev split's records that are not unknown: sets the distance beyond which a record is."""
    weights: dict[str, float] = field(default_factory=lambda: dict(label=1.0))
    """Weight of each loss term: `label`, the cross-entropy."""

    def __post_init__(self) -> None:
        if not 2 <= len(self.labels) <= 20 or len(set(self.labels)) < len(self.labels):
            raise SeislatentError(f"{len(self.labels)} labels ({', '.join(self.labels)}): give 2 to 20, each once")
        if self.background and self.background not in self.labels:
            raise SeislatentError(f"background '{self.background}' is none of the labels {', '.join(self.labels)}")
        if not 0 <= self.dropout < 1 or self.bank < 1 or self.neighbours < 1 or not 0 < self.known <= 1:
            raise SeislatentError("dropout must be below 1, known above 0 and at most 1, bank and neighbours 1 or more")


@dataclass(frozen=True, kw_only=True)
class ArrivalConfig:
    """The paper's application layers, with a ReLU for each phase."""

    encoder: Nested = field(default_factory=autoencoder)
    """What gives the features: a system, a preset with weights, or a .safetensors file."""
    phases: tuple[str, ...] = ("P",)
    """P, or P and S: what the columns of the condition (or the label, of one phase) are."""
    sampling_rate_hz: float | None = None
    """Of the records, in Hz; null: the encoder's, or 20."""
    samples: int | None = None
    """Length of a window in samples; null: the encoder's, or 27 s."""
    components: int = 3
    """Rows of a record: Z, N, E."""
    kernels: int = 32
    """Kernels of the convolution before the dense layer; 0: no convolution."""
    dense: int = 100
    """Neurons of the dense layer."""
    dropout: float = 0.0
    """Share of the dense layer's inputs that are left out in training, drawn anew each time."""
    weights: dict[str, float] = field(default_factory=lambda: dict(arrival=1.0))
    """Weight of each loss term: `arrival`, the absolute error in s."""

    def __post_init__(self) -> None:
        if self.phases not in (("P",), ("S",), ("P", "S")):
            raise SeislatentError(f"phases {list(self.phases)}: give [P], [S] or [P, S]")
        if not 0 <= self.dropout < 1:
            raise SeislatentError(f"dropout {self.dropout:g} must be 0 or more and below 1")


class Application(nn.Module):
    """An optional convolution, a dense layer, and one number for each answer."""

    def __init__(self, maps: int, frames: int, answers: int, kernels: int, dense: int, dropout: float):
        super().__init__()
        self.convolution = nn.Conv1d(maps, kernels, 3, padding=1) if kernels else None
        self.dropout = nn.Dropout(dropout)
        self.dense = nn.Linear((kernels or maps) * frames, dense)
        self.out = nn.Linear(dense, answers)
        for layer in (self.convolution, self.dense):  # He et al. (2015): an encoder's small features must not die out on the way
            if layer is not None:
                nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
                nn.init.zeros_(layer.bias)  # type: ignore[arg-type]

    def described(self, features: Tensor) -> Tensor:
        """Features [b map frame] as the dense layer sees them [b dense]."""
        h = features if self.convolution is None else F.relu(self.convolution(features))
        return F.relu(self.dense(self.dropout(h.flatten(1))))

    def forward(self, features: Tensor) -> Tensor:
        """[b map frame] -> [b answer]."""
        return self.out(self.described(features))


@dataclass(frozen=True, kw_only=True)
class Judgement:
    """What a classifier says of records."""

    probabilities: Float[Tensor, "batch label"]
    """Of each label, as calibrated."""
    distance: Float[Tensor, " batch"]
    """From what it was calibrated on; above 1 it is unknown. 0 where nothing was calibrated."""
    unknown: Bool[Tensor, " batch"]
    """Whether a record is farther off than `known` of the dev split's records, or has no sample that moves."""


class ClassifierHead(System, Classifier):
    """What a record shows: a probability for each label, and whether it is like anything that was calibrated on."""

    Config = ClassifierConfig
    config: ClassifierConfig
    temperature: Tensor

    def __init__(self, config: ClassifierConfig, encoder: System):
        super().__init__(config)
        self.footing = Footing(config, encoder)
        self.labels, self.components = config.labels, config.components
        self.sampling_rate_hz, self.samples = self.footing.sampling_rate_hz, self.footing.samples
        shape = (self.footing.maps, self.footing.frames)
        self.head = Application(*shape, len(config.labels), config.kernels, config.dense, config.dropout)
        self.register_buffer("temperature", torch.ones(()))
        self.surroundings = Surroundings(config.dense, config.bank, config.neighbours)

    def players(self) -> dict[str, list[nn.Module]]:
        """What the features run through, and the application layers."""
        return {"encoder": self.footing.encoder.trunk(), "head": [self.head]}

    def frozen(self) -> list[nn.Module]:
        """What of the encoder has no part in the features."""
        return self.footing.rest()

    def turns(self, batch: Batch) -> Iterator[Turn]:
        """`batch.label` are the numbers of the labels; records of -1 teach nothing."""
        scores, number = self._scored(batch)
        yield Turn("encoder", "head", label=F.cross_entropy(scores.float(), number, reduction="none"))

    def measures(self, batch: Batch) -> dict[str, Tensor]:
        """`label`, the loss; `accuracy`; and by label `recall/LABEL`."""
        scores, number = self._scored(batch)
        right = (scores.argmax(1) == number).float()
        recalls = {f"recall/{name}": right[number == i] for i, name in enumerate(self.labels)}
        loss = F.cross_entropy(scores.float(), number, reduction="none")
        return {"label": loss, "accuracy": right, **recalls}

    def calibrate(self, records: Callable[[], Iterator[Batch]]) -> dict[str, Any]:
        """Temperature, and the bank of what is known. Records count so that every label has the same weight."""
        device = next(self.head.parameters()).device
        rows, scores, numbers = [], [], []
        for batch in records():
            batch = batch.to(device)
            number = self._numbers(batch)
            h = self.head.described(self.footing(batch.x, batch.valid))[number >= 0]
            rows.append(h)
            scores.append(self.head.out(h))
            numbers.append(number[number >= 0])
        h, score, number = torch.cat(rows), torch.cat(scores), torch.cat(numbers)
        temperature, told = fitted_temperature(score, number)
        self.temperature.fill_(temperature)
        return {"records": len(number), **told, **self.surroundings.settle(h, self.config.known)}

    @torch.no_grad()
    def judge(self, x: Float[Tensor, "batch channel time"]) -> Judgement:
        """Of records at `sampling_rate_hz`, of any length and in any unit, Z first; NaN where there is no sample."""
        windows = self.footing.cut(x)
        b, w = windows.shape[:2]
        probability, distance, power = (t.unflatten(0, (b, w)) for t in self._windows(windows.flatten(0, 1)))
        still = power == 0
        if self.config.background:
            name = self.labels.index(self.config.background)
            probability[still] = F.one_hot(torch.tensor(name), len(self.labels)).to(probability)
            speaks = (probability[..., name] + still).argmin(1)
        else:
            speaks = power.argmax(1)
        chosen = torch.arange(b, device=x.device), speaks
        probability, distance = probability[chosen], distance[chosen]
        return Judgement(probabilities=probability, distance=distance, unknown=still.all(1) | (distance > 1))

    def classify(self, x: Float[Tensor, "batch channel time"]) -> Float[Tensor, "batch label"]:
        """The calibrated probability of each label, one row per record, as `judge` takes them."""
        return self.judge(x).probabilities

    def unknown(self, x: Float[Tensor, "batch channel time"]) -> Bool[Tensor, " batch"]:
        """Whether a record is unlike all that the head was calibrated on: its probabilities are then worth nothing."""
        return self.judge(x).unknown

    def _windows(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Probabilities [n label], distance [n] and power about the mean [n], of windows [n component samples]."""
        found = []
        for part in x.split(AT_ONCE):
            level = centred(part)
            h = self.head.described(self.footing.encoder.features(level))
            probability = (self.head.out(h) / self.temperature).softmax(1)
            found.append((probability, self.surroundings(h), level.double().square().mean((1, 2))))
        return tuple(torch.cat(each) for each in zip(*found, strict=True))  # type: ignore[return-value]

    def _scored(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Scores [n label] and numbers [n] of the records whose label is known."""
        number = self._numbers(batch)
        return self.head(self.footing(batch.x, batch.valid))[number >= 0], number[number >= 0]

    def _numbers(self, batch: Batch) -> Tensor:
        if batch.label is None:
            raise SeislatentError("the records have no label: give --dataset.label COLUMN and --dataset.classes")
        return batch.label.long()


class ArrivalHead(System, Picker):
    """When waves arrive: one sample number for each phase, whether or not the record holds it."""

    Config = ArrivalConfig
    config: ArrivalConfig
    spread_s: Tensor

    def __init__(self, config: ArrivalConfig, encoder: System):
        super().__init__(config)
        self.footing = Footing(config, encoder)
        self.components = config.components
        self.sampling_rate_hz, self.samples = self.footing.sampling_rate_hz, self.footing.samples
        shape = (self.footing.maps, self.footing.frames)
        self.head = Application(*shape, len(config.phases), config.kernels, config.dense, config.dropout)
        nn.init.ones_(self.head.out.bias)  # the middle of the window: a ReLU that begins below 0 would never learn
        self.register_buffer("spread_s", torch.zeros(len(config.phases)))  # 0: not calibrated

    def players(self) -> dict[str, list[nn.Module]]:
        """What the features run through, and the application layers."""
        return {"encoder": self.footing.encoder.trunk(), "head": [self.head]}

    def frozen(self) -> list[nn.Module]:
        """What of the encoder has no part in the features."""
        return self.footing.rest()

    def turns(self, batch: Batch) -> Iterator[Turn]:
        """`batch.condition` [b phase], or `batch.label` [b] of one phase: sample numbers in the window, NaN where there is none."""
        error = self._errors(batch)
        yield Turn("encoder", "head", arrival=error[error.isfinite()].abs())

    def measures(self, batch: Batch) -> dict[str, Tensor]:
        """`arrival`, the absolute error in s of all arrivals, and by phase `error_s/PHASE`."""
        error = self._errors(batch).abs()
        phases = {f"error_s/{phase}": error[:, i][error[:, i].isfinite()] for i, phase in enumerate(self.config.phases)}
        return {"arrival": error[error.isfinite()], **phases}

    def calibrate(self, records: Callable[[], Iterator[Batch]]) -> dict[str, Any]:
        """The uncertainty of each phase: 1.4826 times the median absolute error, which is a normal error's standard deviation."""
        device = next(self.head.parameters()).device
        error = torch.cat([self._errors(batch.to(device)) for batch in records()])
        self.spread_s.copy_((1.4826 * error.abs().nanmedian(0).values).nan_to_num(0.0))
        told = {phase: float(s) for phase, s in zip(self.config.phases, self.spread_s, strict=True) if s > 0}
        return {"records": len(error), "uncertainty_s": told}

    def arrivals(self, x: Float[Tensor, "batch channel time"]) -> Float[Tensor, "batch phase"]:
        """Sample numbers in windows of `samples` at `sampling_rate_hz`; shorter records are filled up.

        Raises:
            SeislatentError: records longer than the window.
        """
        if x.shape[2] > self.samples:
            raise SeislatentError(f"records of {x.shape[2]} samples: an arrival head takes windows of {self.samples} at most")
        with torch.no_grad():
            return torch.cat([self._samples(part) for part in self.footing.cut(x)[:, 0].split(AT_ONCE)])

    def pick(self, waveform: Waveform) -> list[Pick]:
        """Each phase once, in the record's first window: the head cannot tell that there is none."""
        ratio = waveform.sampling_rate_hz / self.sampling_rate_hz
        x = resample(waveform.data.astype(np.float64), waveform.sampling_rate_hz, self.sampling_rate_hz)[:, : self.samples]
        rows = np.full((3, x.shape[1]), np.nan)
        for component, row in zip(waveform.components, x, strict=True):
            if component in ROWS:
                rows[ROWS[component]] = row
        found = self.arrivals(torch.from_numpy(rows[: self.components]).to(self.spread_s.device)[None])[0]
        return [
            Pick(phase=phase, sample=float(sample) * ratio, uncertainty_s=float(spread) or float("nan"))
            for phase, sample, spread in zip(self.config.phases, found, self.spread_s, strict=True)
        ]

    def _samples(self, x: Tensor, valid: Tensor | None = None) -> Tensor:
        """[b component samples] -> sample numbers [b phase]; the layers count in halves of the window.

        While it learns, what is below 0 keeps a hundredth of its slope: a plain ReLU that one large step has thrown below 0 for
        every record would stay there.
        """
        half = self.head(self.footing(x, valid)).float()
        return (F.leaky_relu(half) if self.training else F.relu(half)) * (self.samples / 2)

    def _errors(self, batch: Batch) -> Tensor:
        """Found less given, in s [b phase]; NaN where nothing is given."""
        given = batch.condition if batch.condition is not None else None if batch.label is None else batch.label[:, None]
        if given is None or given.shape[1] != len(self.config.phases):
            raise SeislatentError(
                f"the records have no arrivals of {', '.join(self.config.phases)}: give a column for each, such as"
                " --dataset.conditions '[trace_p_arrival_sample]'"
            )
        return (self._samples(batch.x, batch.valid) - given) / self.sampling_rate_hz
