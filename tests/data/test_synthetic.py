import numpy as np
import pytest
from obspy import UTCDateTime

from seislatent.data import stochastic, synthetic
from seislatent.data.instruments import INSTRUMENTS, Instrument, digitise
from seislatent.data.point_sources import DoubleCouple, Explosion, contained_depth_km, moment_nm, yield_kt
from seislatent.data.rays import rays
from seislatent.data.stochastic import Path, Site
from seislatent.data.travel_times import arrivals_s
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
    assert truth["source_type"] == "earthquake" and "split" not in truth
    assert truth["path_back_azimuth_deg"] == (truth["path_azimuth_deg"] + 180) % 360


def test_nothing_moves_before_p_and_most_moves_after_s():
    for seed in range(5):
        w = synthetic.earthquake(np.random.default_rng(seed), 60, 100, magnitude=3, distance_km=60, depth_km=8)
        p, s = int(w.metadata["trace_p_arrival_sample"]), int(w.metadata["trace_s_arrival_sample"])
        peak = np.abs(w.data).max()
        assert p < s
        assert np.abs(w.data[:, :p]).max() < 1e-5 * peak
        assert (w.data[:, p : p + 100] ** 2).sum() > 0
        assert (w.data[:, s:] ** 2).sum() > (w.data[:, p:s] ** 2).sum()


@pytest.mark.parametrize("distance_km, depth_km", [(30, 8), (60, 3), (90, 25), (180, 12)])
def test_p_and_s_stand_where_the_tables_put_them(distance_km, depth_km):
    p_s, s_s = (float(t) for t in arrivals_s(distance_km, depth_km))
    w = synthetic.earthquake(np.random.default_rng(1), 120, 100, 3, distance_km, depth_km)
    truth = w.metadata
    p, s = truth["trace_p_arrival_sample"], truth["trace_s_arrival_sample"]
    assert abs((s - p) / 100 - (s_s - p_s)) < 0.01 and truth["path_p_travel_sec"] == pytest.approx(p_s)
    origin = (UTCDateTime(truth["source_origin_time"]) - UTCDateTime(truth["trace_start_time"])) * 100
    assert abs(origin + 100 * p_s - p) < 1
    assert not np.abs(w.data[:, : int(p)]).max() > 1e-5 * np.abs(w.data).max() and np.abs(w.data[:, int(p) + 1]).min() > 0
    # and S alone begins at its sample
    source, path = DoubleCouple(magnitude=3, depth_km=depth_km), Path(distance_km=distance_km)
    alone = stochastic.seismogram(np.random.default_rng(2), source, path, 12000, 100.0, p, phases="S")
    moved = np.flatnonzero(np.abs(alone[0]) > 1e-6 * np.abs(alone).max())
    assert 0 <= moved[0] - s <= 2  # the window is 0 at its first sample, and small at the second


def test_rays_are_those_of_the_table():
    """Snell: the horizontal slowness is sin(takeoff) over the speed at the source, iasp91's 5.8, 6.5 or 8.04 km/s."""
    for distance_km, depth_km, speed, moho in ((40, 10, 5.8, False), (200, 10, 5.8, True), (200, 28, 6.5, True)):
        ray = rays(distance_km, depth_km)
        assert (ray.takeoff["P"] < np.pi / 2) == moho
        if moho:
            assert np.sin(ray.takeoff["P"]) == pytest.approx(speed / 8.04, rel=0.01)
        slope = np.diff(arrivals_s([distance_km - 2, distance_km + 2], depth_km)[0])[0] / 4
        assert np.sin(ray.takeoff["P"]) / speed == pytest.approx(slope, rel=0.02)
        assert np.sin(ray.incidence["P"]) / 2.9 == pytest.approx(slope, rel=0.02)
    assert rays(0, 12).takeoff == {"P": np.pi, "S": np.pi} and rays(0, 12).incidence == {"P": 0, "S": 0}
    with pytest.raises(SeislatentError, match="95 degrees"):
        rays(15000, 10)


def misfit(source, path, phases, seeds, n, rate, unit="m/s"):
    """Rms over frequency of measured over modelled mean amplitude, less 1: 20 bands that fill the octaves of the record."""
    power = 0.0
    for seed in range(seeds):
        data = stochastic.seismogram(np.random.default_rng(seed), source, path, n, rate, 100, unit, phases)
        power = power + np.abs(np.fft.rfft(data) / rate) ** 2 / seeds
    f = np.fft.rfftfreq(n, 1 / rate)
    modelled = sum(stochastic.mean_spectrum(f, source, path, phase, unit) ** 2 for phase in phases)
    edges = np.geomspace(8 / n * rate, 0.45 * rate, 21)
    band = np.digitize(f, edges)
    rows = [np.sqrt(power[:, band == k].mean(1) / modelled[:, band == k].mean(1)) for k in range(1, 21)]
    return float(np.sqrt(((np.array(rows) - 1) ** 2).mean()))


@pytest.mark.parametrize("unit, bound", [("m", 2e-3), ("m/s", 1e-4), ("m/s^2", 1e-5)])
def test_a_large_earthquake_fits_a_short_record(unit, bound, monkeypatch):
    """Its filter is longer than the record: twice the room changes next to nothing."""
    source, path = DoubleCouple(magnitude=7.5, depth_km=10, stress_drop_pa=3e6), Path(distance_km=30)
    short = stochastic.seismogram(np.random.default_rng(0), source, path, 1000, 50.0, 100, unit)
    assert not short[:, :100].any()
    monkeypatch.setattr(stochastic, "fast_length", lambda n: 4 * n)
    long = stochastic.seismogram(np.random.default_rng(0), source, path, 1000, 50.0, 100, unit)
    assert np.abs(short - long).max() < bound * np.abs(long).max()


@pytest.mark.parametrize(
    "source, unit",
    [
        (DoubleCouple(magnitude=4.5, depth_km=10, strike_deg=20, dip_deg=50, rake_deg=35), "m/s"),
        (DoubleCouple(magnitude=3, depth_km=5), "m/s^2"),
        (DoubleCouple(magnitude=4, depth_km=5, dip_deg=40, rake_deg=90), "m"),
        (Explosion(magnitude=4, depth_km=0.4), "m/s"),
    ],
)
def test_spectra_follow_their_model(source, unit):
    """The energy of 40 seeds, path and site as set; with 40 draws in the narrowest bands chance alone gives up to 8 %."""
    path = Path(distance_km=30, coda_s=4, site=Site(resonance=2.0))
    assert misfit(source, path, "S", 40, 4096, 50.0, unit) < 0.1
    assert misfit(source, path, "PS", 20, 4096, 50.0, unit) < 0.15


def test_the_model_is_omega_squared():
    """By hand: plateau, half of it at the corner, a fall by 4 per octave beyond; energy shared out over the components."""
    source, path = DoubleCouple(magnitude=4, depth_km=6), Path(distance_km=8, q0=1e9)
    moment = 10**15.1
    corner = 490.6 * 3.5 * (8e6 / moment) ** (1 / 3)
    r = 1e3 * np.sqrt(6**2 + 8**2 + 10 ** (2 * 0.55))
    plateau = 2 * moment / (4 * np.pi * 2800 * 3500**3 * r)
    f = np.array([0, corner, 50 * corner, 100 * corner])
    found = stochastic.displacement_spectrum(f, source, path, rays(8, 6), "S")
    assert found[0] == pytest.approx(plateau) and found[1] == pytest.approx(plateau / 2)
    assert found[2] / found[3] == pytest.approx(4, rel=1e-3)
    assert source.corner_hz("P") == pytest.approx(1.5 * corner)
    far = Path(distance_km=200, q0=150, q_power=0.4)
    lost = np.exp(-np.pi * rays(200, 6).time_s["S"] * 3**0.6 / 150)
    expected = 2 * source.displacement(np.array([3.0]), "S") * lost / np.sqrt(40e3 * 1e3 * stochastic.effective_km(source, far))
    assert stochastic.displacement_spectrum(np.array([3.0]), source, far, rays(200, 6), "S") == pytest.approx(expected)
    bare = Path(distance_km=8, q0=1e9, site=Site(crust=0, kappa_s=0))
    whole = (stochastic.mean_spectrum(f, source, bare, "S", "m") ** 2).sum(0)
    factors = source.radiation(30, rays(8, 6).takeoff)
    energy = 0.73 * (factors["SV"] ** 2 + factors["SH"] ** 2) + 0.27 * 0.4
    np.testing.assert_allclose(whole, energy * found**2)


def test_site_by_hand():
    f = np.array([0.0, 2.0, 4.0])
    z, n, e = Site(kappa_s=0.05, gain=3.0, resonance_hz=2.0, resonance=1.5).response(f)
    np.testing.assert_array_equal(n, e)
    assert z[0] == pytest.approx(3.0) and n[2] / 3 * np.exp(np.pi * 0.05 * 4) == pytest.approx(2.18, rel=0.03)
    assert n[1] / z[1] == pytest.approx(2.5 * np.sqrt(1.83), rel=0.01)  # the table has 1.80 at 1.9 Hz and 1.99 at 2.8 Hz


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
    source = DoubleCouple(magnitude=4, strike_deg=20, dip_deg=50, rake_deg=35)
    takeoffs, azimuths = np.arccos(rng.uniform(-1, 1, 20000)), rng.uniform(0, 360, 20000)
    factors = [source.radiation(a, {"P": i, "S": i}) for a, i in zip(azimuths, takeoffs, strict=True)]
    p, sv, sh = (np.array([f[mode] for f in factors]) for mode in ("P", "SV", "SH"))
    assert np.sqrt((p**2).mean()) == pytest.approx(source.average["P"], rel=0.02)
    assert np.sqrt((sv**2 + sh**2).mean()) == pytest.approx(source.average["S"], rel=0.02)


def test_ray_directions_are_orthonormal():
    vectors = np.stack(list(stochastic.ray_directions(70, 0.4).values()))
    np.testing.assert_allclose(vectors @ vectors.T, np.eye(3), atol=1e-12)


def test_an_explosion_by_hand():
    """Sharpe's sphere: the moment back from its pressure, the fall beyond the corner, no mechanism; a yield back from its depth."""
    shot = Explosion(magnitude=3.5, depth_km=0.5)
    assert 3 * np.pi * 1.5 * 2650 * 9.81 * 500 * shot.radius_m**3 == pytest.approx(moment_nm(3.5))
    corner = shot.corner_hz("P")
    assert corner == pytest.approx(np.sqrt(4 / 3) * 5000 / (2 * np.pi * shot.radius_m)) and 5 < corner < 15
    assert shot.corner_hz("S") == pytest.approx(corner / np.sqrt(3))
    level = shot.displacement(np.array([0, 100 * corner]), "P")
    assert level[0] == pytest.approx(moment_nm(3.5) / (4 * np.pi * 2650 * 5000**3))
    assert level[1] / level[0] == pytest.approx(1e-4, rel=0.01)
    ratio = shot.displacement(np.array([0, 100 * corner]), "S") / level
    np.testing.assert_allclose(ratio, [3, 1], rtol=0.01)
    assert shot.radiation(77, {"P": 1.0, "S": 1.0}) == {"P": 1, "SV": 0, "SH": 0}
    for magnitude in (1, 3, 5):
        depth_km = contained_depth_km(magnitude)
        tons = yield_kt(Explosion(magnitude=magnitude, depth_km=depth_km))
        assert 1e3 * depth_km == pytest.approx(122 * tons ** (1 / 3))
    assert 0.3 < yield_kt(Explosion(magnitude=3.5, depth_km=0.12)) < 3  # about a kiloton, as in the literature


def p_over_s(make, low_hz, high_hz):
    """Spectral amplitude of 2 s after P over that of 4 s after S [seed]: of all components, between two frequencies."""
    out = []
    for seed in range(40):
        w = make(np.random.default_rng(seed), 60, 50, magnitude=2.5 + seed / 40, distance_km=60)
        p, s = int(w.metadata["trace_p_arrival_sample"]), int(w.metadata["trace_s_arrival_sample"])
        parts = []
        for first in (p, s):
            cut = w.data[:, first : first + 150]
            f = np.fft.rfftfreq(512, 0.02)
            spectrum = np.abs(np.fft.rfft(cut, 512)) ** 2
            parts.append(np.sqrt(spectrum[:, (f > low_hz) & (f < high_hz)].mean()))
        out.append(parts[0] / parts[1])
    return np.log(out)


def test_explosions_differ_from_earthquakes_in_p_over_s():
    """At high frequencies nearly always, at low ones less; the explosion has the higher ratio."""

    def right(low_hz, high_hz):
        quakes, shots = (p_over_s(make, low_hz, high_hz) for make in (synthetic.earthquake, synthetic.explosion))
        return float((shots[:, None] > quakes).mean())

    assert right(8, 16) > 0.9
    assert 0.6 < right(1, 2) < right(8, 16)


def test_an_explosion_says_what_it_is():
    w = synthetic.explosion(np.random.default_rng(3), 60, 40, distance_km=50)
    quake = synthetic.earthquake(np.random.default_rng(3), 60, 40)
    truth = w.metadata
    assert truth["source_type"] == "explosion" and list(truth) == list(quake.metadata)
    assert 1 <= truth["source_magnitude"] <= 4.5 and truth["source_depth_km"] < 1
    assert np.isnan(truth["source_strike_deg"]) and truth["source_yield_kt"] > 0 and np.isnan(quake.metadata["source_yield_kt"])
    assert truth["path_p_travel_sec"] == pytest.approx(float(arrivals_s(50, truth["source_depth_km"])[0]))


def test_peaks_are_those_of_a_ground_motion_model():
    """Boore, Stewart, Seyhan and Atkinson (2014) on rock: mean, and each half of the magnitudes and distances, within its sigma."""
    pygmm = pytest.importorskip("pygmm")
    rows = []
    for k in range(60):
        magnitude, distance_km = 3.6 + 3.3 * (k % 12) / 11, 10 * 14 ** (k / 59)
        rng, seconds = np.random.default_rng(k), 40 + distance_km / 2
        w = synthetic.earthquake(rng, seconds, 50, magnitude, distance_km, site="rock", unit="m/s^2")
        turn = np.radians(np.arange(0, 180, 10))[:, None]
        peak = np.median(np.abs(np.cos(turn) * w.data[1] + np.sin(turn) * w.data[2]).max(1)) / 9.81
        scenario = pygmm.Scenario(mag=magnitude, dist_jb=distance_km, v_s30=760, mechanism="SS", region="california")
        model = pygmm.BooreStewartSeyhanAtkinson2014(scenario)
        rows.append((magnitude > 5.25, distance_km > 37, np.log(peak / model.pga), float(model.ln_std_pga)))
    large, far, residual, sigma = (np.array(column) for column in zip(*rows, strict=True))
    for part in (large, ~large, far, ~far):
        assert abs(residual[part].mean()) < sigma.mean()
    assert abs(residual.mean()) < 0.5 * sigma.mean()
    assert residual.std() < 1.5 * sigma.mean()


@pytest.mark.parametrize("name", list(INSTRUMENTS))
def test_an_instrument_counts_what_its_response_says(name):
    """Counts over response are the ground motion that went in, where the digitiser resolves it."""
    it = INSTRUMENTS[name]
    ground = synthetic.earthquake(np.random.default_rng(4), 60, 100, 4, 40, 8, unit=it.unit)
    w = synthetic.earthquake(np.random.default_rng(4), 60, 100, 4, 40, 8, instrument=it)
    assert w.unit == "counts" and w.data.dtype == np.int32 and w.sampling_rate_hz == 100
    f = np.fft.rfftfreq(24000, 0.01)
    band = (f > max(0.2, 0.2 * it.corner_hz)) & (f < 30)
    back = np.fft.rfft(w.data, 24000)[:, band] / it.response(f[band], 100)
    there = np.fft.rfft(ground.data, 24000)[:, band]
    assert np.sqrt((np.abs(back - there) ** 2).sum() / (np.abs(there) ** 2).sum()) < 0.01
    truth = w.metadata
    assert truth["instrument_name"] == name and truth["instrument_antialias_hz"] == pytest.approx(40)
    p = int(truth["trace_p_arrival_sample"])
    assert np.abs(w.data[:, :p]).max() <= 1e-5 * np.abs(w.data).max() + 1
    gain = np.abs(it.response(np.array([it.corner_hz, 20 * it.corner_hz + 0.1]), 100)) / it.counts_per_unit
    assert gain[0] == pytest.approx(1 / (2 * it.damping) if it.corner_hz else 1, rel=0.01)  # by hand: 1 / (2 h) at the corner
    assert w.channels[0].code == {"broadband": "HHZ", "accelerometer": "HNZ"}.get(name, "EHZ")


def test_too_strong_motion_is_cut_and_told():
    it = Instrument(name="small", counts_per_unit=1e6, clip_counts=1000)
    w = synthetic.earthquake(np.random.default_rng(1), 60, 50, 5.5, 20, 10, instrument=it)
    assert np.abs(w.data).max() == 1000
    for row, c in zip(w.data, "ZNE", strict=True):
        share = w.metadata[f"trace_{c}_clipped_share"]
        assert share > 0.01 and share == pytest.approx((np.abs(row) == 1000).mean(), abs=0.005)


def test_noise_first_then_the_instrument():
    ground = synthetic.earthquake(np.random.default_rng(1), 30, 50, 3, 20, 10, unit="m/s^2")
    noisy = synthetic.with_noise(np.random.default_rng(2), ground, 20, "typical")
    w = digitise(noisy, INSTRUMENTS["accelerometer"])
    assert w.data.dtype == np.int32 and len(w.history) == 3 and w.metadata["trace_snr_db"] == 20
    with pytest.raises(SeislatentError, match="measures m/s and"):
        digitise(noisy, INSTRUMENTS["broadband"])
    drawn = {synthetic.earthquake(np.random.default_rng(s), 5, 50, instrument="any").metadata["instrument_name"] for s in range(20)}
    assert drawn == set(INSTRUMENTS)


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
    for wrong in ({"site": "mud"}, {"instrument": "seismoscope"}, {"unit": "km"}, {"magnitude": 40}, {"distance_km": 15000}):
        with pytest.raises(SeislatentError, match=str(next(iter(wrong.values())))):
            synthetic.earthquake(rng, 10, 40, **wrong)
        with pytest.raises(SeislatentError):
            synthetic.explosion(rng, 10, 40, **wrong)
    with pytest.raises(SeislatentError, match="damping"):
        Instrument(name="stuck", damping=0)
    with pytest.raises(SeislatentError, match="cannot be sampled"):
        synthetic.earthquake(rng, 10, 8, instrument="geophone")
    with pytest.raises(SeislatentError, match="samples"):
        synthetic.earthquake(rng, -1, 40)
