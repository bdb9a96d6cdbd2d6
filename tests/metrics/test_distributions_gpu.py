"""Measures of distributions give on a GPU what they give on a CPU."""

import dataclasses

import pytest
import torch

from seislatent.metrics.discrepancy import maximum_mean_discrepancy
from seislatent.metrics.disentangle import invariance, leak, retrieval, swap_error
from seislatent.metrics.diversity import coverage_density, pairwise_distance, pit_histogram, spread_calibration
from seislatent.metrics.frechet import frechet_distance, frechet_extrapolated, frechet_with_floor, log_spectra
from seislatent.metrics.memorisation import memorisation, memorisation_of_features
from seislatent.metrics.normality import normality

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")]

EVENT = [i // 3 for i in range(60)]
MEASURES = {
    "log spectra": lambda x, y, w, g: log_spectra(w, 20.0, [(1.0, 4.0), (4.0, 9.0)]),
    "frechet": lambda x, y, w, g: frechet_distance(x, y, shrink=True),
    "floor": lambda x, y, w, g: frechet_with_floor(x, y, g, events=EVENT, generated_events=EVENT, repeats=3),
    "extrapolated": lambda x, y, w, g: frechet_extrapolated(x, y, g),
    "discrepancy": lambda x, y, w, g: maximum_mean_discrepancy(x, y, g, events=EVENT, other_events=EVENT),
    "pairwise": lambda x, y, w, g: pairwise_distance(x),
    "coverage": lambda x, y, w, g: coverage_density(x, y),
    "spread": lambda x, y, w, g: spread_calibration(torch.stack([x + i for i in range(-3, 4)]), y, g),
    "pit": lambda x, y, w, g: pit_histogram(torch.sigmoid(x), bins=5, events=EVENT),
    "memorisation": lambda x, y, w, g: memorisation(w[:20], w[20:40], w[40:], 20.0, g, max_shift_s=0.5, candidates=5),
    "features": lambda x, y, w, g: memorisation_of_features(x[:20], x[20:], y, g, permutations=99),
    "normality": lambda x, y, w, g: normality(x, g, events=EVENT, simulations=19),
    "swap": lambda x, y, w, g: swap_error(w, w + 1, w + 2, w + 3, 20.0),
    "invariance": lambda x, y, w, g: invariance(x, EVENT),
    "retrieval": lambda x, y, w, g: retrieval(x, EVENT, distance="cosine"),
    "leak": lambda x, y, w, g: leak(x, y[:, :2], EVENT, g),
    "leak of classes": lambda x, y, w, g: leak(x, y[:, 0] > 0, EVENT, g),
}


def told(name, device):
    g = torch.Generator().manual_seed(0)
    x, y = (torch.randn(60, 5, generator=g, dtype=torch.float64).to(device) for _ in range(2))
    w = torch.randn(60, 2, 100, generator=g, dtype=torch.float64).to(device)
    found = MEASURES[name](x, y, w, g)
    return [found] if isinstance(found, torch.Tensor) else [getattr(found, f.name) for f in dataclasses.fields(found)]


@pytest.mark.parametrize("name", MEASURES)
def test_a_gpu_gives_the_same_values(name):
    for here, there in zip(told(name, "cpu"), told(name, "cuda"), strict=True):
        if isinstance(here, torch.Tensor):
            torch.testing.assert_close(there.cpu(), here)
        else:
            assert there == pytest.approx(here)
