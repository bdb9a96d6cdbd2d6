"""What heads stand on: any embedder, with the rate, length and shape of what it gives, and records made ready for it.

x [b 1..3 t] --windows of `samples`--> less each component's mean, 0 where nothing is --encoder.features--> [b map frame]
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from seislatent.config import Nested
from seislatent.errors import SeislatentError
from seislatent.systems.base import Embedder, System

RATE_HZ, WINDOW_S = 20.0, 27.0
"""Of the paper's records; where neither the config nor the encoder tells another rate or length."""


def autoencoder() -> Nested:
    """The paper's encoder, with fresh weights."""
    return Nested(system="features/autoencoder")


class Footing(nn.Module):
    """An encoder under a head: rate, length and shape of what stands on it.

    Args:
        config: of a head, with `encoder`, `sampling_rate_hz`, `samples` and `components`.
        encoder: built.
    """

    def __init__(self, config: Any, encoder: System):
        super().__init__()
        if not isinstance(encoder, Embedder):
            raise SeislatentError(f"{config.encoder.system} is no embedder: a head needs a system that has features")
        rate = config.sampling_rate_hz or getattr(encoder, "sampling_rate_hz", None) or RATE_HZ
        self.sampling_rate_hz = float(rate)
        self.samples = int(config.samples or getattr(encoder, "samples", None) or round(WINDOW_S * self.sampling_rate_hz))
        self.components, self.encoder = config.components, encoder
        was = encoder.training
        with torch.no_grad():
            _, self.maps, self.frames = encoder.eval().features(torch.zeros(1, self.components, self.samples)).shape
        encoder.train(was)

    def forward(self, x: Float[Tensor, "batch channel time"], valid: Tensor | None = None) -> Float[Tensor, "batch map frame"]:
        """Features of windows of `samples`; 0 where not valid, each component less its mean elsewhere."""
        return self.encoder.features(centred(x, valid))

    def rest(self) -> list[nn.Module]:
        """The modules of the encoder that its features do not run through."""
        trunk = set(self.encoder.trunk())

        def outside(module: nn.Module) -> list[nn.Module]:
            if module in trunk:
                return []
            if not trunk & set(module.modules()):
                return [module]
            return [each for child in module.children() for each in outside(child)]

        return outside(self.encoder)

    def cut(self, x: Float[Tensor, "batch channel time"]) -> Float[Tensor, "batch window component samples"]:
        """Records of any length as windows that overlap by half or more; NaN where there is no sample.

        Raises:
            SeislatentError: no sample, or more components than the head has.
        """
        rows, length = x.shape[1:]
        if not (1 <= rows <= self.components and length):
            raise SeislatentError(f"records of shape {tuple(x.shape)}: give [batch, 1 to {self.components} components Z N E, time]")
        missing = (0, max(self.samples - length, 0), 0, self.components - rows)
        x = F.pad(x if x.is_floating_point() else x.double(), missing, value=float("nan"))
        spare = x.shape[2] - self.samples
        firsts = torch.linspace(0, spare, -(-2 * spare // self.samples) + 1, dtype=torch.float64).round().long().tolist()
        return torch.stack([x[:, :, first : first + self.samples] for first in firsts], 1)


def centred(x: Float[Tensor, "batch channel time"], valid: Tensor | None = None) -> Float[Tensor, "batch channel time"]:
    """Each component less its mean, in float32; 0 where not valid or not finite."""
    there = torch.isfinite(x) if valid is None else torch.isfinite(x) & valid
    x = torch.where(there, x, 0.0).double()
    mean = x.sum(2, keepdim=True) / there.sum(2, keepdim=True).clamp_min(1)
    return torch.where(there, x - mean, 0.0).float()
