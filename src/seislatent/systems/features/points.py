"""A probability of P, of S and of neither at every sample, on the features of any encoder: heads that pick streams.

    x [b 3 t] --encoder.features--> [b map frame] --1 x 1--> [b w frame] --straight lines between frames--> [b w t]  (what it is)
    x [b 3 t] --less its mean, over its peak, convolution--> [b w t]                                                 (where it is)
    both --convolution--> P, S, neither [b 3 t] --softmax--> probabilities

One step further than Kong et al. (seed 002), whose head gives one sample number for a window that must hold P. An encoder may look
at its whole window (its peak, say), so windows begin at multiples of their own hop since 1970 and at no other place: what a sample
is told depends on the clock and on its window alone, wherever a file was cut.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn

from seislatent.batch import Batch
from seislatent.config import Nested
from seislatent.errors import SeislatentError
from seislatent.systems.base import Annotator, Pick, Picker, System, Turn
from seislatent.systems.features.arrivals import picked
from seislatent.systems.features.footing import Footing, autoencoder, centred
from seislatent.systems.features.hits import Hits, best_threshold, hits, spread
from seislatent.waveform import Waveform

KNOTS = 9
"""Probabilities at which the uncertainty of a time is kept: 0.1 to 0.9."""


@dataclass(frozen=True, kw_only=True)
class PointConfig:
    """What stands on the encoder, and how it learns."""

    encoder: Nested = field(default_factory=autoencoder)
    """What gives the features: a system, a preset with weights, or a .safetensors file."""
    sampling_rate_hz: float | None = None
    """Of the records, in Hz; null: the encoder's, or 20."""
    samples: int | None = None
    """Length of a window in samples; null: the encoder's, or 27 s."""
    components: int = 3
    """Rows of a record: Z, N, E."""
    edge: float = 0.25
    """Share of a window at either end whose answers do not count in streams: neighbouring windows overlap by twice as much."""
    width: int = 32
    """Maps of what comes from the encoder, and of what comes from the samples."""
    kernel: int = 9
    """Length of the convolutions over samples; an odd number."""
    bell_s: float = 0.2
    """Standard deviation of the bell that a label is, in s."""
    near: float = 4.0
    """Samples near an arrival weigh up to so much more than those far from any."""
    weights: dict[str, float] = field(default_factory=lambda: {"phases": 1.0})
    """Of the one loss term, the cross-entropy."""

    def __post_init__(self) -> None:
        if self.kernel % 2 == 0 or not 0 <= self.edge < 0.5 or self.bell_s <= 0 or self.width < 1:
            raise SeislatentError("a point head needs an odd kernel, edge from 0 to below 0.5, bell_s above 0 and width from 1 up")


class Points(nn.Module):
    """From features and samples to scores."""

    def __init__(self, maps: int, components: int, width: int, kernel: int):
        super().__init__()
        self.what = nn.Conv1d(maps, width, 1)
        self.where = nn.Conv1d(components, width, kernel, padding=kernel // 2)
        self.both = nn.Conv1d(2 * width, width, kernel, padding=kernel // 2)
        self.out = nn.Conv1d(width, 3, 1)
        for layer in (self.what, self.where, self.both):
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
            nn.init.zeros_(layer.bias)  # type: ignore[arg-type]
        nn.init.normal_(self.out.weight, std=0.01)
        with torch.no_grad():
            self.out.bias.copy_(torch.tensor([0.0, 0.0, 4.0]))  # type: ignore[union-attr]  # neither is what most samples are

    def forward(self, features: Tensor, x: Tensor) -> Tensor:
        """[b map frame], [b component t] -> [b 3 t]."""
        what = F.interpolate(F.relu(self.what(features)), size=x.shape[2], mode="linear", align_corners=False)
        scaled = x / x.abs().amax((1, 2), keepdim=True).clamp_min(torch.finfo(x.dtype).tiny)
        return self.out(F.relu(self.both(torch.cat([what, F.relu(self.where(scaled))], 1))))


class PointHead(System, Annotator, Picker):
    """P and S of streams, on any encoder."""

    Config = PointConfig
    config: PointConfig
    phases = ("P", "S")
    least: Tensor
    times: Tensor

    def __init__(self, config: PointConfig, encoder: System):
        super().__init__(config)
        self.footing = Footing(config, encoder)
        self.components, self.sampling_rate_hz, self.samples = (
            config.components,
            self.footing.sampling_rate_hz,
            self.footing.samples,
        )
        self.margin = int(config.edge * self.samples)
        self.stride = self.samples - 2 * self.margin
        self.head = Points(self.footing.maps, config.components, config.width, config.kernel)
        self.register_buffer("least", torch.full((2,), 0.3))
        self.register_buffer("times", torch.zeros(2, KNOTS))

    @property
    def thresholds(self) -> dict[str, float]:  # type: ignore[override]
        """See `Annotator`; 0.3 where it was not calibrated."""
        return dict(zip(self.phases, self.least.tolist(), strict=True))

    def players(self) -> dict[str, list[nn.Module]]:
        """What the features run through, and the head."""
        return {"encoder": self.footing.encoder.trunk(), "head": [self.head]}

    def frozen(self) -> list[nn.Module]:
        """What of the encoder has no part in the features."""
        return self.footing.rest()

    def scores(self, x: Tensor, valid: Tensor | None) -> Float[Tensor, "batch phase time"]:
        """P, S and neither before the softmax. Raises SeislatentError for windows of another length."""
        if x.shape[1:] != (self.components, self.samples):
            raise SeislatentError(f"windows of shape {tuple(x.shape)}: give [batch, {self.components}, {self.samples}]")
        level = centred(x, valid)
        return self.head(self.footing.encoder.features(level), level).float()

    def probabilities(
        self, x: Float[Tensor, "batch channel time"], valid: Bool[Tensor, "batch channel time"]
    ) -> Float[Tensor, "batch phase time"]:
        """See `Annotator`; of windows of `samples`."""
        return self.scores(x, valid).softmax(1)[:, :2]

    def uncertainty_s(self, phase: str, probability: float) -> float:
        """See `Annotator`: straight lines between the knots."""
        known = self.times[self.phases.index(phase)]
        if not bool((known > 0).all()):
            return float("nan")
        at = min(max(probability * (KNOTS + 1) - 1, 0.0), KNOTS - 1.0)
        low = min(int(at), KNOTS - 2)
        return float(known[low] + (known[low + 1] - known[low]) * (at - low))

    def pick(self, waveform: Waveform) -> list[Pick]:
        """Picks of a waveform of any length and rate."""
        return picked(self, waveform)

    def turns(self, batch: Batch) -> Iterator[Turn]:
        """`batch.condition` [b mark] are samples of P, S, P, S, ... in the window, NaN where there is none.

        `mask` [b phase t], where given, tells where it is known whether the phase is there; elsewhere nothing is learnt.
        """
        yield Turn("encoder", "head", phases=self.cross_entropy(batch))

    def cross_entropy(self, batch: Batch) -> Float[Tensor, "batch time"]:
        """Of each sample; what stands near an arrival weighs more."""
        if batch.condition is None or batch.condition.shape[1] % 2:
            raise SeislatentError(
                "a point head learns from samples of P and S: give both columns, P before S, with --dataset.conditions"
            )
        wanted = self.bells(batch.condition)
        share = torch.cat([wanted, (1 - wanted.sum(1, keepdim=True)).clamp_min(0)], 1)
        entropy = -(share * self.scores(batch.x, batch.valid).log_softmax(1)).sum(1)
        known = torch.ones_like(entropy, dtype=torch.bool) if batch.valid is None else batch.valid.any(1)
        known = known if batch.mask is None else known & batch.mask.all(1)
        return entropy * (1 + self.config.near * wanted.sum(1)) * known

    def bells(self, marks: Float[Tensor, "batch mark"]) -> Float[Tensor, "batch phase time"]:
        """What P and S ought to be: bells of height 1 around the marks, sharing where they meet."""
        off = (torch.arange(self.samples, device=marks.device) - marks[..., None]) / (self.config.bell_s * self.sampling_rate_hz)
        bell = torch.where(off.abs() < 3, torch.exp(-0.5 * off.square()), 0.0).nan_to_num(0.0)
        both = torch.stack([bell[:, 0::2].amax(1), bell[:, 1::2].amax(1)], 1)
        return both / both.sum(1, keepdim=True).clamp_min(1)

    def measures(self, batch: Batch) -> dict[str, Tensor]:
        """The loss per record; recall and precision of each phase, found within 0.5 s above the threshold."""
        told: dict[str, Tensor] = {"phases": self.cross_entropy(batch).mean(1)}
        for phase, seen in hits(self, batch).items():
            above = seen.probability >= self.thresholds[phase]
            told |= {f"recall_{phase}": (seen.right & above)[seen.there].float(), f"precision_{phase}": seen.right[above].float()}
        return told

    def calibrate(self, records: Callable[[], Iterator[Batch]]) -> dict[str, Any]:
        """The thresholds of the best F1, and the spread of times by probability."""
        device, seen = next(self.head.parameters()).device, {phase: list[Hits]() for phase in self.phases}
        for batch in records():
            for phase, each in hits(self, batch.to(device)).items():
                seen[phase].append(each)
        told: dict[str, Any] = {}
        for row, phase in enumerate(self.phases):
            whole = Hits.joined(seen[phase])
            self.least[row], f1 = best_threshold(whole)
            self.times[row] = spread(whole, KNOTS)
            told[phase] = {"threshold": float(self.least[row]), "f1": f1, "uncertainty_s": self.times[row].tolist()}
        return told
