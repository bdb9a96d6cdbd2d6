import numpy as np
import pytest

from seislatent.signal.onset import onset


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize(("at", "scale"), [(300, 1.0), (1500, 1e-9), (2900, 1e9)])
def test_the_sample_at_which_noise_grows(seed, at, scale):
    rng = np.random.default_rng(seed)
    x = rng.normal(0, 1, 4000)
    x[at:] *= 10
    drift = 500 + np.linspace(0, 20, 4000)
    assert onset(scale * (x + drift), 100.0) == pytest.approx(at, abs=5)


def test_where_nothing_sets_in():
    noise = np.random.default_rng(0).normal(0, 1, 4000)
    assert onset(noise, 100.0) is None
    for x in (np.zeros(1000), np.full(1000, 7.0), np.array([]), noise[:30], np.where(np.arange(4000) == 9, np.nan, noise)):
        assert onset(x, 100.0) is None
    assert onset(noise[::-1] * np.r_[np.full(2000, 10), np.ones(2000)], 100.0) is None  # it dies down, and sets in nowhere
