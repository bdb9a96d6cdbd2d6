"""Travel times from the table against TauP itself."""

import numpy as np
import pytest
from obspy.taup import TauPyModel

from seislatent.data.travel_times import FARTHEST_KM, KM_PER_DEGREE, arrivals_s, nodes, tabulate


@pytest.fixture(scope="module")
def taup():
    return TauPyModel("iasp91")


@pytest.mark.parametrize(
    ("near_km", "far_km", "deepest_km", "count", "limit_s"),
    [(0, 10, 15, 25, 0.05), (0, 150, 40, 60, 0.05), (150, 1000, 700, 60, 0.05), (1000, FARTHEST_KM, 700, 60, 0.1)],
)
def test_the_table_gives_what_taup_gives(taup, near_km, far_km, deepest_km, count, limit_s):
    rng = np.random.default_rng(round(far_km))
    distance, depth = rng.uniform(near_km, far_km, count), rng.uniform(0, deepest_km, count)
    for found, phases in zip(arrivals_s(distance, depth), (["ttp"], ["s", "S", "Sn", "Sdiff"]), strict=True):
        true = [taup.get_travel_times(z, x / KM_PER_DEGREE, phases)[0].time for x, z in zip(distance, depth, strict=True)]
        assert np.abs(found - true).max() < limit_s


def test_shapes_edges_and_what_is_not_known():
    p, s = arrivals_s(np.array([[0.0, 50, 9000]]), np.array([[0.0], [10], [600]]))
    assert p.shape == s.shape == (3, 3) and (s[1:] > p[1:]).all() and p[0, 0] == s[0, 0] == 0
    assert p[1, 0] == pytest.approx(10 / 5.8, abs=1e-4) and s[1, 0] == pytest.approx(10 / 3.36, abs=1e-4)
    assert 13 * 60 < arrivals_s(FARTHEST_KM, 0)[0] < 14 * 60 and np.diff(arrivals_s(np.linspace(0, FARTHEST_KM, 999), 0)).min() > 0
    assert arrivals_s(20, -2)[0] == arrivals_s(20, 0)[0]
    strange = [(np.nan, 5), (5, np.nan), (FARTHEST_KM + 1, 5), (-1, 5), (5, 701)]
    assert all(np.isnan(arrivals_s(*one)).all() for one in strange)


def test_the_table_is_what_the_command_makes():
    depths, distances = nodes()
    chosen = (np.array([0.0, 12, 33]), np.array([0.0, 1, 80, 900]))
    made = tabulate(*chosen)
    z, x = (a.ravel() for a in np.meshgrid(*chosen, indexing="ij"))
    assert np.isin(z, depths).all() and np.isin(x, distances).all()
    line = np.sqrt(z**2 + 4 * 6371 * (6371 - z) * np.sin(x / 6371 / 2) ** 2)
    for found, wave in zip(arrivals_s(x, z), "ps", strict=True):
        np.testing.assert_allclose(found, made[f"{wave}_s_per_km"].ravel() * line, atol=1e-4)
