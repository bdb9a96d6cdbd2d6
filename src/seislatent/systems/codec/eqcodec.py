"""EQcodec: a seismogram as one token per second and codebook.

    x [b 1 t] --gain--> [b 1 t] --strided convolutions--> [b w f] --LSTM--> --convolution--> z [b 32 f]   (40 samples a frame)
    z --residual quantiser, 8 books of 1024--> indices [b 8 f] --sum of entries--> q [b 32 f]
    q --convolution--> --LSTM--> --transposed convolutions--> y [b 1 t] --gain--> x' [b 1 t]
    x, y --STFT of 128, 64, 32 points--> three discriminators in parallel

Bhattacharjee and Bharadwaj, "Quantizing Quakes" (poster), after EnCodec: Défossez et al. (2022), arXiv:2210.13438, for all that the
poster leaves unsaid (feature matching, balancer, commitment, moving-average codebooks).
Ours: amplitudes as whole numbers outside the network (`signal/gain.py`); a linear lapped transform beside the strided path, from
whose cosines learning starts; the waveform loss is the logarithm of the relative squared error, so that it is SNR that is learnt;
no weight normalisation. See docs/systems/eqcodec.md for what each of these is worth.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import pairwise

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from seislatent.batch import Batch
from seislatent.errors import SeislatentError
from seislatent.losses.spectral import multiscale_stft
from seislatent.losses.waveform import negative_snr
from seislatent.signal import gain
from seislatent.systems.base import Codec, Embedder, Reconstructor, System, Tokens, Turn
from seislatent.systems.codec.lending import LendingQuantizer, Lent
from seislatent.systems.codec.quantizer import Quantized, ResidualQuantizer


@dataclass(frozen=True, kw_only=True)
class EQCodecConfig:
    """The poster's numbers; width and depth are EnCodec's."""

    sampling_rate_hz: float = 40.0
    """Rate at which the network works, in Hz; records are resampled to it."""
    strides: tuple[int, ...] = (2, 4, 5)
    """Strides of the encoder's convolutions, first to last; their product is the frame, in samples."""
    width: int = 32
    """Channels of the first convolution; each stride doubles them."""
    lstm_layers: int = 2
    """LSTM layers on either side of the quantiser."""
    latent: int = 32
    """Numbers per frame between encoder and decoder."""
    books: int = 8
    """Codebooks: levels of the code."""
    entries: int = 1024
    """Vectors in a codebook."""
    lend: bool = False
    """Quiet seconds lend their tokens beyond the first to loud ones; fine tokens tell of parts of a frame (`lending.py`)."""
    lapped: bool = True
    """A fixed lapped cosine transform beside the strided convolutions, on both sides."""
    balanced: bool = True
    """Balance the gradients of the terms at the decoder's output (EnCodec, section 3.4)."""
    alone: float = 0.25
    """Share of the ends of training windows that are taken as ends of a trace."""
    full_level: float = 0.5
    """Share of training records coded with all books; the others draw their level at random."""
    decay: float = 0.99
    """Memory of the moving averages that are the codebooks, per step."""
    beam: int = 1
    """Sums kept per frame while encoding; 1 is the greedy search."""
    ffts: tuple[int, ...] = (128, 64, 32)
    """STFT sizes of the discriminators, in samples."""
    discriminator_width: int = 32
    """Channels of the discriminators."""
    weights: dict[str, float] = field(
        default_factory=lambda: dict(real=1.0, fake=1.0, waveform=1.0, spectrum=1.0, fool=0.3, features=0.3, commit=0.1, spread=0.1)
    )
    """Weight of each loss term. Without `real`, `fake`, `fool` and `features` there is no discriminator; `spread` needs `lend`."""


class Residual(nn.Module):
    """Two convolutions beside the identity."""

    def __init__(self, width: int):
        super().__init__()
        self.narrow = nn.Conv1d(width, width // 2, 3, padding=1)
        self.widen = nn.Conv1d(width // 2, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        """[b w t] -> [b w t]."""
        return x + self.widen(F.elu(self.narrow(F.elu(x))))


class Memory(nn.Module):
    """LSTM layers beside the identity; the state starts afresh with each segment."""

    def __init__(self, width: int, layers: int):
        super().__init__()
        self.lstm = nn.LSTM(width, width, layers)

    def forward(self, x: Tensor) -> Tensor:
        """[b w f] -> [b w f]."""
        return x + self.lstm(x.permute(2, 0, 1))[0].permute(1, 2, 0)


class Lapped(nn.Module):
    """A fixed lapped cosine transform: an MDCT with flat-topped windows over 1.5 frames, orthonormal.

    Malvar (1992), "Signal Processing with Lapped Transforms"; window of Vorbis. It learns nothing and is not stored.
    """

    cosines: Tensor
    ratio: Tensor

    def __init__(self, frame: int, latent: int):
        super().__init__()
        self.frame, self.around = frame, frame // 4
        lap, rise = frame + 2 * self.around, 2 * self.around
        edge = torch.sin(0.5 * math.pi * torch.sin(0.5 * math.pi * (torch.arange(rise).double() + 0.5) / rise) ** 2)
        window = torch.cat([edge, torch.ones(lap - 2 * rise), edge.flip(0)])
        phase = math.pi / frame * (torch.arange(lap).double() + frame - self.around + 0.5)
        cosines = math.sqrt(2 / frame) * window * torch.cos(phase * (torch.arange(latent) + 0.5)[:, None])
        self.register_buffer("cosines", cosines[:, None].float(), persistent=False)
        self.register_buffer("ratio", (edge.flip(0) / edge)[self.around :].float(), persistent=False)

    def analyse(self, x: Float[Tensor, "batch 1 time"], margin: int) -> Float[Tensor, "batch latent frame"]:
        """Coefficients of the frames between `margin` samples on both sides."""
        skip = margin - self.around
        return F.conv1d(x[:, :, skip : x.shape[2] - skip], self.cosines, stride=self.frame)

    def synthesise(self, z: Float[Tensor, "batch latent frame"]) -> Float[Tensor, "batch 1 time"]:
        """The frames' samples; those within a quarter frame of an end are whole only where `extend` stood there."""
        return F.conv_transpose1d(z, self.cosines, stride=self.frame, padding=self.around)

    def extend(self, x: Float[Tensor, "batch 1 time"], margin: int, ends: Bool[Tensor, "batch 2"]) -> Float[Tensor, "batch 1 time"]:
        """The samples with their margins, where a trace ends, set to what makes up for the frame that does not follow.

        The transform folds its laps over: oddly before a frame, evenly after it. What it folds onto the trace's first and last
        quarter frame is a multiple of these themselves, chosen so that they come back alone.
        """
        x, inside = x.clone(), slice(margin, margin + self.around)
        before = F.pad(-(self.ratio * x[:, :, inside]).flip(2), (margin - self.around, 0))
        x[:, :, :margin] = torch.where(ends[:, :1, None], before, x[:, :, :margin])
        after = x[:, :, x.shape[2] - margin - self.around : x.shape[2] - margin].flip(2)
        after = F.pad(self.ratio * after, (0, margin - self.around))
        x[:, :, -margin:] = torch.where(ends[:, 1:, None], after, x[:, :, -margin:])
        return x


class Encoder(nn.Module):
    """From samples to latent: convolutions see frames of context on both sides, the LSTM only the frames within."""

    def __init__(self, config: EQCodecConfig):
        super().__init__()
        self.frame = math.prod(config.strides)
        widths = [config.width * 2**i for i in range(len(config.strides) + 1)]
        layers: list[nn.Module] = [nn.Conv1d(1, widths[0], 7, padding=3)]
        for (narrow, wide), stride in zip(pairwise(widths), config.strides, strict=True):
            layers += [Residual(narrow), nn.ELU(), nn.Conv1d(narrow, wide, 2 * stride, stride, (stride + 1) // 2)]
        self.strided = nn.Sequential(*layers)
        self.memory = Memory(widths[-1], config.lstm_layers)
        self.project = nn.Conv1d(widths[-1], config.latent, 7, padding=3)
        self.lapped = Lapped(self.frame, config.latent) if config.lapped else None
        if self.lapped is not None:
            nn.init.zeros_(self.project.weight)
            nn.init.zeros_(self.project.bias)  # type: ignore[arg-type]

    def forward(self, x: Tensor, margin: int) -> Tensor:
        """[b 1 margin + f frames + margin] -> [b latent f]."""
        frames, skip = x.shape[2] // self.frame - 2 * (margin // self.frame), margin // self.frame
        h = self.strided(x)[:, :, skip : skip + frames]
        z = self.project(F.elu(self.memory(h)))
        return z if self.lapped is None else z + self.lapped.analyse(x, margin)


class Decoder(nn.Module):
    """From latent to samples, told the level."""

    def __init__(self, config: EQCodecConfig):
        super().__init__()
        self.frame = math.prod(config.strides)
        widths = [config.width * 2**i for i in range(len(config.strides) + 1)]
        self.project = nn.Conv1d(config.latent, widths[-1], 7, padding=3)
        self.told = nn.Embedding(config.books, widths[-1])
        """What the decoder is told of the level: how far to trust the sum of entries."""
        self.memory = Memory(widths[-1], config.lstm_layers)
        layers: list[nn.Module] = []
        for (narrow, wide), stride in reversed(list(zip(pairwise(widths), config.strides, strict=True))):
            pad = (stride + 1) // 2
            layers += [nn.ELU(), nn.ConvTranspose1d(wide, narrow, 2 * stride, stride, pad, stride % 2), Residual(narrow)]
        self.strided = nn.Sequential(*layers, nn.ELU())
        self.out = nn.Conv1d(widths[0], 1, 7, padding=3)
        self.lapped = Lapped(self.frame, config.latent) if config.lapped else None
        if self.lapped is not None:
            nn.init.zeros_(self.out.weight)
            nn.init.zeros_(self.out.bias)  # type: ignore[arg-type]

    def forward(self, z: Tensor, level: Tensor) -> Tensor:
        """[b latent f], level [b] -> [b 1 f frames]."""
        y = self.out(self.strided(self.memory(self.project(z) + self.told(level - 1)[:, :, None])))
        return y if self.lapped is None else y + self.lapped.synthesise(z)


class Discriminator(nn.Module):
    """Judges the complex STFT of one size."""

    window: Tensor

    def __init__(self, points: int, width: int):
        super().__init__()
        self.points = points
        self.register_buffer("window", torch.hann_window(points))
        steps = [nn.Conv2d(2, width, (8, 3), padding=(4, 1))]
        steps += [nn.Conv2d(width, width, (8, 3), (2, 1), (4, spread), (1, spread)) for spread in (1, 2, 4)]
        self.steps = nn.ModuleList([*steps, nn.Conv2d(width, width, 3, padding=1), nn.Conv2d(width, 1, 3, padding=1)])

    def forward(self, x: Tensor) -> list[Tensor]:
        """[b 1 t] -> what each layer says [b w g n]; the last one is the verdict [b 1 g n]."""
        spectrum = torch.stft(
            x[:, 0].float(), self.points, self.points // 4, window=self.window, normalized=True, return_complex=True
        )
        h = torch.stack([spectrum.real, spectrum.imag], 1)
        features: list[Tensor] = []
        for step in self.steps:
            h = step(F.leaky_relu(h, 0.2) if features else h)
            features.append(h)
        return features


def flat(verdicts: Iterable[Tensor]) -> Tensor:
    """All values of several discriminators in one row."""
    return torch.cat([v.flatten() for v in verdicts])


class EQCodec(System, Codec, Reconstructor, Embedder):
    """One channel at 40 Hz, 8 levels of 10 bit/s."""

    Config = EQCodecConfig
    config: EQCodecConfig

    def __init__(self, config: EQCodecConfig):
        super().__init__(config)
        self.frame = math.prod(config.strides)
        if self.frame % 4 and config.lapped:
            raise SeislatentError(f"a frame of {self.frame} samples: the lapped transform needs a multiple of 4 (change `strides`)")
        self.margin = 4 * self.frame
        """Context on both sides of a segment, in samples: more than the convolutions see."""
        self.encoder, self.decoder = Encoder(config), Decoder(config)
        quantizer = LendingQuantizer if config.lend else ResidualQuantizer
        self.quantizer = quantizer(config.books, config.entries, config.latent, config.decay)
        judged = {"real", "fake", "fool", "features"} & config.weights.keys()
        if judged and len(judged) < 4:
            raise SeislatentError(f"weights {sorted(judged)} alone: give real, fake, fool and features, or none (no discriminator)")
        self.discriminators = nn.ModuleList([Discriminator(n, config.discriminator_width) for n in config.ffts] if judged else [])

    @property
    def sampling_rate_hz(self) -> float:
        """Rate of the samples that `encode` takes, in Hz."""
        return self.config.sampling_rate_hz

    @property
    def books(self) -> int:
        """Levels of the code."""
        return self.config.books

    @property
    def bits_per_index(self) -> int:
        """Bits that one token takes in a file."""
        return math.ceil(math.log2(self.config.entries))

    @property
    def bits_per_second(self) -> float:
        """Nominal rate of one level, in bit/s."""
        return self.bits_per_index * self.sampling_rate_hz / self.frame

    def players(self) -> dict[str, list[nn.Module]]:
        """The discriminators, if any, against encoder and decoder."""
        codec: dict[str, list[nn.Module]] = {"encoder": [self.encoder], "decoder": [self.decoder, self.quantizer]}
        return {"discriminator": [*self.discriminators], **codec} if len(self.discriminators) else codec

    @torch.no_grad()
    def encode(self, x: Float[Tensor, "batch 1 time"], margin: int = 0, ends: Bool[Tensor, "batch 2"] | None = None) -> Tokens:
        """Tokens of segments [b 1 margin + f frames + margin] in any unit, float64 where offsets are large.

        `margin` samples on both sides are context; `ends` tells which segments begin or end their trace (all of them when there is
        no margin, else none, if None).

        Raises SeislatentError where the length is not a whole number of frames.
        """
        z, offset, scale = self.latent(x, margin, ends)
        return Tokens(indices=self.quantizer.search(z, self.config.beam, scale), offset=offset, scale=scale)

    def latent(self, x: Tensor, margin: int = 0, ends: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor]:
        """Encoder's output [b latent f], offset [b] and scale [b f] of segments with context, as `encode` takes them."""
        if x.shape[1] != 1 or (x.shape[2] - 2 * margin) % self.frame or x.shape[2] <= 2 * margin:
            raise SeislatentError(
                f"segments of shape {tuple(x.shape)}: give [batch 1 time] in whole frames of {self.frame} samples"
            )
        if ends is None:
            ends = torch.full((len(x), 2), margin == 0, device=x.device)
        inner = x[:, 0, margin : x.shape[2] - margin]
        offset, scale = gain.measure(inner, self.frame)
        missing, spare = max(0, self.margin - margin), max(0, margin - self.margin)
        wide = F.pad(x[:, :, spare : x.shape[2] - spare], (missing, missing), mode="replicate")[:, 0]
        wide = gain.normalise(wide, offset, scale, self.frame, self.margin)[:, None]
        return self.encoder(self.ended(wide, ends), self.margin), offset, scale

    def features(self, x: Float[Tensor, "batch channel time"]) -> Float[Tensor, "batch map frame"]:
        """The latent before the quantiser, `latent` maps of each channel; an unfinished frame is filled with its last sample."""
        whole = F.pad(x, (0, -x.shape[2] % self.frame), mode="replicate")
        return self.latent(whole.reshape(-1, 1, whole.shape[2]))[0].reshape(len(x), -1, whole.shape[2] // self.frame)

    def embed(self, x: Float[Tensor, "batch channel time"]) -> Float[Tensor, "batch latent"]:
        """Root mean square of each of `features` over its frames."""
        return self.features(x).square().mean(2).sqrt()

    def trunk(self) -> list[nn.Module]:
        """The encoder."""
        return [self.encoder]

    def ended(self, wide: Tensor, ends: Tensor) -> Tensor:
        """Normalised segments with their margins, made ready where a trace ends."""
        return wide if self.encoder.lapped is None else self.encoder.lapped.extend(wide, self.margin, ends)

    @torch.no_grad()
    def unquantised(self, x: Float[Tensor, "batch 1 time"], margin: int = 0) -> Float[Tensor, "batch 1 time"]:
        """Encoder and decoder without the quantiser between them: what a perfect quantiser would give."""
        z, offset, scale = self.latent(x, margin)
        y = self.decoder(z, torch.full((len(z),), self.books, device=z.device))
        return gain.restore(y[:, 0], offset, scale, self.frame)[:, None]

    @torch.no_grad()
    def decode(self, tokens: Tokens, level: int | None = None) -> Float[Tensor, "batch 1 time"]:
        """The segments back as float64 in their own unit, at a level (all that is in the tokens when None)."""
        indices = tokens.indices[:, :level]
        reached = torch.full((len(indices),), indices.shape[1], device=indices.device)
        y = self.decoder(self.quantizer.decode(indices, tokens.scale), reached)
        return gain.restore(y[:, 0], tokens.offset, tokens.scale, self.frame)[:, None]

    def reconstruct(self, x: Float[Tensor, "batch 1 time"], level: int | None = None) -> Float[Tensor, "batch 1 time"]:
        """Coding and decoding at a level (all books when None)."""
        return self.decode(self.encode(x), level)

    def levels(self, n: int, device: torch.device) -> Int[Tensor, " batch"]:
        """A level for each record: all books with probability `full_level`, else drawn from 1 to `books`."""
        drawn = torch.randint(1, self.books + 1, (n,), device=device)
        return torch.where(torch.rand(n, device=device) < self.config.full_level, self.books, drawn)

    def ends(self, n: int, device: torch.device) -> Bool[Tensor, "batch 2"]:
        """Which windows are taken as beginning, or ending, their trace: a share `alone`, drawn."""
        return torch.rand(n, 2, device=device) < self.config.alone

    def turns(self, batch: Batch) -> Iterator[Turn]:
        """`batch.x` [b 1 t] carries `margin` samples of context on both sides."""
        m, quarter = self.margin, self.frame // 4
        inner = batch.x[:, 0, m:-m]
        offset, scale = gain.measure(inner, self.frame)
        wide = gain.normalise(batch.x[:, 0], offset, scale, self.frame, m)[:, None]
        level, ends = self.levels(len(inner), inner.device), self.ends(len(inner), inner.device)
        coded = self.quantizer(self.encoder(self.ended(wide, ends), m), level, scale)
        y = self.decoder(coded.value, level)
        # where segments join, their outer quarter frames are faded out; where a trace ends, they count
        heard = torch.ones_like(y)
        heard[:, :, :quarter] = ends[:, :1, None]
        heard[:, :, -quarter:] = ends[:, 1:, None]
        real, fake = wide[:, :, m:-m] * heard, y * heard
        if len(self.discriminators):
            yield Turn(
                "discriminator",
                real=flat(F.relu(1 - d(real)[-1]) for d in self.discriminators),
                fake=flat(F.relu(1 + d(fake.detach())[-1]) for d in self.discriminators),
            )
        yield Turn("encoder", "decoder", at=y if self.config.balanced else None, **self.terms(real, fake, coded))
        self.quantizer.update(coded)

    def terms(self, real: Tensor, fake: Tensor, coded: Quantized | Lent) -> dict[str, Tensor | None]:
        """What encoder and decoder learn from; one value per record or finer."""
        terms: dict[str, Tensor | None] = {
            "waveform": 0.1 * negative_snr(fake, real, floor=1e-5),
            "commit": coded.commit,
        }
        if "spread" in self.config.weights:
            terms["spread"] = coded.spread if isinstance(coded, Lent) else None
        if "spectrum" in self.config.weights:
            terms["spectrum"] = multiscale_stft(fake, real)
        if len(self.discriminators):
            told, true = [d(fake) for d in self.discriminators], [d(real) for d in self.discriminators]
            terms["fool"] = flat(F.relu(1 - t[-1]) for t in told)
            pairs = [(a, b.detach()) for t, r in zip(told, true, strict=True) for a, b in zip(t[:-1], r[:-1], strict=True)]
            terms["features"] = torch.stack([(a - b).abs().mean((1, 2, 3)) / b.abs().mean((1, 2, 3)) for a, b in pairs], 1)
        return terms

    def diagnostics(self) -> dict[str, float]:
        """Use of the codebooks."""
        return self.quantizer.usage()
