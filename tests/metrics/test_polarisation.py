import math

import numpy as np
import pytest
import torch
from obspy.signal.polarization import flinn

from seislatent.errors import SeislatentError
from seislatent.metrics.polarisation import polarisation

RATE = 100.0


def noise(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def line(azimuth_deg, incidence_deg, n=400, seed=0):
    """Motion along a line that points up and towards an azimuth: [3 time] of Z, N, E."""
    a, i = math.radians(azimuth_deg), math.radians(incidence_deg)
    axis = torch.tensor([math.cos(i), math.sin(i) * math.cos(a), math.sin(i) * math.sin(a)], dtype=torch.float64)
    return axis[:, None] * noise(n, seed=seed)


@pytest.mark.parametrize(
    ("azimuth", "incidence"),
    [(30, 20), (140, 70), (200, 45), (359, 10), (271, 89), (90, 90), (0, 90), (45, 90), (120, 90), (170, 90), (10, 5)],
)
def test_a_line_is_found(azimuth, incidence):
    found = polarisation(line(azimuth, incidence), RATE)
    assert found.rectilinearity.item() == pytest.approx(1, abs=1e-6) and found.planarity.item() == pytest.approx(1, abs=1e-6)
    assert (found.azimuth_deg.item() - azimuth + 180) % 360 - 180 == pytest.approx(0, abs=1e-5)
    assert found.incidence_deg.item() == pytest.approx(incidence, abs=1e-5)


def test_parity_with_obspy():
    for seed in range(20):
        mix = noise(3, 3, seed=100 + seed)
        x = mix @ noise(3, 500, seed=seed)
        found = polarisation(x, RATE)
        azimuth, incidence, rectilinearity, planarity = flinn([row.numpy() for row in x])
        assert found.rectilinearity.item() == pytest.approx(rectilinearity, abs=1e-9)
        assert found.planarity.item() == pytest.approx(planarity, abs=1e-9)
        assert found.incidence_deg.item() == pytest.approx(incidence, abs=1e-6)
        assert (found.azimuth_deg.item() - azimuth + 90) % 180 - 90 == pytest.approx(0, abs=1e-6)


def test_a_circle_lies_in_a_plane_and_has_no_line():
    t = 2 * math.pi * torch.arange(400, dtype=torch.float64) / 100
    found = polarisation(torch.stack([t.sin(), t.cos(), 0 * t]), RATE)
    assert found.rectilinearity.item() == pytest.approx(0, abs=1e-6) and found.planarity.item() == pytest.approx(1, abs=1e-6)


def test_values_by_hand():
    """Uncorrelated components of variances 16, 4, 1: 1 - sqrt(4 / 16), 1 - 2 / 20."""
    t = 2 * math.pi * torch.arange(600, dtype=torch.float64) / 600
    x = torch.stack([1 * (3 * t).sin(), 4 * (5 * t).sin(), 2 * (7 * t).sin()])
    found = polarisation(1e-8 * x + 1e-6, RATE)
    assert found.rectilinearity.item() == pytest.approx(0.5) and found.planarity.item() == pytest.approx(0.9)
    assert found.azimuth_deg.item() == pytest.approx(0, abs=1e-5) and found.incidence_deg.item() == pytest.approx(90)


def test_windows_and_batches():
    x = torch.cat([line(30, 20, 400), line(200, 60, 400)], -1).expand(2, 5, 3, 800)
    found = polarisation(x, RATE, window_s=4.0, hop_s=4.0)
    assert found.azimuth_deg.shape == (2, 5, 2) and found.start_s.tolist() == [0, 4]
    torch.testing.assert_close(found.azimuth_deg[1, 4], torch.tensor([30.0, 200.0], dtype=torch.float64))
    torch.testing.assert_close(found.incidence_deg[0, 0], torch.tensor([20.0, 60.0], dtype=torch.float64))
    assert polarisation(x, RATE, window_s=4.0).start_s.tolist() == [0, 2, 4]


@pytest.mark.parametrize("amplitude", [1e-25, 1.0, 1e25])
def test_float32_at_any_amplitude(amplitude):
    found = polarisation(amplitude * line(75, 30).float(), RATE)
    assert found.rectilinearity.dtype == torch.float32 and found.rectilinearity > 0.999
    assert found.azimuth_deg.item() == pytest.approx(75, abs=1e-2)


@pytest.mark.parametrize("value", [0.0, 0.1, -1e9])
def test_where_nothing_moves_there_is_no_direction(value):
    found = polarisation(torch.full((3, 200), value), RATE)
    assert found.rectilinearity == 0 and found.planarity == 0
    assert found.azimuth_deg.isnan() and found.incidence_deg.isnan()


@pytest.mark.parametrize(
    ("x", "options", "said"),
    [
        (torch.zeros(2, 100), {}, "Z, N, E"),
        (torch.zeros(100), {}, "Z, N, E"),
        (torch.zeros(3, 1), {}, "2 samples"),
        (torch.zeros(3, 100), {"window_s": 2.0}, "no longer than"),
        (torch.zeros(3, 100), {"window_s": 0.5, "hop_s": 0.0}, "hop_s"),
        (torch.full((3, 9), np.nan), {}, "NaN"),
    ],
)
def test_bad_input_is_told(x, options, said):
    with pytest.raises(SeislatentError, match=said):
        polarisation(x, RATE, **options)
