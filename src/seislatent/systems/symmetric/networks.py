"""The networks of SymAE, from small to large.

    records w [b c n] --Frame.wide--> zeros on both sides [b c t] --Localiser--> shift tau, in samples [b]
                      --moved--> aligned x --Trunk--> features [b w f] --> CoherentEncoder, NuisanceEncoder
    codes s, p --Decoder--> f[s, p] [b c t] --moved back--> --Frame.narrow--> [b c n]

n are the samples of a record, t those of its frame (`Frame.size`), f = t / 2^halvings.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from seislatent.losses.gaussian import Gaussian
from seislatent.losses.precision import in_full
from seislatent.systems.symmetric.accumulation import Evidence

MOST_PRECISE = 6.0
"""Natural logarithm of the greatest precision of one record; its negative is that of the least."""
LAGS_EVERY = 2
"""Samples between the shifts that are compared."""


@in_full
def moved(x: Float[Tensor, "batch channel time"], lag: Float[Tensor, " batch"]) -> Float[Tensor, "batch channel time"]:
    """Each record later by its lag in samples, whole or not: a phase ramp. Exact for what lies below the Nyquist frequency.

    It is periodic: what leaves at one end comes in at the other. Give frames with zeros at both ends, as wide as the shift
    (`Frame`).
    """
    f = torch.fft.rfftfreq(x.shape[-1], device=x.device, dtype=x.dtype)
    angle = (-2 * math.pi) * f * lag[:, None, None].to(x.dtype)
    return torch.fft.irfft(torch.fft.rfft(x) * torch.polar(torch.ones_like(angle), angle), x.shape[-1])


@dataclass(frozen=True)
class Frame:
    """A record with room on both sides, so that no shift brings an end round to the other."""

    samples: int
    """Of the record."""
    margin: int
    """Before it, at least the greatest shift; after it stand as many or some more."""
    multiple: int
    """Of which the frame's length is a multiple."""

    @property
    def size(self) -> int:
        """Samples of the frame."""
        return -(-(self.samples + 2 * self.margin) // self.multiple) * self.multiple

    def wide(self, x: Float[Tensor, "batch channel time"]) -> Float[Tensor, "batch channel frame"]:
        """Records in their frames, zeros around them."""
        return F.pad(x, (self.margin, self.size - self.margin - self.samples))

    def narrow(self, x: Float[Tensor, "batch channel frame"]) -> Float[Tensor, "batch channel time"]:
        """The records in the frames."""
        return x[..., self.margin : self.margin + self.samples]


class Block(nn.Module):
    """x + what a convolution makes of it, each map amplified by what the whole record shows: a filter that adapts to the record."""

    def __init__(self, width: int, kernel: int = 7):
        super().__init__()
        self.near = nn.Conv1d(width, width, kernel, padding=kernel // 2)
        self.far = nn.Linear(width, 2 * width)
        self.out = nn.Conv1d(width, width, 1)
        nn.init.zeros_(self.out.weight)

    def forward(self, x: Float[Tensor, "batch map frame"]) -> Float[Tensor, "batch map frame"]:
        """[b width f] -> the same."""
        gain, offset = self.far(x.square().mean(-1).add(1e-6).log()).mul(0.3)[..., None].chunk(2, 1)
        added: Tensor = self.out(F.gelu(self.near(x) * (1 + gain) + offset))
        return x + added


class Trunk(nn.Module):
    """Time is halved some times, then blocks: [b c t] -> [b width t / 2^halvings]."""

    def __init__(self, channels: int, width: int, halvings: int, blocks: int):
        super().__init__()
        maps = [channels, *(max(8, width >> (halvings - 1 - i)) for i in range(halvings - 1)), width]
        self.down = nn.ModuleList(nn.Conv1d(a, b, 7, stride=2, padding=3) for a, b in pairwise(maps))
        self.blocks = nn.Sequential(*(Block(width) for _ in range(blocks)))

    def forward(self, x: Float[Tensor, "batch channel time"]) -> Float[Tensor, "batch map frame"]:
        """[b c t] -> [b width f]."""
        for layer in self.down:
            x = F.gelu(layer(x))
        out: Tensor = self.blocks(x)
        return out


class Localiser(nn.Module):
    """l[w, nu] of equation 22: by how many samples to move a record so that it lies as the others do.

    Features of the record are correlated with a learnt template at every lag within the margin; the answer is the mean lag under
    the softmax of the correlations. So it is a cross-correlation whose template is learnt: bounded by the margin, and for a record
    that comes later by a step the lag found is larger by that step. It begins at 0.
    """

    lags: Tensor

    def __init__(self, channels: int, width: int, frame: Frame):
        super().__init__()
        self.most = frame.margin // LAGS_EVERY
        self.features = nn.Sequential(
            nn.Conv1d(channels, width, 9, stride=LAGS_EVERY, padding=4, bias=False),
            nn.GELU(),
            nn.Conv1d(width, width, 9, padding=4, bias=False),  # of silence come zeros, wherever the record stands in its frame
        )
        self.template = nn.Parameter(torch.zeros(1, width, -(-frame.size // LAGS_EVERY)))
        self.register_buffer("lags", torch.arange(-self.most, self.most + 1.0) * LAGS_EVERY, persistent=False)

    def forward(self, w: Float[Tensor, "batch channel time"]) -> Float[Tensor, " batch"]:
        """By how many samples to move each record."""
        padded = F.pad(self.features(w), (self.most, self.most))
        score = F.conv1d(padded, self.template / math.sqrt(self.template.shape[-1]))[:, 0]  # place k: late by lags[k]
        late: Tensor = (score.softmax(1) * self.lags).sum(1)
        return -late


class CoherentEncoder(nn.Module):
    """g_s: what a record says about the coherent code."""

    def __init__(self, channels: int, width: int, halvings: int, frames: int, latent: int):
        super().__init__()
        self.trunk = Trunk(channels, width, halvings, blocks=1)
        self.out = nn.Sequential(nn.Flatten(), nn.Linear(width * frames, width), nn.GELU(), nn.Linear(width, 2 * latent))

    def forward(self, x: Float[Tensor, "batch channel time"]) -> Evidence:
        """Of aligned records [b c t]."""
        mean, spread = self.out(self.trunk(x)).chunk(2, 1)
        return Evidence(mean=mean, precision=torch.exp(MOST_PRECISE * torch.tanh(spread / MOST_PRECISE)))


class NuisanceEncoder(nn.Module):
    """g_p, equation 15: mean and log variance of a record's own code, some numbers per frame."""

    def __init__(self, channels: int, width: int, halvings: int, latent: int):
        super().__init__()
        self.trunk = Trunk(channels, width, halvings, blocks=3)
        self.out = nn.Conv1d(width, 2 * latent, 1)

    def forward(self, x: Float[Tensor, "batch channel time"]) -> Gaussian:
        """Of aligned records [b c t]: two of [b latent f]."""
        mean, spread = self.out(self.trunk(x)).chunk(2, 1)
        return Gaussian(mean, 4 * torch.tanh(spread / 4 - 0.25))


class Decoder(nn.Module):
    """f[s, p]: the nuisance code becomes a series in time, which passes through a filter that the coherent code makes.

    A learnt constant that all records share stands beside the nuisance code: it is where what every record has, such as its first
    arrival, need not be coded.
    """

    def __init__(self, channels: int, width: int, halvings: int, frames: int, coherent: int, nuisance: int, taps: int):
        super().__init__()
        self.channels, self.taps = channels, taps
        self.constant = nn.Parameter(0.1 * torch.randn(1, nuisance, frames))
        joined = 2 * nuisance + (0 if taps else coherent)
        self.inward = nn.Conv1d(joined, width, 3, padding=1)
        self.blocks = nn.Sequential(*(Block(width, 5) for _ in range(2)))
        maps = [width, *(max(8, width >> (i + 1)) for i in range(halvings))]
        self.up = nn.ModuleList(nn.ConvTranspose1d(a, b, 4, stride=2, padding=1) for a, b in pairwise(maps))
        self.outward = nn.Conv1d(maps[-1], channels, 7, padding=3)
        self.filter = nn.Sequential(nn.Linear(coherent, width), nn.GELU(), nn.Linear(width, channels * taps)) if taps else None

    def forward(
        self,
        s: Float[Tensor, "group coherent"],
        p: Float[Tensor, "batch nuisance frame"],
        group: Int[Tensor, " batch"],
    ) -> Float[Tensor, "batch channel time"]:
        """Aligned records [b c t], in no unit; `group` gives each record's row of `s`."""
        joined = [p, self.constant.expand_as(p)]
        if self.filter is None:
            joined.append(s[group, :, None].expand(-1, -1, p.shape[-1]))
        x = self.blocks(self.inward(torch.cat(joined, 1)))
        for layer in self.up:
            x = layer(F.gelu(x))
        x = self.outward(F.gelu(x))
        if self.filter is None:
            return x
        return filtered(x, self.filter(s).unflatten(1, (self.channels, self.taps)), group)


@in_full
def filtered(
    x: Float[Tensor, "batch channel time"], taps: Float[Tensor, "group channel tap"], group: Int[Tensor, " batch"]
) -> Float[Tensor, "batch channel time"]:
    """Each record through its group's filter, whose middle tap is time 0; beyond the ends are zeros."""
    n, most = x.shape[-1], taps.shape[-1]
    size = n + most
    made = torch.fft.irfft(torch.fft.rfft(x, size) * torch.fft.rfft(taps, size)[group], size)
    return made[..., most // 2 : most // 2 + n]
