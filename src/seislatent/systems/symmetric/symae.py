"""SymAE: what all records of a group agree on, and what each adds, in two codes that can be swapped.

    w [b c n] --standard--> zero mean, unit variance --Localiser--> shift tau --moved--> x, aligned
    x --CoherentEncoder--> Evidence per record --Accumulated, sums over `group`--> Q(s | X_j) [group coherent]
    x --NuisanceEncoder--> Q(p | x) [b nuisance frame]
    s* ~ Q(s | X_j), p* ~ Q(p | x) --Decoder--> f[s, p] --moved back, standard--> y [b c n]

    loss = waveform + coherent + nuisance + gamma tau^2     (equation 22, each record's share; nats, but for the last)

Bharadwaj (seed 003): evidence lower bound equation 14, encoders 15 to 18, informativeness 19 and 20, shifts 22. In equation 22 the
bound is to be maximised, so that gamma tau^2 must be taken off, not added: here it is a loss, and is added. `shift_s` 0 is the
standard SymAE without shifts.

Ours, where the paper is silent or the synthetic truth taught otherwise (docs/systems/symae.md has the figures):

- The prior is one expert of the product (accumulation.py says why).
- The likelihood's mean is a y, its variance v, both the record's own and at their most likely values: records are normalised, so
  that neither amplitude nor level of noise is information, and none of it need be coded. With r the correlation of y and x, that
  is v = 1 - r^2, and never below `least_deviation`^2. A negative r counts as worse than none: polarity is information.
- A record of n samples holds fewer independent numbers than n: `independent_per_s` counts what the likelihood rests on. With
  `least_deviation` it is the dial between the terms: too many, or too small, and noise is coded as path; else the path is lost.
- Shared information is to go through the coherent code. Three things see to it. In the bound, what k records share costs its nats
  once in s, but k times in p: groups should be large. In the first `coherent_first` steps, and for a share `nuisance_dropout` of
  the records ever after, the nuisance code is left out, and what the group has in common must do alone. And the decoder's two
  codes meet in a filter (`filter_s`): one code's series in time passes through the other's, so that a nuisance code means the
  same beside every coherent one. With `filter_s` 0 the codes are joined at the decoder's
  entrance, as in the paper.
- A group as a whole may be moved, its filter the other way, and nothing changes but gamma tau^2. So tau has two parts: how late the
  group's coherent code makes its records (`origin`, which belongs to that code), and how late each is beside its group, which is
  the nuisance's; gamma holds the second to a mean of 0. Without that a redatumed record would stand at the wrong time.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from seislatent.batch import Batch
from seislatent.errors import SeislatentError
from seislatent.losses.gaussian import Gaussian, kl_to_standard
from seislatent.nn.processes import full
from seislatent.systems.base import Disentangler, Embedder, System, Turn
from seislatent.systems.symmetric import accumulation
from seislatent.systems.symmetric.accumulation import Accumulated, Evidence
from seislatent.systems.symmetric.networks import CoherentEncoder, Decoder, Frame, Localiser, NuisanceEncoder, moved

PIECE = 256
"""Records that verbs hold in networks at once."""


@dataclass(frozen=True, kw_only=True)
class SymAEConfig:
    """SymAE with shifts, for records as of the synthetic experiment."""

    sampling_rate_hz: float = 10.0
    """Rate of the records, in Hz."""
    samples: int = 512
    """Length of the records, in samples."""
    components: int = 1
    """Rows of a record."""
    coherent: int = 8
    """Numbers of the coherent code."""
    nuisance: int = 4
    """Numbers of the nuisance code per frame of 2^halvings samples; what is not needed is left empty by the prior."""
    halvings: int = 4
    """How often the encoders halve the time."""
    width: int = 32
    """Maps of the networks."""
    shift_s: float = 5.0
    """Greatest shift, in s, either way; 0: the standard SymAE, without shifts."""
    filter_s: float = 25.6
    """Length of the filter that the coherent code makes, in s, half of it before time 0; 0: codes are joined instead."""
    independent_per_s: float = 1.6
    """Independent numbers that a component of a record holds per second: about twice its bandwidth in Hz."""
    least_deviation: float = 0.1
    """Standard deviation of the noise in a record of deviation 1: what the decoder leaves unexplained below it is not worth a code.
    0.1 for records without noise; 10^(-dB / 20) of signal to noise and a little less for others: 0.3 at 10 dB, 0.57 at 3 dB."""
    coherent_first: int = 200
    """Steps in which the nuisance code is left out."""
    ramp_steps: int = 300
    """Steps after that in which the weight of the nuisance's divergence rises to its own."""
    nuisance_dropout: float = 0.1
    """Share of the records whose nuisance code is left out ever after."""
    weights: dict[str, float] = field(default_factory=lambda: {"waveform": 1.0, "coherent": 1.0, "nuisance": 1.0, "shift": 0.05})
    """Weight of each loss term: `waveform`, `coherent` and `nuisance` are the bound's; `shift` is gamma, in 1/s^2."""


class SymAE(System, Disentangler, Embedder):
    """Two encoders, a decoder, and shifts."""

    Config = SymAEConfig
    config: SymAEConfig

    def __init__(self, config: SymAEConfig):
        super().__init__(config)
        c = config
        if min(c.samples, c.components, c.coherent, c.nuisance, c.halvings, c.width) < 1 or min(c.shift_s, c.filter_s) < 0:
            raise SeislatentError("symmetric/symae: sizes must be 1 or more, shift_s and filter_s 0 or more")
        self.sampling_rate_hz, self.samples = c.sampling_rate_hz, c.samples
        margin = int(-(-c.shift_s * c.sampling_rate_hz // 1))
        self.frame = Frame(c.samples, margin + margin % 2, 2**c.halvings)
        self.frames = self.frame.size // 2**c.halvings
        self.independent = c.independent_per_s * c.components * c.samples / c.sampling_rate_hz
        self.localiser = Localiser(c.components, max(8, c.width // 4), self.frame) if margin else None
        self.origin = nn.Sequential(nn.Linear(c.coherent, c.width), nn.GELU(), nn.Linear(c.width, 1)) if margin else None
        self.coherent_encoder = CoherentEncoder(c.components, c.width, c.halvings, self.frames, c.coherent)
        self.nuisance_encoder = NuisanceEncoder(c.components, c.width, c.halvings, c.nuisance)
        taps = round(c.filter_s * c.sampling_rate_hz)
        self.decoder = Decoder(c.components, c.width, c.halvings, self.frames, c.coherent, c.nuisance, taps)

    def standard(
        self, x: Float[Tensor, "batch channel time"], valid: Bool[Tensor, "batch channel time"] | None = None
    ) -> Float[Tensor, "batch channel time"]:
        """Zero mean per component and unit variance per record, over what is valid; the rest, and what is silent, is 0.

        Raises:
            SeislatentError: records of another length or number of components than the system's.
        """
        if x.ndim != 3 or x.shape[1:] != (self.config.components, self.samples):
            want = f"{self.config.components} components of {self.samples} samples at {self.sampling_rate_hz:g} Hz"
            raise SeislatentError(f"records of shape {[*x.shape[1:]]}: this system takes {want}; cut and resample them first")
        return standardised(x, valid)

    def aligned(
        self, x: Float[Tensor, "batch channel time"]
    ) -> tuple[Float[Tensor, "batch channel frame"], Float[Tensor, " batch"]]:
        """Standard records in their frames, moved so that they lie alike, and by how many samples each was late."""
        wide = self.frame.wide(x)
        if self.localiser is None:
            return wide, x.new_zeros(len(x))
        late = -full(self.localiser(wide))
        return moved(wide, -late), late

    def evidence(self, aligned: Float[Tensor, "batch channel frame"]) -> Evidence:
        """What each aligned record says of the coherent code; a silent one says nothing."""
        told = self.coherent_encoder(aligned)
        alive = aligned.flatten(1).any(1)[:, None]
        return Evidence(mean=told.mean, precision=told.precision * alive)

    def decoded(
        self,
        s: Float[Tensor, "group coherent"],
        p: Float[Tensor, "batch nuisance frame"],
        late: Float[Tensor, " batch"],
        group: Int[Tensor, " batch"],
        valid: Bool[Tensor, "batch channel time"] | None = None,
    ) -> Float[Tensor, "batch channel time"]:
        """The records of these codes, zero mean and unit variance."""
        made = self.decoder(s, p, group)
        made = moved(made, late) if self.localiser is not None else full(made)
        return standardised(self.frame.narrow(made), valid)

    def late_s(self, s: Float[Tensor, "batch coherent"]) -> Float[Tensor, " batch"]:
        """How late, in s, the coherent code itself makes a record stand; 0 without shifts."""
        return s.new_zeros(len(s)) if self.origin is None else full(self.origin(s)[:, 0])

    def turns(self, batch: Batch) -> Iterator[Turn]:
        """`batch.x` [b c n] in any unit; `batch.group`, without which each record is a group of one."""
        x = self.standard(batch.x, batch.valid)
        group = torch.arange(len(x), device=x.device) if batch.group is None else batch.group
        groups = int(group.max()) + 1
        aligned, late = self.aligned(x)
        source = Accumulated.of(self.evidence(aligned), group, groups).posterior()
        path = self.nuisance_encoder(aligned)
        step = int(batch.step) if self.training and batch.step is not None else None
        dropped, ramp = self.config.nuisance_dropout if self.training else 0.0, 1.0
        if step is not None:
            after = step - self.config.coherent_first
            dropped, ramp = (1.0 if after < 0 else dropped), min(1.0, max(after, 0) / max(self.config.ramp_steps, 1))
        kept = (torch.rand(len(x), dtype=x.dtype, device=x.device) >= dropped).to(x)
        y = self.decoded(drawn(source).to(x), drawn(path) * kept[:, None, None], late, group, batch.valid)
        alive = x.flatten(1).any(1)
        size = torch.bincount(group, minlength=groups)
        yield Turn(
            "model",
            waveform=self.misfit(correlation(x, y)) * alive,
            coherent=(kl_to_standard(*source) / size)[group].to(x),
            nuisance=kl_to_standard(*path) * kept * alive * ramp,
            shift=(late / self.sampling_rate_hz - self.late_s(source.mean.to(x))[group]).square() * alive,
        )

    def misfit(self, r: Float[Tensor, " batch"]) -> Float[Tensor, " batch"]:
        """-log P(x | s, p) in nats but for a constant, from the correlation of x and y: amplitude and variance are fitted."""
        left = 1 - r * r.abs()
        variance = left.clamp_min(self.config.least_deviation**2)
        return self.independent / 2 * (variance.log() + left / variance)

    def measures(self, batch: Batch) -> dict[str, Tensor]:
        """The terms of the loss, and `correlation` of each record with what its codes' means give."""
        told = super().measures(batch)
        x = self.standard(batch.x, batch.valid)
        group = torch.arange(len(x), device=x.device) if batch.group is None else batch.group
        y = self.redatum(*self.codes(batch.x, group))
        return told | {"correlation": correlation(x, standardised(y, batch.valid))}

    @torch.no_grad()
    def accumulate(
        self, x: Float[Tensor, "record channel time"], group: Int[Tensor, " record"], groups: int | None = None
    ) -> Accumulated:
        """What records tell about the coherent codes of groups 0 to `groups` - 1, in pieces of 256: any number of records.

        Sets that do not fit in memory: `accumulate(first, ...) + accumulate(second, ...)`, with the same `groups`.
        """
        count = int(group.max()) + 1 if groups is None and len(group) else groups or 0
        out = Accumulated.none(count, self.config.coherent, x.device)
        for part, its in zip(x.split(PIECE), group.split(PIECE), strict=True):
            out = out + Accumulated.of(self.evidence(self.aligned(self.standard(part))[0]), its, count)
        return out

    def nuisance(
        self, x: Float[Tensor, "batch channel time"], coherent: Float[Tensor, "batch coherent"] | None = None
    ) -> Float[Tensor, "batch nuisance"]:
        """Each record's own code: means of Q(p | x) in a row, and last, where there are shifts, by how many seconds it is late.

        Late beside others of its coherent code: that of its group, or where none is given, what the record alone tells of it.
        """
        aligned, late = self.aligned(self.standard(x))
        code = full(self.nuisance_encoder(aligned).mean).flatten(1)
        if self.localiser is None:
            return code
        s = accumulation.alone(self.evidence(aligned)).mean if coherent is None else coherent
        return torch.cat([code, (late / self.sampling_rate_hz - self.late_s(s.to(x)))[:, None]], 1)

    def codes(
        self, x: Float[Tensor, "batch channel time"], group: Int[Tensor, " batch"]
    ) -> tuple[Float[Tensor, "batch coherent"], Float[Tensor, "batch nuisance"]]:
        """The mean of Q(s | X_j) of each record's group, and `nuisance` beside it."""
        names, where = group.unique(return_inverse=True)
        shared = self.accumulate(x, where, len(names)).posterior().mean[where].to(x)
        parts = zip(x.split(PIECE), shared.split(PIECE), strict=True)
        return shared, torch.cat([self.nuisance(part, its) for part, its in parts])

    def shifts_s(self, x: Float[Tensor, "batch channel time"], group: Int[Tensor, " batch"]) -> Float[Tensor, " batch"]:
        """By how many seconds each record comes later than its group does on average (-tau of equation 22); 0 without shifts."""
        return x.new_zeros(len(x)) if self.localiser is None else self.codes(x, group)[1][:, -1]

    def redatum(
        self, coherent: Float[Tensor, "batch coherent"], nuisance: Float[Tensor, "batch nuisance"]
    ) -> Float[Tensor, "batch channel time"]:
        """Records of zero mean and unit variance with these codes, row by row, from whatever records the two come."""
        shape = (self.config.nuisance, self.frames)
        numbers = shape[0] * shape[1] + (self.localiser is not None)
        if len(coherent) != len(nuisance) or coherent.shape[1:] != (self.config.coherent,) or nuisance.shape[1:] != (numbers,):
            told = f"{[*coherent.shape]} and {[*nuisance.shape]}"
            raise SeislatentError(f"codes of shapes {told}: give [batch {self.config.coherent}] and [batch {numbers}]")
        its = next(self.parameters())
        s, own = coherent.to(its), nuisance.to(its)
        late = own.new_zeros(len(own)) if self.localiser is None else (own[:, -1] + self.late_s(s)) * self.sampling_rate_hz
        p = own[:, : shape[0] * shape[1]].unflatten(1, shape)
        each = torch.arange(PIECE, device=s.device)
        parts = zip(s.split(PIECE), p.split(PIECE), late.split(PIECE), strict=True)
        return torch.cat([self.decoded(a, b, c, each[: len(a)]) for a, b, c in parts])

    def embed(self, x: Float[Tensor, "batch channel time"]) -> Float[Tensor, "batch latent"]:
        """The mean of Q(s | x) of each record alone."""
        return accumulation.alone(self.evidence(self.aligned(self.standard(x))[0])).mean.to(x)

    @torch.no_grad()
    def informativeness(self, x: Float[Tensor, "record channel time"], group: Int[Tensor, " record"]) -> Float[Tensor, " record"]:
        """H of each record, in nats: what is lost where it stands for its whole group; low is informative (equation 19)."""
        names, where = group.unique(return_inverse=True)
        together = self.accumulate(x, where, len(names)).posterior()
        told = []
        for part, its in zip(x.split(PIECE), where.split(PIECE), strict=True):
            told.append(accumulation.informativeness(together, self.evidence(self.aligned(self.standard(part))[0]), its))
        return torch.cat(told)


def standardised(
    x: Float[Tensor, "batch channel time"], valid: Bool[Tensor, "batch channel time"] | None = None
) -> Float[Tensor, "batch channel time"]:
    """Zero mean per component, unit variance per record over its valid samples; what is not valid, and a silent record, is 0."""
    there = torch.ones_like(x) if valid is None else valid.to(x)
    rounding = 1e-6 * (x.detach() * there).abs().amax((1, 2), keepdim=True)
    x = (x - (x * there).sum(2, keepdim=True) / there.sum(2, keepdim=True).clamp_min(1)) * there
    peak = x.detach().abs().amax((1, 2), keepdim=True)  # squares of 1e-30 or 1e30 leave float32
    x = torch.where(peak > rounding, x / peak.where(peak > 0, 1.0), 0.0)
    power = x.square().sum((1, 2), keepdim=True) / there.sum((1, 2), keepdim=True).clamp_min(1)
    return x / power.where(power > 0, 1.0).sqrt()


def correlation(x: Float[Tensor, "batch channel time"], y: Float[Tensor, "batch channel time"]) -> Float[Tensor, " batch"]:
    """Of standardised records, at no lag; 0 where one is silent."""
    size = x.square().sum((1, 2)) * y.square().sum((1, 2))
    return (x * y).sum((1, 2)) / size.where(size > 0, 1.0).sqrt()


def drawn(q: Gaussian) -> Tensor:
    """One draw: mean + deviation * noise."""
    return q.mean + torch.randn_like(q.mean) * torch.exp(q.log_variance / 2)
