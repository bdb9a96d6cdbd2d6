"""A picker of P and S on streams: what ships in the package.

    x [b Z,N,E t], valid --high passes, over the local level, asinh--> [b 7 t] --convolutions, strides 4, 4, 4--> [b 128 t/64]
    --dilated convolutions--> [b 128 t/64] --three steps up, each plus what stood there on the way down--> P, S, noise [b 3 t]

The form of the network is that of Ronneberger et al. (2015), as in PhaseNet (Zhu and Beroza 2019, doi:10.1093/gji/ggy423), and so
are the three classes and their bell-shaped labels. Ours: no statistic of the whole window enters. What an input is divided by is
the geometric mean of its own amplitudes within some seconds, so that a sample's answer depends on `margin` samples on either side
and on nothing else: not on where a file was cut, not on the window's length, not on the peak of a later arrival.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn

from seislatent.batch import Batch
from seislatent.errors import SeislatentError
from seislatent.systems.base import Annotator, Pick, Picker, System, Turn
from seislatent.systems.features.arrivals import picked
from seislatent.systems.features.hits import Hits, best_threshold, hits, spread
from seislatent.waveform import Waveform

BLOCK, FRAME = 8, 64
"""Samples over which means for the high passes, and for the level, are taken first."""
FLOOR = 2e-6
"""Least level as a share of the mean absolute sample nearby: float32 holds no fainter motion beside a large offset."""
KNOTS = 9
"""Probabilities at which the uncertainty of a time is kept: 0.1 to 0.9."""


@dataclass(frozen=True, kw_only=True)
class PhasePickerConfig:
    """Size of the network, and how it learns."""

    sampling_rate_hz: float = 100.0
    """At which the network works, in Hz; streams are resampled to it."""
    widths: tuple[int, int, int, int] = (16, 32, 64, 128)
    """Maps at the full rate and after each stride of 4."""
    kernel: int = 7
    """Length of the convolutions, in samples of their rate."""
    dilations: tuple[int, ...] = (1, 2, 4, 8)
    """Of the convolutions of length 5 at the lowest rate; each stands beside the identity."""
    highpass_s: tuple[float, float] = (2.0, 0.25)
    """Lengths of the two moving means that are taken off one after the other, in s; what each leaves is an input."""
    level_s: float = 12.8
    """Each component is divided by its geometric mean amplitude within so many s on either side."""
    samples: int = 16384
    """Window of a stream, with its margins: more costs memory, less costs time."""
    bell_s: float = 0.1
    """Standard deviation of the bell that a label is, in s."""
    near: float = 4.0
    """Samples near an arrival weigh up to so much more than those far from any."""
    weights: dict[str, float] = field(default_factory=lambda: {"phases": 1.0})
    """Of the one loss term, the cross-entropy."""


class PhasePicker(System, Annotator, Picker):
    """P and S of streams."""

    Config = PhasePickerConfig
    config: PhasePickerConfig
    phases = ("P", "S")
    stride = FRAME

    def __init__(self, config: PhasePickerConfig):
        super().__init__(config)
        if config.kernel % 2 == 0 or min(config.highpass_s) * config.sampling_rate_hz < 2 * BLOCK or config.level_s <= 0:
            raise SeislatentError(
                f"a kernel of {config.kernel}, high passes of {config.highpass_s} s, a level of {config.level_s} s: give an odd"
                f" kernel, {2 * BLOCK / config.sampling_rate_hz:g} s or more, and more than 0 s"
            )
        a, b, c, d = config.widths
        k = config.kernel
        self.first = _conv(7, a, k)
        self.down = nn.ModuleList(_conv(i, o, k, stride=4) for i, o in ((a, b), (b, c), (c, d)))
        self.there = nn.ModuleList(_conv(i, i, k) for i in (b, c))
        self.wide = nn.ModuleList(_conv(d, d, 5, dilation=n) for n in config.dilations)
        self.up = nn.ModuleList(_conv(i, o, 1) for i, o in ((d, c), (c, b), (b, a)))
        self.back = nn.ModuleList(_conv(i, i, k) for i in (c, b, a))
        self.last = nn.Conv1d(a, 3, 1)
        nn.init.normal_(self.last.weight, std=0.01)
        self.last.bias = nn.Parameter(torch.tensor([0.0, 0.0, 4.0]))  # noise is what most samples are
        self.register_buffer("least", torch.full((2,), 0.3))
        self.register_buffer("times", torch.zeros(2, KNOTS))
        self.least: Tensor
        self.times: Tensor

    @property
    def sampling_rate_hz(self) -> float:  # type: ignore[override]
        """See `Annotator`."""
        return self.config.sampling_rate_hz

    @property
    def samples(self) -> int:  # type: ignore[override]
        """See `Annotator`."""
        return self.config.samples

    @property
    def margin(self) -> int:  # type: ignore[override]
        """See `Annotator`: of the high passes, the level and the convolutions, one after the other."""
        c = self.config
        half = c.kernel // 2
        convolutions = half * (1 + 2 * (1 + 4 + 16)) + half * (4 + 16) + 2 * FRAME * sum(c.dilations) + FRAME
        means = sum((self._blocks(s) // 2 + 2) * BLOCK for s in c.highpass_s)
        level = (self._frames + 2) * FRAME
        return math.ceil((convolutions + means + level) / FRAME) * FRAME

    @property
    def thresholds(self) -> dict[str, float]:  # type: ignore[override]
        """See `Annotator`; 0.3 where it was not calibrated."""
        return dict(zip(self.phases, self.least.tolist(), strict=True))

    def _blocks(self, seconds: float) -> int:
        """Blocks of a moving mean, an odd number."""
        return round(seconds * self.config.sampling_rate_hz / BLOCK / 2) * 2 + 1

    @property
    def _frames(self) -> int:
        """Frames of the level on either side."""
        return max(1, round(self.config.level_s * self.config.sampling_rate_hz / FRAME))

    # -- verbs --------------------------------------------------------------------------------------------------------------------

    def probabilities(
        self, x: Float[Tensor, "batch channel time"], valid: Bool[Tensor, "batch channel time"]
    ) -> Float[Tensor, "batch phase time"]:
        """See `Annotator`; any number of samples."""
        return self.logits(x, valid).softmax(1)[:, :2]

    def uncertainty_s(self, phase: str, probability: float) -> float:
        """See `Annotator`: between the probabilities at which it was measured, a straight line."""
        known = self.times[self.phases.index(phase)]
        if not bool((known > 0).all()):
            return float("nan")
        at = min(max(probability * (KNOTS + 1) - 1, 0.0), KNOTS - 1.0)
        low = min(int(at), KNOTS - 2)
        return float(known[low] + (known[low + 1] - known[low]) * (at - low))

    def pick(self, waveform: Waveform) -> list[Pick]:
        """Picks of a waveform of any length and rate."""
        return picked(self, waveform)

    # -- the network --------------------------------------------------------------------------------------------------------------

    def logits(
        self, x: Float[Tensor, "batch channel time"], valid: Bool[Tensor, "batch channel time"]
    ) -> Float[Tensor, "batch phase time"]:
        """P, S and noise before the softmax."""
        n = x.shape[-1]
        fill = -n % FRAME
        if fill:
            x, valid = F.pad(x, (0, fill)), F.pad(valid, (0, fill))
        y = self.first(self.inputs(x, valid))
        kept = [y]
        for i, step in enumerate(self.down):
            y = step(y)
            if i < 2:
                y = y + self.there[i](y)
                kept.append(y)
        for each in self.wide:
            y = y + each(y)
        for narrow, each in zip(self.up, self.back, strict=True):
            y = narrow(y).repeat_interleave(4, -1) + kept.pop()
            y = y + each(y)
        return self.last(y)[..., :n]

    def inputs(
        self, x: Float[Tensor, "batch channel time"], valid: Bool[Tensor, "batch channel time"]
    ) -> Float[Tensor, "batch map time"]:
        """Two bands of each component over their local level, as asinh, and the share of components that are there.

        A whole number of frames. Samples that are not valid, or not finite, are 0 in every band.
        """
        valid = valid & torch.isfinite(x)
        mask = valid.to(x.dtype)
        x = torch.where(valid, x, 0.0)
        given = F.avg_pool1d(mask, BLOCK)
        still = self._around(F.avg_pool1d(x.abs(), FRAME), F.avg_pool1d(mask, FRAME))
        found = []
        y = x
        for seconds in self.config.highpass_s:
            k = self._blocks(seconds)
            mean = _moving(F.avg_pool1d(y, BLOCK), k) / _moving(given, k).clamp_min(0.5 / BLOCK / k)
            y = (y - _finer(mean, BLOCK)) * mask
            found.append(torch.asinh(3 * y / self._level(y, mask, still)))
        return torch.cat([*found, mask.mean(1, keepdim=True)], 1)

    def _around(self, total: Tensor, given: Tensor) -> Tensor:
        """Mean over frames on either side of what was summed over those samples that are given."""
        k = 2 * self._frames + 1
        return _moving(total, k) / _moving(given, k).clamp_min(0.5 / FRAME / k)

    def _level(self, y: Tensor, mask: Tensor, still: Tensor) -> Tensor:
        """Geometric mean of the frames' mean amplitudes, those without any left out; never 0."""
        given = F.avg_pool1d(mask, FRAME)
        mean = F.avg_pool1d(y.abs(), FRAME) / given.clamp_min(0.5 / FRAME)
        heard = ((mean > FLOOR * still) & (given > 0.25)).to(y.dtype)
        tiny = torch.finfo(y.dtype).tiny
        log = self._around(mean.clamp_min(tiny).log() * heard, heard)
        some = _moving(heard, 2 * self._frames + 1) > 0
        level = torch.where(some, log.exp(), 1.0)
        return _finer(torch.maximum(level, FLOOR * still).clamp_min(tiny), FRAME)

    # -- learning -----------------------------------------------------------------------------------------------------------------

    def turns(self, batch: Batch) -> Iterator[Turn]:
        """One step on records whose `condition` [batch mark] are samples of P, S, P, S, ... in the window, NaN where there is none.

        `mask` [batch phase time], where given, tells where it is known whether the phase is there.
        """
        yield Turn("model", phases=self.cross_entropy(batch))

    def cross_entropy(self, batch: Batch) -> Float[Tensor, "batch time"]:
        """Of each sample; what stands near an arrival weighs more."""
        if batch.condition is None or batch.condition.shape[1] % 2:
            raise SeislatentError("a picker learns from samples of P and S: name both columns, P before S, in data.conditions")
        valid = torch.ones_like(batch.x, dtype=torch.bool) if batch.valid is None else batch.valid
        wanted, known = self.bells(batch.condition, valid), valid.any(1)
        log = self.logits(batch.x, valid).float().log_softmax(1)
        share = torch.cat([wanted, (1 - wanted.sum(1, keepdim=True)).clamp_min(0)], 1)
        entropy = -(share * log).sum(1)
        if batch.mask is not None:  # of a phase that may or may not be there, the part that is known: the other against the rest
            for mine, other in ((0, 1), (1, 0)):
                rest = torch.logaddexp(log[:, other], log[:, 2])
                alone = -(wanted[:, mine] * log[:, mine] + (1 - wanted[:, mine]) * rest)
                entropy = torch.where(batch.mask[:, mine] & ~batch.mask[:, other], alone, entropy)
            known = known & batch.mask.any(1)
        return entropy * (1 + self.config.near * wanted.sum(1)) * known

    def bells(self, marks: Float[Tensor, "batch mark"], valid: Bool[Tensor, "batch channel time"]) -> Tensor:
        """What P and S ought to be [batch phase time]: bells of height 1 around the marks, the nearer of two where they meet."""
        width = self.config.bell_s * self.config.sampling_rate_hz
        time = torch.arange(valid.shape[-1], device=valid.device)
        off = (time - marks[..., None]) / width  # batch mark time
        bell = torch.where(off.abs() < 3, torch.exp(-0.5 * off.square()), 0.0).nan_to_num(0.0)
        both = torch.stack([bell[:, 0::2].amax(1), bell[:, 1::2].amax(1)], 1)
        return both / both.sum(1, keepdim=True).clamp_min(1)

    def measures(self, batch: Batch) -> dict[str, Tensor]:
        """The loss per record; of each P and S that is there whether it is found (within 0.5 s, above the threshold): recall; of
        each pick whether it is right: precision.
        """
        told: dict[str, Tensor] = {"phases": self.cross_entropy(batch).mean(1)}
        for phase, seen in hits(self, batch).items():
            picked = seen.probability >= self.thresholds[phase]
            told |= {f"recall_{phase}": (seen.right & picked)[seen.there].float(), f"precision_{phase}": seen.right[picked].float()}
        return told

    def calibrate(self, records: Callable[[], Iterator[Batch]]) -> dict[str, Any]:
        """The thresholds of the best F1, and the spread of times by probability, on records held out from learning."""
        seen: dict[str, list[Hits]] = {phase: [] for phase in self.phases}
        for batch in records():
            for phase, each in hits(self, batch).items():
                seen[phase].append(each)
        told: dict[str, Any] = {}
        for row, phase in enumerate(self.phases):
            whole = Hits.joined(seen[phase])
            self.least[row], f1 = best_threshold(whole)
            self.times[row] = spread(whole, KNOTS)
            told[phase] = {"threshold": float(self.least[row]), "f1": f1, "uncertainty_s": self.times[row].tolist()}
        return told


def _conv(inputs: int, outputs: int, kernel: int, stride: int = 1, dilation: int = 1) -> nn.Sequential:
    """A convolution that keeps the places of samples, and a rectifier."""
    return nn.Sequential(
        nn.Conv1d(inputs, outputs, kernel, stride, padding=kernel // 2 * dilation, dilation=dilation), nn.ReLU(inplace=True)
    )


def _moving(x: Tensor, k: int) -> Tensor:
    """Mean over k places, an odd number, with zeros beyond both ends."""
    return F.avg_pool1d(x, k, 1, k // 2)


def _finer(x: Tensor, factor: int) -> Tensor:
    """Straight lines between the middles of blocks."""
    return F.interpolate(x, scale_factor=float(factor), mode="linear", align_corners=False)
