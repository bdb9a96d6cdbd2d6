"""Singular spectrum analysis: a record as a sum of oscillations and trends that it finds itself.

    x [time] --Hankel matrix H [window column]--> SVD --average over antidiagonals--> components, whose sum is x

Golyandina and Zhigljavsky 2013, chapter 2; seed 004, section 2.2.3.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from seislatent.errors import SeislatentError

_CHUNK = 1 << 24


@dataclass(frozen=True, kw_only=True)
class SingularSpectrum:
    """Components from the strongest to the weakest."""

    components: Float[Tensor, "*trace component time"]
    """In the unit of the samples; all `window` of them sum to the record."""
    shares: Float[Tensor, "*trace component"]
    """Of the Hankel matrix's energy, 0 to 1 (0 for silence); an undamped oscillation makes two of nearly the same share."""


def singular_spectrum(x: Float[Tensor, "*trace time"], window: int, count: int | None = None) -> SingularSpectrum:
    """The `count` strongest components (None: all) of each trace, in float64.

    `window` samples are the rows of the Hankel matrix: at least the longest period to be told apart, at most half of the record (a
    longer one gives the same components). Memory of a trace is window * time values, so long records want a short window.

    Raises SeislatentError for a window below 1 or above half of the record (one sample: 1), a count outside 1 to window, or a
    sample that is not finite.
    """
    n = x.shape[-1] if x.ndim else 0
    most = max(1, (n + 1) // 2)
    if not n or not 1 <= window <= most:
        raise SeislatentError(f"a window of {window} samples for a record of {n}: take from 1 to {most}, half of the record")
    count = window if count is None else count
    if not 1 <= count <= window:
        raise SeislatentError(f"{count} components of a window of {window} samples: ask for 1 to {window}")
    rows = x.reshape(-1, n).to(torch.float64)
    if not torch.isfinite(rows).all():
        raise SeislatentError("a sample is NaN or infinite: fill gaps before a singular spectrum analysis")
    step = max(1, _CHUNK // (3 * window * n))
    parts = [_analysed(rows[i : i + step], window, count) for i in range(0, len(rows), step)]
    empty = rows.new_zeros(0, count, n), rows.new_zeros(0, count)
    components, shares = (torch.cat([empty[i], *(p[i] for p in parts)]) for i in (0, 1))
    return SingularSpectrum(components=components.reshape(*x.shape[:-1], count, n), shares=shares.reshape(*x.shape[:-1], count))


def _analysed(rows: Tensor, window: int, count: int) -> tuple[Tensor, Tensor]:
    n = rows.shape[-1]
    level = rows.abs().amax(-1, keepdim=True)
    unit = torch.where(level > 0, level, 1.0)
    hankel = (rows / unit).unfold(-1, n - window + 1, 1)  # [trace window column]
    energy, vectors = torch.linalg.eigh(hankel @ hankel.mT)
    energy, vectors = energy.flip(-1).clamp(min=0), vectors.flip(-1)[..., :count].mT  # [trace component window]
    principal = vectors @ hankel  # sigma v^T, [trace component column]
    # the antidiagonal sums of u v^T are the convolution of u and v
    product = torch.fft.rfft(vectors, n=n) * torch.fft.rfft(principal, n=n)
    at = torch.arange(n, device=rows.device)
    times = torch.minimum(at + 1, n - at).clamp(max=window)
    components = torch.fft.irfft(product, n=n) / times * unit[..., None]
    total = energy.sum(-1, keepdim=True)
    return components, torch.where(total > 0, energy[..., :count] / total, 0.0)


def weighted_correlation(
    components: Float[Tensor, "*trace component time"], window: int
) -> Float[Tensor, "*trace component component"]:
    """How far components belong together, -1 to 1: their correlation, each sample weighed by how often the Hankel matrix holds it.

    Components of one oscillation are near 1 or share their partners; near 0 they are apart (Golyandina and Zhigljavsky 2013,
    section 2.3.3). A silent component has 0 with all others and 1 with itself.
    """
    n = components.shape[-1]
    at = torch.arange(n, device=components.device)
    weights = torch.minimum(at + 1, n - at).clamp(max=min(window, n - window + 1)).to(components.dtype)
    product = (components * weights) @ components.mT
    norm = product.diagonal(dim1=-2, dim2=-1).sqrt()
    scaled = product / torch.where(norm > 0, norm, 1.0)[..., None] / torch.where(norm > 0, norm, 1.0)[..., None, :]
    silent = torch.diag_embed((norm == 0).to(scaled.dtype))
    return scaled + silent


def grouped(
    components: Float[Tensor, "*trace component time"], groups: Sequence[Sequence[int]]
) -> Float[Tensor, "*trace group time"]:
    """The sum of the components of each group."""
    number = components.shape[-2]
    if any(not -number <= i < number for group in groups for i in group):
        raise SeislatentError(f"groups {list(map(list, groups))} name a component beyond the {number} there are")
    return torch.stack([components[..., list(group), :].sum(-2) for group in groups], -2)
