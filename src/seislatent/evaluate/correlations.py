"""Correlation of residuals between periods and between frequencies, beside published models.

    ln SA or ln EAS [record draw place] --residuals--> correlation [place place] --less the published one--> gap

Which residuals: where ground-motion models can be computed, total residuals against one, within events; else the draws about the
mean of their own record (what a generator itself adds), or the records within their events. Published models are of residuals
against ground-motion models: of draws about their mean only the shape is to be compared.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from seislatent.metrics.bias import baker_jayaram, correlation, correlation_gap, split_residuals


@dataclass(frozen=True, kw_only=True)
class Correlations:
    """Of one set of residuals."""

    places: tuple[float, ...]
    """Periods in s, or frequencies in Hz."""
    found: Float[Tensor, "place place"]
    published: Float[Tensor, "place place"] | None
    """None where the model's package is not there."""
    model: str
    basis: str
    """Which residuals these are, in words."""

    def plain(self) -> dict[str, Any]:
        """As in report.json."""
        told: dict[str, Any] = {"places": list(self.places), "found": self.found.tolist(), "model": self.model, "basis": self.basis}
        if self.published is not None:
            gap = correlation_gap(self.found, self.published)
            told |= {"gap_mean": gap.mean, "gap_rms": gap.rms, "gap_largest": gap.largest, "pairs": gap.pairs}
        return told

    @property
    def rms(self) -> float:
        """Root mean square of the gap; NaN where nothing can be compared."""
        return math.nan if self.published is None else correlation_gap(self.found, self.published).rms


def between_periods(residual: NDArray[np.float64], periods_s: Sequence[float], basis: str) -> Correlations:
    """Of ln SA [record period] beside Baker and Jayaram (2008), who hold from 0.01 to 10 s."""
    inside = [i for i, p in enumerate(periods_s) if 0.01 <= p <= 10]
    places = tuple(float(periods_s[i]) for i in inside)
    found = correlation(torch.from_numpy(residual[:, inside].copy()))
    return Correlations(places=places, found=found, published=baker_jayaram(places), model="Baker and Jayaram (2008)", basis=basis)


def between_frequencies(residual: NDArray[np.float64], frequencies_hz: Sequence[float], basis: str) -> Correlations:
    """Of ln EAS [record frequency] beside Bayless and Abrahamson (2018, Bull. Seism. Soc. Am. 108), as pygmm has it."""
    places = tuple(map(float, frequencies_hz))
    found = correlation(torch.from_numpy(residual.copy()))
    try:
        import pygmm

        published = torch.from_numpy(np.asarray(pygmm.BaylessAbrahamson2018.corr(np.array(places)), np.float64))
    except (ImportError, AttributeError):
        published = None
    return Correlations(places=places, found=found, published=published, model="Bayless and Abrahamson (2018)", basis=basis)


def about_own_mean(ln: NDArray[np.float64]) -> NDArray[np.float64]:
    """Draws [record draw place] less the mean over draws of their record: [record draw, place]."""
    return np.asarray((ln - ln.mean(1, keepdims=True)).reshape(-1, ln.shape[-1]))


def within_events(residual: NDArray[np.float64], events: Sequence[Any] | NDArray[Any]) -> NDArray[np.float64]:
    """Residuals [record place] less bias and event terms."""
    return split_residuals(torch.from_numpy(residual.copy()), [str(e) for e in events]).within.numpy()
