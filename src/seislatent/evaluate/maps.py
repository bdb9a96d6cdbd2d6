"""Codes as points in a plane: principal components, t-SNE and UMAP, drawn.

Principal components need nothing beyond torch; t-SNE needs scikit-learn and UMAP umap-learn (`pip install "seislatent[latent]"`).
A map is for looking: distances between clusters and the sizes of clusters mean nothing in t-SNE and little in UMAP, and both find
clusters in noise. Measures of the same codes are in `metrics/normality.py` and `metrics/disentangle.py`.
"""

from __future__ import annotations

import importlib
import math
import os
import tempfile
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Float
from matplotlib.figure import Figure
from numpy.typing import NDArray
from torch import Tensor

from seislatent.errors import SeislatentError, unknown
from seislatent.evaluate.report import COLOURS, MARKERS, Picture
from seislatent.metrics.points import Labels, checked_sets

METHODS = {"pca": "principal component", "tsne": "t-SNE", "umap": "UMAP"}
FIRST_PCA = 50
"""Dimensions to which codes are brought by principal components before t-SNE and UMAP."""


@dataclass(frozen=True, kw_only=True)
class PrincipalComponents:
    """Codes in the axes of their greatest scatter, in float64."""

    scores: Float[Tensor, "record component"]
    """In the unit of the codes, about zero."""
    axes: Float[Tensor, "component latent"]
    """Orthonormal; the greatest entry of each is positive."""
    shares: Float[Tensor, " component"]
    """Of the total variance, falling; 0 where all codes are the same."""
    mean: Float[Tensor, " latent"]
    needed: int
    """Components that hold 95 % of the variance: seed 004 chooses the size of a latent space by it."""

    def project(self, codes: Float[Tensor, "other latent"]) -> Float[Tensor, "other component"]:
        """Other codes in the same axes."""
        return (codes.to(self.mean) - self.mean) @ self.axes.T


@torch.no_grad()
def principal_components(codes: Float[Tensor, "record latent"], number: int = 2) -> PrincipalComponents:
    """The first `number` principal components (Pearson 1901) of at least two codes.

    Raises SeislatentError for values that are not finite or more components than latents or records.
    """
    (sets,), shape = checked_sets(codes, names=("codes",), least=2)
    if shape:
        raise SeislatentError(f"one set of codes at a time, not {shape}: give [record latent]")
    points = sets[0].to(torch.float64)
    if not 1 <= number <= min(points.shape):
        raise SeislatentError(f"{number} principal components of {points.shape[0]} codes of {points.shape[1]}: ask for fewer")
    mean = points.mean(0)
    apart = points - mean
    # R of QR has the singular values of the codes and only as many rows as latents
    small = torch.linalg.qr(apart, mode="r").R if len(apart) > apart.shape[1] else apart
    _, values, axes = torch.linalg.svd(small, full_matrices=False)
    axes = axes[:number]
    axes = axes * axes.gather(1, axes.abs().argmax(1, keepdim=True)).sign()
    energy = values.square()
    shares = energy / energy.sum() if float(energy.sum()) > 0 else torch.zeros_like(energy)
    return PrincipalComponents(
        scores=apart @ axes.T,
        axes=axes,
        shares=shares[:number],
        mean=mean,
        needed=int((shares.cumsum(0) < 0.95 - 1e-12).sum()) + 1 if float(energy.sum()) > 0 else 0,
    )


def embedding(
    codes: Float[Tensor, "record latent"],
    method: Literal["pca", "tsne", "umap"] = "pca",
    *,
    dimensions: int = 2,
    seed: int = 0,
    neighbours: int = 30,
) -> NDArray[np.float64]:
    """Codes in 2 or 3 dimensions [record dimension], on the CPU; the same numbers for the same seed on the same machine.

    `neighbours` is the perplexity of t-SNE (van der Maaten and Hinton 2008) and the number of neighbours of UMAP (McInnes et al.
    2018): small shows near neighbours, large the whole.

    Raises SeislatentError for an unknown method, a package that is missing, or too few codes for `neighbours`.
    """
    if method not in METHODS:
        raise SeislatentError(unknown("method", method, METHODS))
    if dimensions not in (2, 3):
        raise SeislatentError(f"a map of {dimensions} dimensions: 2 or 3 can be drawn")
    if method == "pca":
        return np.asarray(principal_components(codes, dimensions).scores.cpu())
    if not 2 <= neighbours < len(codes):
        raise SeislatentError(f"{neighbours} neighbours among {len(codes)} codes: take from 2 to {len(codes) - 1}")
    package, name = {"tsne": ("sklearn.manifold", "scikit-learn"), "umap": ("umap", "umap-learn")}[method]
    module = _package(package, name, METHODS[method])
    points = np.asarray(principal_components(codes, min(FIRST_PCA, *codes.shape)).scores.cpu())
    scale = float(np.abs(points).max())
    points = (points / (scale or 1.0)).astype(np.float32)
    if method == "tsne":
        made = module.TSNE(dimensions, perplexity=min(neighbours, (len(codes) - 1) / 3), init="pca", random_state=seed)
    else:
        made = module.UMAP(n_neighbors=neighbours, n_components=dimensions, random_state=seed, n_jobs=1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # both warn of their own innards
        found = np.asarray(made.fit_transform(points), dtype=np.float64)
    if not np.isfinite(found).all():
        raise SeislatentError(f"{METHODS[method]} found no place for some codes: many are the same; take other neighbours or pca")
    return found


def _package(module: str, package: str, what: str) -> Any:
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise SeislatentError(f'{what} needs {package}, which is not here: pip install "seislatent[latent]"') from error


def map_picture(
    points: NDArray[np.float64],
    label: Labels | None = None,
    *,
    method: Literal["pca", "tsne", "umap"] = "pca",
    name: str = "map",
    what: str = "",
    shares: Sequence[float] | None = None,
) -> Picture:
    """A map [record 2 or 3] as a figure of the report: numbers as a colour scale, names (at most 8) as colours and marks.

    `what` names the labels, with their unit; `shares` are those of principal components. Three dimensions are drawn as three
    planes.

    Raises SeislatentError where points are not finite or labels not one per point.
    """
    x = np.asarray(points, dtype=np.float64)
    if x.ndim != 2 or x.shape[1] not in (2, 3) or not len(x) or not np.isfinite(x).all():
        raise SeislatentError(f"points of shape {x.shape}: give finite numbers [record 2] or [record 3]")
    if method not in METHODS:
        raise SeislatentError(unknown("method", method, METHODS))
    values = None if label is None else (label.detach().cpu().numpy() if isinstance(label, Tensor) else np.asarray(label))
    if values is not None and values.shape != (len(x),):
        raise SeislatentError(f"labels of shape {values.shape} for {len(x)} points: give one per point")
    if values is not None and values.dtype.kind == "f" and not np.isfinite(values).all():
        raise SeislatentError("a label of a point is NaN or infinite: name it or leave the point out")
    planes = [(0, 1)] if x.shape[1] == 2 else [(0, 1), (0, 2), (1, 2)]
    by = f", by {what}" if what else ""
    return Picture(
        name=name,
        caption=f"{len(x)} codes, {METHODS[method]}{'s' if method == 'pca' else ''}{by}. "
        + ("Axes in the unit of the code." if method == "pca" else "Axes without unit; only who stands near whom means something."),
        width_in=5.2 * len(planes) + 1,
        height_in=4.6,
        draw=lambda canvas: _draw(canvas, x, values, planes, method, what, shares),
    )


def _draw(
    canvas: Figure,
    x: NDArray[np.float64],
    values: NDArray[Any] | None,
    planes: list[tuple[int, int]],
    method: str,
    what: str,
    shares: Sequence[float] | None,
) -> None:
    axes = canvas.subplots(1, len(planes), squeeze=False)[0]
    size = float(np.clip(3000 / math.sqrt(len(x)) / 10, 4, 30))
    for panel, (i, j) in zip(axes, planes, strict=True):
        if values is None:
            panel.scatter(x[:, i], x[:, j], s=size, color=COLOURS[0], linewidths=0)
        elif values.dtype.kind == "f":
            shown = panel.scatter(x[:, i], x[:, j], s=size, c=values, cmap="viridis", linewidths=0)
        else:
            for k, (text, chosen) in enumerate(_classes(values)):
                colour, mark = COLOURS[k % len(COLOURS)], MARKERS[k % len(MARKERS)]
                panel.scatter(x[chosen, i], x[chosen, j], s=size, color=colour, marker=mark, linewidths=0, label=text)
        for number, side in ((i, panel.set_xlabel), (j, panel.set_ylabel)):
            held = f" ({100 * shares[number]:.0f} % of variance)" if shares is not None else ""
            side(f"{METHODS[method]} {number + 1}{held}")
    if values is not None and values.dtype.kind == "f":
        canvas.colorbar(shown, ax=axes[-1], label=what)
    elif values is not None:
        axes[-1].legend(title=what or None, loc="best")


def _classes(values: NDArray[Any]) -> list[tuple[str, NDArray[np.bool_]]]:
    """The most frequent names, the others as one class when there are more than colours."""
    names, counts = np.unique(values.astype(str), return_counts=True)
    kept = sorted(names[np.argsort(-counts, kind="stable")][: len(COLOURS) - (len(names) > len(COLOURS))].tolist())
    classes = [(name, values.astype(str) == name) for name in kept]
    if len(names) > len(COLOURS):
        classes.append((f"{len(names) - len(kept)} others", ~np.isin(values.astype(str), kept)))
    return classes


def write_picture(picture: Picture, path: str | Path, *, overwrite: bool = False) -> Path:
    """A figure as one PNG or SVG file, complete or not at all.

    Raises SeislatentError for another ending, or a file that is there and may not be replaced.
    """
    path = Path(path)
    kind = path.suffix.lower().lstrip(".")
    if kind not in ("png", "svg"):
        raise SeislatentError(f"{path}: a figure ends in .png or .svg")
    if path.exists() and not overwrite:
        raise SeislatentError(f"{path} is there: name another file or allow it to be replaced")
    if not path.parent.is_dir():
        raise SeislatentError(f"{path.parent}: no such folder for the figure")
    data = picture.png if kind == "png" else picture.svg
    handle, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
    return path
