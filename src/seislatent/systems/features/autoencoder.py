"""Autoencoders whose encoder is a feature extractor: undercomplete, and overcomplete with a sparse code.

    x [b 3 540] --less means, one peak--> [-1, 1] --3 to 5 convolutions, stride 2, ReLU--> z [b maps 68 | 34 | 17] --mirror--> y
    loss = mean |x - y| + w sum |z|

Kong et al. (seed 002), sections 2.2 and 4.1, figures 1, 3 and 4. Input: Z, N, E at 20 Hz, 27 s. The bottleneck's length sets the
number of layers: 68, 34 and 17 frames are 3, 4 and 5. `maps` is the number of maps of the third and deeper layers: 8 undercomplete
(544 numbers of 1620 at 68 frames), 128 overcomplete (8704).

Ours, where the paper is silent: 16 and 32 maps in the first two layers; a linear last layer; zeros around the input so that lengths
are halved and rounded up, which 68 of 540 asks for. The penalty is written "10e-5", which is 1e-4; it is taken as Keras takes it,
times the sum over a record's code (`losses/activity.py`), where 1e-4 silences the whole code within a few hundred steps, and 1e-5
leaves a sparse one that reconstructs as well as without: w is 1e-5 here (docs/systems/features-autoencoders.md has the figures). A
test shows that the paper's (3, 1), (2, 1) form is the same.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from jaxtyping import Float
from torch import Tensor, nn

from seislatent.batch import Batch
from seislatent.losses.activity import activity
from seislatent.losses.waveform import absolute_error
from seislatent.nn.strided import StridedDecoder, StridedEncoder, halvings, widths
from seislatent.signal.peak import levelled
from seislatent.systems.base import Embedder, Reconstructor, System, Turn


@dataclass(frozen=True, kw_only=True)
class AutoencoderConfig:
    """The paper's overcomplete autoencoder; with `maps` 8 and no weight for `activity` it is the undercomplete one."""

    sampling_rate_hz: float = 20.0
    """Rate of the records, in Hz."""
    samples: int = 540
    """Length of the records, in samples."""
    components: int = 3
    """Rows of a record: Z, N, E."""
    bottleneck: int = 68
    """Frames of the code: 68, 34 or 17 of 540 samples, which sets the number of layers to 3, 4 or 5."""
    first: tuple[int, ...] = (16, 32)
    """Maps of the first layers."""
    maps: int = 128
    """Maps of the third layer and all deeper ones, the code's among them."""
    weights: dict[str, float] = field(default_factory=lambda: {"waveform": 1.0, "activity": 1e-5})
    """Weight of each loss term: `waveform`, mean absolute error of records in [-1, 1]; `activity`, sum of |code|, or none."""


class Autoencoder(System, Embedder, Reconstructor):
    """Encoder and decoder; the encoder's code is what heads stand on."""

    Config = AutoencoderConfig
    config: AutoencoderConfig

    def __init__(self, config: AutoencoderConfig):
        super().__init__(config)
        self.sampling_rate_hz, self.samples = config.sampling_rate_hz, config.samples
        maps = widths(halvings(config.samples, config.bottleneck), config.first, config.maps)
        self.encoder = StridedEncoder(config.components, maps)
        self.decoder = StridedDecoder(config.components, maps, config.samples)

    def trunk(self) -> list[nn.Module]:
        """The encoder: a head has no use for the decoder."""
        return [self.encoder]

    def features(self, x: Float[Tensor, "batch channel time"]) -> Float[Tensor, "batch map frame"]:
        """The code of records in any unit; means and amplitude are taken out."""
        code: Tensor = self.encoder(levelled(x).x)
        return code

    def embed(self, x: Float[Tensor, "batch channel time"]) -> Float[Tensor, "batch latent"]:
        """The code in one row, map after map."""
        return self.features(x).flatten(1)

    def reconstruct(self, x: Float[Tensor, "batch channel time"]) -> Float[Tensor, "batch channel time"]:
        """The records through the code, in their own unit."""
        its = levelled(x)
        return its.restore(self.decoder(self.encoder(its.x)))

    def turns(self, batch: Batch) -> Iterator[Turn]:
        """`batch.x` [b 3 samples], in any unit."""
        x = levelled(batch.x).x
        code = self.encoder(x)
        terms = {"waveform": absolute_error(self.decoder(code), x, batch.valid)}
        if "activity" in self.config.weights:
            terms["activity"] = activity(code)
        yield Turn("model", **terms)
