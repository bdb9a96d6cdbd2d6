"""Features by contrast: two views of a record are each other's nearest among all views of a batch.

    x, x' [b 3 540] --less means, one peak--> convolutions, stride 2, ReLU--> z [b maps 68] --mean and max over time--> h [b 2 maps]
    h --dense, ReLU, dense--> codes --NT-Xent (losses/contrastive.py)

Chen et al. (2020), "A simple framework for contrastive learning of visual representations" (SimCLR); seed 004, section 2.3.5,
equation 2.31. The encoder is that of Kong et al. (`autoencoder.py`), so that heads can stand on either and the training alone
differs. The views come from the dataset `record_views`: turned, reversed, shifted, with noise, gaps and dead components. Ours: the
mean and the maximum over time before the projection. What heads stand on is z, which keeps its place in time.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from seislatent.batch import Batch
from seislatent.errors import SeislatentError
from seislatent.losses.contrastive import nt_xent
from seislatent.nn.strided import StridedEncoder, halvings, widths
from seislatent.signal.peak import levelled
from seislatent.systems.base import Embedder, System, Turn


@dataclass(frozen=True, kw_only=True)
class ContrastiveConfig:
    """The overcomplete encoder of Kong et al. and SimCLR's projection."""

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
    """Maps of the third layer and all deeper ones."""
    hidden: int = 128
    """Numbers between the two layers of the projection."""
    codes: int = 64
    """Numbers that are compared."""
    temperature: float = 0.2
    """Of NT-Xent: the lower, the more the nearest negatives count."""
    weights: dict[str, float] = field(default_factory=lambda: {"contrast": 1.0})
    """Weight of each loss term: `contrast`, in nats per view."""


class Contrastive(System, Embedder):
    """An encoder, and the projection it learns with."""

    Config = ContrastiveConfig
    config: ContrastiveConfig

    def __init__(self, config: ContrastiveConfig):
        super().__init__(config)
        self.sampling_rate_hz, self.samples = config.sampling_rate_hz, config.samples
        maps = widths(halvings(config.samples, config.bottleneck), config.first, config.maps)
        self.encoder = StridedEncoder(config.components, maps)
        self.projection = nn.Sequential(
            nn.Linear(2 * config.maps, config.hidden), nn.ReLU(), nn.Linear(config.hidden, config.codes)
        )  # fmt: skip

    def trunk(self) -> list[nn.Module]:
        """The encoder: the projection is left behind."""
        return [self.encoder]

    def features(self, x: Float[Tensor, "batch channel time"]) -> Float[Tensor, "batch map frame"]:
        """The encoder's maps of records in any unit; means and amplitude are taken out."""
        maps: Tensor = self.encoder(levelled(x).x)
        return maps

    def embed(self, x: Float[Tensor, "batch channel time"]) -> Float[Tensor, "batch latent"]:
        """Mean and maximum over time of each map: what was made alike for views of one record."""
        maps = self.features(x)
        return torch.cat([maps.mean(2), maps.amax(2)], 1)

    def codes(self, x: Float[Tensor, "batch channel time"]) -> Float[Tensor, "batch code"]:
        """What the loss compares."""
        projected: Tensor = self.projection(self.embed(x))
        return projected

    def turns(self, batch: Batch) -> Iterator[Turn]:
        """`batch.x` and `batch.target` are two views [b 3 samples] of the same records. Negatives are those of this process."""
        one, other = self.codes(batch.x), self.codes(second(batch))
        yield Turn("model", contrast=nt_xent(one, other, self.config.temperature))

    def measures(self, batch: Batch) -> dict[str, Tensor]:
        """The loss, and `found`: whether a view's partner is the nearest of all views of the batch but itself."""
        one, other = self.codes(batch.x), self.codes(second(batch))
        z = F.normalize(torch.cat([one, other]), dim=1)
        near = (z @ z.T).fill_diagonal_(-torch.inf).argmax(1)
        found = (near == torch.arange(len(z), device=z.device).roll(len(one))).to(z)
        return {"contrast": nt_xent(one, other, self.config.temperature), "found": found}


def second(batch: Batch) -> Tensor:
    """The second view. Raises SeislatentError where the dataset gives none."""
    if batch.target is None:
        raise SeislatentError("features/contrastive needs two views of each record: give data: {dataset: record_views}")
    return batch.target
