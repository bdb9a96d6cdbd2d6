"""How far a record is from all that a classifier was calibrated on, and how sure its probabilities may be.

    rows of the dense layer [n d] --over each neuron's spread, on the unit sphere--> distance to the k-th neighbour in a bank
    / the distance that most of the dev split's records are within --> above 1: unknown

The distance is that of Sun et al. (2022), "Out-of-distribution detection with deep nearest neighbors", arXiv:2204.06507; the
spread is ours.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from scipy.optimize import minimize_scalar
from torch import Tensor, nn

from seislatent.metrics.calibration import reliability

LEAST_SPREAD = 0.1
"""A neuron's spread is this share of the root mean square of all neurons' at least: those that rested in calibration count too."""


class Surroundings(nn.Module):
    """Rows of known records, kept as buffers.

    Args:
        width: neurons.
        bank: rows kept at most.
        neighbours: which neighbour's distance counts.
    """

    rows: Tensor
    count: Tensor
    spread: Tensor
    radius: Tensor

    def __init__(self, width: int, bank: int, neighbours: int):
        super().__init__()
        self.neighbours = neighbours
        self.register_buffer("rows", torch.zeros(bank, width))
        self.register_buffer("count", torch.zeros((), dtype=torch.long))
        self.register_buffer("spread", torch.ones(width))
        self.register_buffer("radius", torch.ones(()))

    def forward(self, h: Float[Tensor, "batch width"]) -> Float[Tensor, " batch"]:
        """Distance in units of the radius, so that above 1 is far; 0 where nothing was settled."""
        count = int(self.count)
        if not count:
            return h.new_zeros(len(h))
        apart = torch.cdist(self._placed(h), self._placed(self.rows[:count]))
        return apart.kthvalue(min(self.neighbours, count), 1).values / self.radius

    def _placed(self, h: Tensor) -> Tensor:
        """On the unit sphere."""
        return F.normalize(h.float() / self.spread, dim=1)

    @torch.no_grad()
    def settle(self, h: Float[Tensor, "record width"], known: float) -> dict[str, Any]:
        """Keeps rows of the records given, drawn at random where they are too many, and how near the others are to `known` of them.

        Two records at least; of one, nothing is kept.
        """
        n = len(h)
        self.count.fill_(0)
        if n < 2:
            return {"unknown_beyond": None}
        order = torch.randperm(n, device=h.device)[: len(self.rows)]
        deviation = h.std(0, correction=0)
        floor = (LEAST_SPREAD * deviation.square().mean().sqrt()).clamp_min(1e-6)
        self.spread.copy_(torch.maximum(deviation, floor))
        self.rows.zero_()
        self.rows[: len(order)] = h[order]
        placed = self._placed(h)
        apart = torch.cdist(placed, placed[order])
        apart[order, torch.arange(len(order), device=h.device)] = float("inf")  # nobody is its own neighbour
        k = min(self.neighbours, n - 1, len(order))
        nearest = apart.kthvalue(k, 1).values
        finite = nearest[nearest.isfinite()]
        radius = float(finite.quantile(known)) if len(finite) else 0.0
        self.radius.fill_(max(radius, 1e-6))
        self.count.fill_(len(order))
        return {"unknown_beyond": radius, "known_share": known, "neighbours": k, "bank": len(order)}


def fitted_temperature(
    scores: Float[Tensor, "record label"], number: Int[Tensor, " record"]
) -> tuple[float, dict[str, float | None]]:
    """The temperature of the least cross-entropy when every label weighs the same, and what it does to the calibration error.

    Guo et al. (2017), arXiv:1706.04599, section 4.2. It stays within 0.05 and 20: where all calls are right, none is best.
    """
    counts = torch.bincount(number, minlength=scores.shape[1]).double()
    weight = 1 / counts[number] / (counts > 0).sum()
    score = scores.double()

    def loss(logarithm: float) -> float:
        return float((weight * F.cross_entropy(score / 2.718281828459045**logarithm, number, reduction="none")).sum())

    found = minimize_scalar(loss, bounds=(-3.0, 3.0), method="bounded")
    temperature = float(2.718281828459045 ** float(found.x))
    before, after = (float(reliability((score / t).softmax(1), number, weight=weight).error) for t in (1.0, temperature))
    return temperature, {
        "temperature": temperature,
        "expected_calibration_error": after,
        "expected_calibration_error_without_temperature": before,
        "accuracy": float((score.argmax(1) == number).double().mean()),
        "balanced_accuracy": float((weight * (score.argmax(1) == number)).sum()),
    }
