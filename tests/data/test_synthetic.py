import numpy as np
import pytest

from seislatent.data import stochastic, synthetic
from seislatent.data.stochastic import Path, Source
from seislatent.errors import SeislatentError


def test_one_seed_one_record():
    one, two, other = (synthetic.earthquake(np.random.default_rng(seed), 30, 40) for seed in (1, 1, 2))
    np.testing.assert_array_equal(one.data, two.data)
    assert str(one.metadata) == str(two.metadata)
    assert not np.array_equal(one.data, other.data)
    draws = [synthetic.mixture(np.random.default_rng(s), 2560, 40) for s in (3, 3)]
    np.testing.assert_array_equal(*draws)
    assert draws[0].dtype == np.float32 and draws[0].shape == (2560,)


def test_a_record_says_what_it_is():
    w = synthetic.earthquake(np.random.default_rng(5), 60, 40, magnitude=4, distance_km=60, depth_km=8)
    assert w.components == ("Z", "N", "E") and w.unit == "m/s" and w.data.shape == (3, 2400) and w.history
    truth = w.metadata
    assert truth["source_magnitude"] == 4 and truth["source_depth_km"] == 8
    assert truth["path_hyp_distance_km"] == pytest.approx(np.hypot(60, 8))
    lag = (truth["trace_s_arrival_sample"] - truth["trace_p_arrival_sample"]) / 40
    assert lag == pytest.approx(truth["path_s_travel_sec"] - truth["path_p_travel_sec"])
    assert lag == pytest.approx(60.5 / 6.2 * (np.sqrt(3) - 1), rel=0.01)
    assert "split" not in truth


def test_nothing_moves_before_p_and_most_moves_after_s():
    for seed in range(5):
        w = synthetic.earthquake(np.random.default_rng(seed), 60, 100, magnitude=3, distance_km=60, depth_km=8)
        p, s = int(w.metadata["trace_p_arrival_sample"]), int(w.metadata["trace_s_arrival_sample"])
        peak = np.abs(w.data).max()
        assert p < s
        assert np.abs(w.data[:, :p]).max() < 1e-5 * peak
        assert (w.data[:, p : p + 100] ** 2).sum() > 0
        assert (w.data[:, s:] ** 2).sum() > (w.data[:, p:s] ** 2).sum()


def test_displacement_falls_as_frequency_squared_beyond_the_corner():
    """The mean spectrum of many draws is the omega-squared model, which at the corner is half its plateau."""
    source, rate, n = Source(magnitude=5, depth_km=10), 40.0, 4096
    path = Path(distance_km=30, q0=1e9, kappa_s=0, coda_share=0.0)
    power = 0.0
    for seed in range(60):
        rng = np.random.default_rng(seed)
        velocity = stochastic.seismogram(rng, source, path, n, rate, 100)[2]
        power = power + np.abs(np.fft.rfft(velocity) / rate) ** 2
    f = np.fft.rfftfreq(n, 1 / rate)[1:]
    displacement = np.sqrt(power[1:] / 60) / (2 * np.pi * f)

    def level(low, high):
        return np.sqrt((displacement[(f > low) & (f < high)] ** 2).mean())

    corner = source.corner_hz("S")
    assert 0.5 < corner < 1
    assert level(2, 2.5) / level(8, 10) == pytest.approx(16, rel=0.3)
    assert level(0.85 * corner, 1.15 * corner) / level(0.05, 0.2) == pytest.approx(0.5, rel=0.25)


def test_plateau_is_the_moment_by_hand():
    source, path = Source(magnitude=4, depth_km=6), Path(distance_km=8)
    moment = 10**15.1
    by_hand = 2 * moment / (4 * np.pi * 2800 * (6200 / np.sqrt(3)) ** 3 * 10e3)
    assert stochastic.displacement_spectrum(np.zeros(1), source, path, "S")[0] == pytest.approx(by_hand)
    assert source.corner_hz("S") == pytest.approx(0.4906 * 6200 / np.sqrt(3) * (5e6 / moment) ** (1 / 3))


def peak_m_s(magnitude, distance_km):
    records = (synthetic.earthquake(np.random.default_rng(s), 90, 40, magnitude, distance_km, 10.0) for s in range(12))
    return float(np.median([np.abs(w.data).max() for w in records]))


def test_amplitude_grows_with_magnitude_and_falls_with_distance():
    peaks = [peak_m_s(m, 40) for m in (2, 4, 6)]
    assert peaks[0] < peaks[1] / 10 < peaks[2] / 100
    far = [peak_m_s(4, d) for d in (10, 40, 150)]
    assert far[0] > 2 * far[1] > 4 * far[2]
    assert 5e-4 < peak_m_s(5, 50) < 2e-2  # a few mm/s: metres per second, not counts


def test_radiation_has_its_root_mean_square_over_the_sphere():
    rng = np.random.default_rng(0)
    source = Source(magnitude=4, strike_deg=20, dip_deg=50, rake_deg=35)
    takeoffs, azimuths = np.arccos(rng.uniform(-1, 1, 20000)), rng.uniform(0, 360, 20000)
    p, sv, sh = np.array([stochastic.radiation(source, a, i) for a, i in zip(azimuths, takeoffs, strict=True)]).T
    assert np.sqrt((p**2).mean()) == pytest.approx(stochastic.AVERAGE_RADIATION["P"], rel=0.02)
    assert np.sqrt((sv**2 + sh**2).mean()) == pytest.approx(stochastic.AVERAGE_RADIATION["S"], rel=0.02)


def test_ray_directions_are_orthonormal():
    vectors = np.stack(list(stochastic.ray_directions(70, 0.4).values()))
    np.testing.assert_allclose(vectors @ vectors.T, np.eye(3), atol=1e-12)


def test_arrivals_grow_with_distance_and_turn_to_the_moho():
    times = [stochastic.arrivals(d, 10)[0] for d in (0, 10, 50, 150, 300)]
    assert times == sorted(times) and times[0] == pytest.approx(10 / 6.2)
    assert stochastic.arrivals(300, 10)[0] < np.hypot(300, 10) / 6.2


@pytest.mark.parametrize("kind", [None, *synthetic.NOISE_KINDS])
def test_noise_is_finite_at_a_real_level(kind):
    x = synthetic.noise(np.random.default_rng(1), 5000, 40, kind)
    assert x.shape == (5000,) and np.isfinite(x).all()
    assert 1e-10 < x.std() < 1e-4


def test_natural_noise_peaks_at_the_microseism():
    power = 0.0
    for seed in range(20):
        x = synthetic.noise(np.random.default_rng(seed), 8192, 40, "quiet")
        power = power + np.abs(np.fft.rfft(x / x.std() * np.hanning(8192))) ** 2
    peak_hz = np.fft.rfftfreq(8192, 1 / 40)[np.argmax(power)]
    assert 0.1 < peak_hz < 0.35


def test_noise_is_added_at_the_ratio_asked_for():
    w = synthetic.earthquake(np.random.default_rng(7), 40, 40, magnitude=4, distance_km=30)
    noisy = synthetic.with_noise(np.random.default_rng(8), w, 10, "typical")
    p = int(w.metadata["trace_p_arrival_sample"])
    added = noisy.data.astype(float) - w.data
    ratio = (w.data[:, p:].astype(float) ** 2).mean(1).max() / (added**2).mean()
    assert 10 * np.log10(ratio) == pytest.approx(10, abs=0.1)
    assert noisy.metadata["trace_snr_db"] == 10 and len(noisy.history) == 2


@pytest.mark.parametrize("n", [0, 1, 2, 3])
def test_few_samples(n):
    rng = np.random.default_rng(0)
    assert synthetic.noise(rng, n, 40).shape == (n,)
    assert np.isfinite(synthetic.mixture(rng, n, 40)).all()
    assert np.isfinite(synthetic.earthquake(rng, n / 40, 40).data).all()


def test_every_mixture_is_finite_and_alive():
    rng = np.random.default_rng(11)
    for _ in range(200):
        x = synthetic.mixture(rng, 1024, 40)
        assert np.isfinite(x).all() and x.std() > 0


def test_bad_requests_are_told():
    rng = np.random.default_rng(0)
    with pytest.raises(SeislatentError, match="did you mean 'urban'"):
        synthetic.noise(rng, 10, 40, "urbane")
    with pytest.raises(SeislatentError, match="depth"):
        synthetic.earthquake(rng, 10, 40, depth_km=-3)
    with pytest.raises(SeislatentError, match="samples"):
        synthetic.earthquake(rng, -1, 40)
