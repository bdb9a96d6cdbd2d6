"""Weights that do not depend on a term's scale (Défossez et al. 2022, "High Fidelity Neural Audio Compression", section 3.4)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor


class Balancer:
    """Gives each term, at the tensor where terms meet, a gradient of the size of its weight.

    A record's gradient of a mean over n records is 1/n of its own, so the *sum* of the records' norms depends neither on n nor on
    how the records are shared out. Its running mean, over steps and processes, is what each gradient is divided by.
    """

    def __init__(self, decay: float):
        self.decay = decay
        self.sizes: dict[str, tuple[float, float]] = {}
        """By term: decayed sum of norms, and decayed number of steps that it stands for."""

    def __call__(
        self, slopes: Mapping[str, Sequence[Tensor]], weights: Mapping[str, float], mean: Callable[[Tensor], Tensor]
    ) -> list[Tensor]:
        """Mixes gradients.

        Args:
            slopes: by term, its gradient [b ...] at each part of the batch.
            weights: by term.
            mean: over processes.

        Returns:
            One gradient [b ...] for each part.
        """
        wide = torch.float32 if next(iter(slopes.values()))[0].device.type == "mps" else torch.float64
        norms = mean(torch.stack([sum_of_norms(parts).to(wide) for parts in slopes.values()]))
        scales = {}
        for name, norm in zip(slopes, norms.tolist(), strict=True):
            size, age = self.sizes.get(name, (0.0, 0.0))
            self.sizes[name] = size, age = self.decay * size + norm, self.decay * age + 1
            scales[name] = weights[name] / max(size / age, 1e-12)
        columns = zip(*slopes.values(), strict=True)
        return [torch.stack([s * g for s, g in zip(scales.values(), column, strict=True)]).sum(0) for column in columns]


def sum_of_norms(parts: Sequence[Tensor]) -> Tensor:
    """Euclidean norm of each record's gradient, summed over the records of all parts."""
    return torch.stack([g.flatten(1).norm(dim=1).sum() for g in parts]).sum()
