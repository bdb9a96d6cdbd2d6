"""Features by what is hidden: spans of time are taken out of a record, and the network says what stood there.

    x [b 3 540] --less means, one peak--> --spans of all components set to 0--> convolutions, stride 2, ReLU--> z --mirror--> y
    loss = mean |x - y| over the hidden samples alone

He et al. (2022), "Masked autoencoders are scalable vision learners", with the networks of Kong et al. (`autoencoder.py`) for
transformers: a convolution cannot leave hidden samples out, so they are 0, which is the mean. A code of 68 frames sees 0.75 s at
once, and the decoder as much again, so that spans are short: longer ones cannot be told from what stands beside them.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from seislatent.batch import Batch
from seislatent.errors import SeislatentError
from seislatent.losses.waveform import absolute_error
from seislatent.nn.strided import StridedDecoder, StridedEncoder, halvings, widths
from seislatent.signal.peak import levelled
from seislatent.systems.base import Embedder, System, Turn


@dataclass(frozen=True, kw_only=True)
class MaskedConfig:
    """The overcomplete networks of Kong et al., and how much is hidden."""

    sampling_rate_hz: float = 20.0
    """Rate of the records, in Hz."""
    samples: int = 540
    """Length of the records, in samples."""
    components: int = 3
    """Rows of a record: Z, N, E."""
    bottleneck: int = 68
    """Frames of the code: 68, 34 or 17 of 540 samples."""
    first: tuple[int, ...] = (16, 32)
    """Maps of the first layers."""
    maps: int = 128
    """Maps of the third layer and all deeper ones, the code's among them."""
    share: float = 0.4
    """Of the samples that are hidden, in the mean."""
    span_s: tuple[float, float] = (0.2, 1.0)
    """Shortest and longest span, in s; drawn evenly."""
    weights: dict[str, float] = field(default_factory=lambda: {"hidden": 1.0})
    """Weight of each loss term: `hidden`, mean absolute error of the hidden samples of records in [-1, 1]."""


class Masked(System, Embedder):
    """Encoder and decoder of records with holes; heads stand on the encoder, which they show whole records."""

    Config = MaskedConfig
    config: MaskedConfig

    def __init__(self, config: MaskedConfig):
        super().__init__(config)
        if not 0 < config.share < 1 or not 0 < config.span_s[0] <= config.span_s[1]:
            raise SeislatentError(f"hidden: a share of {config.share:g} in spans of {config.span_s} s: give 0 to 1, and s above 0")
        self.sampling_rate_hz, self.samples = config.sampling_rate_hz, config.samples
        maps = widths(halvings(config.samples, config.bottleneck), config.first, config.maps)
        self.encoder = StridedEncoder(config.components, maps)
        self.decoder = StridedDecoder(config.components, maps, config.samples)

    def trunk(self) -> list[nn.Module]:
        """The encoder: a head has no use for the decoder."""
        return [self.encoder]

    def features(self, x: Float[Tensor, "batch channel time"]) -> Float[Tensor, "batch map frame"]:
        """The code of whole records in any unit; means and amplitude are taken out."""
        code: Tensor = self.encoder(levelled(x).x)
        return code

    def embed(self, x: Float[Tensor, "batch channel time"]) -> Float[Tensor, "batch latent"]:
        """The code in one row, map after map."""
        return self.features(x).flatten(1)

    def given(self, count: int, samples: int, device: torch.device | str = "cpu") -> Bool[Tensor, "batch 1 time"]:
        """False in spans drawn anew for each record, all components at once.

        As many spans as leave a share 1 - `share` of the samples in none of them, in the mean: spans may overlap.
        """
        c = self.config
        short, long = (max(1.0, s * c.sampling_rate_hz) for s in c.span_s)
        spans = max(1, round(-math.log1p(-c.share) * samples / (0.5 * (short + long))))
        length = short + (long - short) * torch.rand(count, spans, 1, device=device)
        first = -length + (samples + length) * torch.rand(count, spans, 1, device=device)
        t = torch.arange(samples, device=device)
        return ~((t >= first) & (t < first + length)).any(1, keepdim=True)

    def turns(self, batch: Batch) -> Iterator[Turn]:
        """`batch.x` [b 3 samples], in any unit; what `batch.mask` hides, or spans drawn here."""
        x = levelled(batch.x).x
        given = self.given(len(x), x.shape[2], x.device).expand_as(x) if batch.mask is None else batch.mask
        asked = ~given if batch.valid is None else ~given & batch.valid
        yield Turn("model", hidden=absolute_error(self.decoder(self.encoder(x * given)), x, asked))
