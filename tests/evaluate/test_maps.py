import importlib
import sys

import numpy as np
import pytest
import torch

from seislatent.errors import SeislatentError
from seislatent.evaluate.maps import embedding, map_picture, principal_components, write_picture


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def clusters(each=40):
    """Three clouds far from each other in ten dimensions, and whose they are."""
    label = torch.arange(3).repeat_interleave(each)
    return 20 * normal(3, 10)[label] + normal(3 * each, 10, seed=1), label


def test_principal_components_are_the_eigenvectors_of_the_covariance():
    x = normal(200, 6) @ normal(6, 6, seed=1) + 5
    found = principal_components(x, 4)
    energy, axes = torch.linalg.eigh(x.T.cov())
    torch.testing.assert_close(found.shares, (energy / energy.sum()).flip(0)[:4])
    torch.testing.assert_close((found.axes @ axes.flip(1)[:, :4]).abs(), torch.eye(4, dtype=torch.float64), atol=1e-9, rtol=0)
    torch.testing.assert_close(found.scores.var(0), energy.flip(0)[:4])
    torch.testing.assert_close(found.project(x), found.scores)
    torch.testing.assert_close(principal_components(1e-7 * x, 4).axes, found.axes)
    assert (found.axes.gather(1, found.axes.abs().argmax(1, keepdim=True)) > 0).all()
    whole = principal_components(x, 6)
    torch.testing.assert_close(whole.scores @ whole.axes + whole.mean, x)
    wide = principal_components(x[:4].repeat(1, 3), 3)
    assert wide.shares.sum().item() == pytest.approx(1)


def test_number_of_components_for_95_percent():
    exact = torch.linalg.qr(normal(50, 5) - normal(50, 5).mean(0)).Q * torch.tensor([91.0, 5.0, 3.0, 0.5, 0.5]).sqrt()
    assert principal_components(exact, 1).needed == 2
    assert principal_components(torch.ones(5, 3), 1).needed == 0 and principal_components(torch.ones(5, 3), 1).shares == 0


# UMAP compiles for a minute
@pytest.mark.parametrize("method", ["pca", "tsne", pytest.param("umap", marks=pytest.mark.slow)])
def test_clusters_stay_apart(method):
    if method != "pca":
        pytest.importorskip({"tsne": "sklearn", "umap": "umap"}[method], reason=f"{method} is an extra")
    x, label = clusters()
    found = embedding(x, method, neighbours=10)
    assert found.shape == (120, 2) and found.dtype == np.float64
    distance = np.linalg.norm(found[:, None] - found[None], axis=-1) + 1e9 * np.eye(120)
    assert (label.numpy()[distance.argmin(1)] == label.numpy()).all()
    if method != "umap":
        np.testing.assert_array_equal(found, embedding(x, method, neighbours=10))


PACKAGES = [("tsne", "sklearn.manifold", "scikit-learn"), ("umap", "umap", "umap-learn")]


@pytest.mark.parametrize(("method", "module", "package"), PACKAGES)
def test_a_missing_package_is_named(method, module, package, monkeypatch):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(SeislatentError, match=f"{package}.*pip install"):
        embedding(clusters()[0], method)
    importlib.invalidate_caches()


def test_a_figure_is_drawn_and_written_whole(tmp_path):
    x, label = clusters(10)
    points = embedding(x)
    names = [f"event {i}" for i in label.tolist()]
    picture = map_picture(points, names, what="event", shares=[0.6, 0.3])
    for name, start in (("map.png", b"\x89PNG"), ("map.svg", b"<?xml")):
        path = write_picture(picture, tmp_path / name)
        assert path.read_bytes().startswith(start)
    svg = (tmp_path / "map.svg").read_text()
    assert "event 2" in svg and "60 % of variance" in svg
    assert sorted(p.name for p in tmp_path.iterdir()) == ["map.png", "map.svg"]
    with pytest.raises(SeislatentError, match="is there"):
        write_picture(picture, tmp_path / "map.svg")
    write_picture(picture, tmp_path / "map.svg", overwrite=True)
    for wrong, words in (("map.pdf", "ends in"), ("no/map.png", "no such folder")):
        with pytest.raises(SeislatentError, match=words):
            write_picture(picture, tmp_path / wrong)


def test_numbers_many_names_and_three_dimensions():
    x, label = clusters(10)
    assert b"magnitude" in map_picture(embedding(x), label.double(), what="magnitude").svg
    many = map_picture(embedding(x), [f"s{i}" for i in range(30)]).svg
    assert b"23 others" in many
    three = map_picture(embedding(x, dimensions=3), label).svg
    assert three.count(b"principal component 3") >= 2
    assert map_picture(embedding(x)).png == map_picture(embedding(x)).png


def test_bad_input_is_told():
    x, label = clusters(10)
    points = embedding(x)
    for call, words in [
        (lambda: principal_components(x[:1]), "at least 2"),
        (lambda: principal_components(x / 0), "NaN"),
        (lambda: principal_components(x, 11), "ask for fewer"),
        (lambda: principal_components(x[None]), "one set"),
        (lambda: embedding(x, "tsme"), "did you mean 'tsne'"),
        (lambda: embedding(x, dimensions=4), "2 or 3"),
        (lambda: map_picture(points * np.nan), "finite"),
        (lambda: map_picture(points[:, :1]), "record 2"),
        (lambda: map_picture(points, label[:9]), "one per point"),
        (lambda: map_picture(points, label.double() * np.nan), "NaN"),
        (lambda: map_picture(points, method="lda"), "unknown method"),
    ]:
        with pytest.raises(SeislatentError, match=words):
            call()
    for method, package in (("tsne", "sklearn"), ("umap", "umap")):
        if importlib.util.find_spec(package):
            with pytest.raises(SeislatentError, match="30 neighbours among 30"):
                embedding(x, method)
