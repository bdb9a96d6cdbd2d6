"""Faults of known size must be found, and nothing else."""

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from seislatent.data.records import open_records
from seislatent.data.synthetic import earthquake
from seislatent.errors import SeislatentError
from seislatent.prepare.quality import NAMES, QualityConfig, measure, measure_many
from seislatent.waveform import Channel, Waveform

RATE = 100.0
RAW = QualityConfig(snr_band_hz=None)


def record(data, p=None, rate=RATE):
    data = np.atleast_2d(data)
    channels = tuple(Channel(network="XX", station="ABC", code=f"HH{c}", component=c) for c in "ZNE"[: len(data)])
    metadata = {} if p is None else {"trace_p_arrival_sample": p}
    return Waveform(data=data, sampling_rate_hz=rate, channels=channels, unit="counts", metadata=metadata)


def shaken(n=6000, p=3000, ratio=10.0, seed=0, counts=100.0):
    """Noise of `counts` rms, `ratio` times as large from sample p on, slow enough to look like ground motion; int32."""
    rng = np.random.default_rng(seed)
    x = np.convolve(rng.normal(size=n + 20), np.hanning(8), "valid")[:n]
    x *= counts / x.std()
    x[p:] *= ratio * np.exp(-np.arange(n - p) / 4000)
    return np.rint(x).astype(np.int32)


def quality(data, p=None, config=RAW, rate=RATE):
    return measure(record(data, p, rate), config)


@pytest.mark.parametrize("dtype", [np.int32, np.float32, np.float64])
@pytest.mark.parametrize("gain", [1.0, 1e-9, 1e9])
def test_a_clean_record_has_no_fault(dtype, gain):
    data = np.stack([shaken(seed=s) for s in range(3)])
    data = data if dtype == np.int32 else (data * gain).astype(dtype)
    found = quality(data, p=3000)
    for c in "ZNE":
        assert found[f"trace_{c}_gap_share"] == found[f"trace_{c}_clipped_share"] == found[f"trace_{c}_spikes"] == 0
        assert not found[f"trace_{c}_dead"]
    assert set(found) == {f"trace_{c}_{name}" for c in "ZNE" for name in NAMES}


@pytest.mark.parametrize("by", ["rms", "peak"])
def test_snr_is_the_ratio_of_the_two_windows_in_db(by):
    n, p = 4000, 2000
    x = np.full(n, 5.0)  # an offset, which counts for nothing
    x[:p] += np.tile([1.0, -1.0], p // 2)
    x[p:] += np.tile([20.0, -20.0], (n - p) // 2)
    config = QualityConfig(snr_band_hz=None, snr_by=by)
    assert quality(x, p, config)["trace_Z_snr_db"] == pytest.approx(20 * np.log10(20), abs=1e-9)


def test_snr_looks_at_its_windows_only():
    """The noise window ends a second before P: what happens between is neither; nor is what comes after the signal window."""
    x = shaken(n=6000, p=3000, ratio=5).astype(float)
    before = quality(x, 3000)["trace_Z_snr_db"]
    x[2900:3000] *= 50
    x[4000:] *= 50
    x[:1900] *= 50
    assert quality(x, 3000)["trace_Z_snr_db"] == before


def test_snr_in_a_band():
    """A swell of 0.1 Hz hides the arrival until the band takes it out; an upper corner beyond the rate is lowered."""
    t = np.arange(6000) / RATE
    x = shaken(ratio=10) + 1e4 * np.sin(2 * np.pi * 0.1 * t)
    assert quality(x, 3000)["trace_Z_snr_db"] < 3
    assert quality(x, 3000, QualityConfig())["trace_Z_snr_db"] == pytest.approx(20, abs=2.5)
    slow = quality(x[::5], 600, QualityConfig(), rate=20.0)["trace_Z_snr_db"]
    assert np.isfinite(slow)
    assert np.isnan(quality(x, 3000, QualityConfig(snr_band_hz=(50.0, 60.0)))["trace_Z_snr_db"])


@pytest.mark.parametrize("p", [None, np.nan, -5.0, 6000.0, 150.0])
def test_no_snr_without_a_pick_or_a_noise_window(p):
    assert np.isnan(quality(shaken(), p)["trace_Z_snr_db"])


def test_no_snr_where_the_noise_is_filled_or_silent():
    x = shaken()
    x[:2950] = 0
    assert np.isnan(quality(x, 3000)["trace_Z_snr_db"])
    assert quality(x, 3000)["trace_Z_gap_share"] == pytest.approx(2950 / 6000, abs=1e-3)


def test_a_gap_in_a_window_is_left_out_of_it():
    whole = shaken().astype(float)
    holed = whole.copy()
    holed[2200:2500] = np.nan
    config = QualityConfig()
    assert quality(holed, 3000, config)["trace_Z_snr_db"] == pytest.approx(quality(whole, 3000, config)["trace_Z_snr_db"], abs=0.5)


@pytest.mark.parametrize("fill", [0, 7, "hold", "far", np.nan])
@pytest.mark.parametrize("first", [0, 1500, 5800])
def test_gaps_have_their_size(fill, first):
    x = shaken().astype(float) + (3000 if fill == 0 else 0)
    size = 200
    x[first : first + size] = {"hold": x[first - 1], "far": 50_000}.get(fill, fill) if isinstance(fill, str) else fill
    found = quality(x, 3000)
    assert found["trace_Z_gap_share"] == pytest.approx(size / 6000, abs=1.5 / 6000)
    assert found["trace_Z_clipped_share"] == found["trace_Z_spikes"] == 0


def test_a_short_repeat_is_no_gap_and_the_threshold_is_where_it_says():
    x = shaken()
    x[1000:1049] = 12345
    assert quality(x)["trace_Z_gap_share"] == 0
    x[1000:1050] = 12345
    assert quality(x)["trace_Z_gap_share"] == pytest.approx(50 / 6000)
    longer = QualityConfig(repeat_s=0.6)
    assert quality(x, config=longer)["trace_Z_gap_share"] == 0


def test_quiet_noise_below_a_count_is_no_gap():
    rng = np.random.default_rng(3)
    x = np.rint(0.25 * np.convolve(rng.normal(size=6100), np.hanning(100) / 6, "valid")[:6000]).astype(np.int32)
    x[4000:] += shaken()[4000:]
    assert (np.diff(x[:4000]) == 0).mean() > 0.9
    assert quality(x)["trace_Z_gap_share"] == 0


@pytest.mark.parametrize("rail", [300, 600])
@pytest.mark.parametrize("sides", ["both", "upper", "lower"])
@pytest.mark.parametrize("dtype", [np.int32, np.float32])
def test_clipping_has_its_size_and_is_no_gap(rail, sides, dtype):
    whole = shaken(ratio=10)
    x = np.clip(whole, -10**6 if sides == "upper" else -rail, 10**6 if sides == "lower" else rail)
    expected = (x != whole).mean()
    found = quality(x.astype(dtype) * (dtype(1) if dtype == np.int32 else dtype(1.7e-9)), 3000)
    assert found["trace_Z_clipped_share"] == pytest.approx(expected, rel=0.05)
    assert found["trace_Z_gap_share"] == 0


def test_a_sensor_held_at_its_rail_is_clipped_not_gapped():
    x = shaken(counts=1000.0, ratio=10)
    x[3500:3900] = x.max() + 50
    x[4200:4300] = 0
    found = quality(x)
    assert found["trace_Z_clipped_share"] == pytest.approx(400 / 6000, rel=0.02)
    assert found["trace_Z_gap_share"] == pytest.approx(100 / 6000, rel=0.02)


def test_tops_of_single_samples_are_clipped_where_they_return_to_one_value():
    rng = np.random.default_rng(5)
    x = np.rint(1000 * rng.normal(size=6000)).astype(np.int32)
    assert quality(x)["trace_Z_clipped_share"] == 0
    clipped = np.clip(x, -2200, 2200)
    assert quality(clipped)["trace_Z_clipped_share"] == pytest.approx((np.abs(clipped) == 2200).mean())


def test_what_is_digitised_coarsely_is_not_clipped():
    """Few levels, held for several samples each: an old accelerogram from film."""
    x = np.repeat(13 * np.rint(shaken(1500, 500) / 200), 4)
    assert np.isin(x, [x.max(), x.min()]).sum() >= 3
    assert quality(x)["trace_Z_clipped_share"] == 0


def test_a_slow_peak_rounded_to_counts_is_not_clipped():
    x = np.rint(3000 * np.sin(2 * np.pi * 0.02 * np.arange(6000) / RATE)).astype(np.int32)
    assert quality(x)["trace_Z_clipped_share"] == 0


@pytest.mark.parametrize("data", [np.zeros(500), np.full(500, 7), np.full(500, np.nan), np.array([3.0]), np.empty(0)])
def test_what_never_moves_is_dead(data):
    found = quality(data, 250)
    assert found["trace_Z_dead"] is True and np.isnan(found["trace_Z_snr_db"])
    assert found["trace_Z_clipped_share"] == found["trace_Z_spikes"] == 0
    missing = not len(data) or np.isnan(data).all()
    assert found["trace_Z_gap_share"] == (1 if missing else 0)


def test_all_but_a_few_samples_equal_is_dead_and_dust_is_dead():
    x = np.zeros(6000)
    x[::120] = np.arange(50) + 1
    assert quality(x)["trace_Z_dead"]
    x[::40] = np.arange(150) + 1
    assert not quality(x)["trace_Z_dead"]
    loud = shaken().astype(float)
    found = quality(np.stack([loud, 1e-13 * loud, 1e-3 * loud]))
    assert [found[f"trace_{c}_dead"] for c in "ZNE"] == [False, True, False]


def test_spikes_are_counted():
    x = shaken(ratio=3)
    at = [300, 1500, 2500, 4000, 5900]
    x[at] += np.array([1, -1, 1, -1, 1]) * 20_000
    assert quality(x)["trace_Z_spikes"] == len(at)


def test_an_onset_a_step_and_a_pulse_are_no_spikes():
    x = np.zeros((3, 6000)) + np.random.default_rng(0).normal(size=6000)
    x[0, 3000:] += 2000 * np.exp(-np.arange(3000) / 300) * np.sin(2 * np.pi * 20 * np.arange(3000) / RATE)
    x[1, 3000:] += 5000
    x[2, 2995:3006] += 5000 * np.hanning(11)
    assert [quality(row)["trace_Z_spikes"] for row in x] == [0, 0, 0]


def test_records_at_once_are_records_one_by_one():
    data = np.stack([np.stack([shaken(seed=10 * r + c) for c in range(3)]) for r in range(4)]).astype(float)
    data[1, 0, 500:900] = 0
    data[2, 1] = np.clip(data[2, 1], -300, 300)
    data[3, 2, 50:60] = np.nan
    data[0, 1, 700] = 1e5
    p = np.array([3000.0, np.nan, 2000.4, 400.0])
    together = measure_many(data, RATE, p, QualityConfig())
    for r in range(4):
        alone = quality(data[r], None if np.isnan(p[r]) else p[r], QualityConfig())
        assert together.of(r, "ZNE") == pytest.approx(alone, nan_ok=True, rel=1e-12)
    np.testing.assert_allclose(together.snr, 10 ** (together.snr_db / 20))


def test_text_has_no_quality():
    with pytest.raises(SeislatentError, match="numbers"):
        measure_many(np.zeros((1, 1, 5), "S1"), RATE, np.array([np.nan]))


def test_synthetic_earthquakes_raise_no_alarm():
    alarms = 0
    for seed in range(30):
        wave = earthquake(np.random.default_rng(seed), 60.0, RATE)
        found = measure(record(np.rint(wave.data / np.abs(wave.data).max() * 1e5).astype(np.int32)))
        alarms += sum(found[f"trace_{c}_{name}"] > 0 for c in "ZNE"[: len(wave.data)] for name in ("clipped_share", "spikes"))
    assert alarms == 0


@pytest.mark.parametrize("name", ["stead_sample50", "ncedc_deepdenoiser"])
def test_real_records_raise_few_alarms(name):
    where = os.environ.get("SEISLATENT_RECORDS")
    if not where or not (Path(where) / name).is_dir():
        pytest.skip(f"set SEISLATENT_RECORDS to the folder that holds {name}")
    records = open_records(Path(where) / name)
    found = [measure(records[i]) for i in range(len(records))]
    counts = {n: sum(row[f"trace_{c}_{n}"] > 0 for row in found for c in "ZNE" if f"trace_{c}_{n}" in row) for n in NAMES[1:]}
    real = {"gap_share": 3} if name == "ncedc_deepdenoiser" else {}  # one record is filled for 16 s, on three components
    assert counts == {"gap_share": 0, "clipped_share": 0, "spikes": 0, "dead": 0} | real


# -- the figures of docs/data/quality.md: python -m pytest -m slow -s tests/prepare/test_quality.py

SETS = ("stead_sample50", "ncedc_phasenet", "ncedc_deepdenoiser", "gujarat", "telica_gismo_3c", "iceland_quakemigrate")


def real_sets(*names):
    where = os.environ.get("SEISLATENT_RECORDS")
    if not where or not all((Path(where) / name).is_dir() for name in names):
        pytest.skip(f"set SEISLATENT_RECORDS to the folder that holds {', '.join(names)}")
    return {name: open_records(Path(where) / name) for name in names}


@pytest.mark.slow
def test_alarms_on_real_records():
    for name, records in real_sets(*SETS).items():
        found = [measure(replace(records[i], metadata={})) for i in range(len(records))]
        counts = {n: sum(v > 0 for row in found for key, v in row.items() if key.endswith(n)) for n in NAMES[1:]}
        print(f"\n{name}: {sum(len(row) for row in found) // len(NAMES)} components, {counts}", end="")
        assert counts["clipped_share"] == 0 and counts["spikes"] <= 1


@pytest.mark.slow
def test_faults_put_into_real_records_are_found():
    rng = np.random.default_rng(0)
    clean = []
    for name, records in real_sets("stead_sample50", "ncedc_deepdenoiser", "gujarat").items():
        for i in range(0, len(records), 7 if name == "gujarat" else 1):
            one = records[i]
            found = measure_many(one.data[None], one.sampling_rate_hz, np.array([np.nan]))
            good = (found.gap_share[0] == 0) & ~found.dead[0]
            clean += [(row.astype(float), one.sampling_rate_hz) for row in one.data[good]]

    def gap(x, rate, seconds, fill):
        n = round(seconds * rate)
        a = rng.integers(10, len(x) - n - 10)
        x[a : a + n] = {"zeros": 0, "last value": x[a - 1]}[fill]

    def clip(x, rate, share):
        half = share * np.abs(x - np.median(x)).max()
        x[:] = np.clip(x, np.median(x) - half, np.median(x) + half)

    def spike(x, rate, factor):
        for a in rng.integers(60, len(x) - 60, 3):
            x[a] += factor * max(1, 1.4826 * np.median(np.abs(np.diff(x[a - 25 : a + 26], 2))) / np.sqrt(6))

    def rate_of(fault, column, *size):
        hits = total = 0
        for row, rate in clean:
            x = row.copy()
            fault(x, rate, *size)
            if (x != row).sum() >= 3:
                total += 1
                hits += getattr(measure_many(x[None, None], rate, np.array([np.nan])), column)[0, 0] > 0
        print(f"\n{fault.__name__} {size}: found in {100 * hits / total:.1f} % of {total} components", end="")
        return hits / total

    assert all(rate_of(gap, "gap_share", s, "zeros") > 0.98 for s in (0.6, 5.0))
    assert all(rate_of(gap, "gap_share", s, "last value") > 0.95 for s in (0.6, 5.0))
    lowest = {0.9: 0.2, 0.7: 0.6, 0.5: 0.9, 0.2: 0.98, 0.05: 0.97}
    assert all(rate_of(clip, "clipped_share", share) > least for share, least in lowest.items())
    assert rate_of(spike, "spikes", 10) < 0.02 and rate_of(spike, "spikes", 50) > 0.99
    rate_of(spike, "spikes", 30)
