import importlib.util
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from seislatent import config
from seislatent.data.recipe import Made, Rejected
from seislatent.data.recipes.marmara import Marmara, MarmaraConfig
from seislatent.errors import SeislatentError
from seislatent.io.files import read
from seislatent.io.miniseed_folder import write_miniseed
from seislatent.io.seisbench import write_seisbench
from seislatent.prepare import condition
from seislatent.prepare.bands import band_for, bandpass
from seislatent.waveform import Channel, Waveform

START_NS = 1_500_000_000_123_456_789


def event(name="one", *, rate=100.0, n=9000, p=2000.0, magnitude=2.5, codes=("HHZ", "HHN", "HHE"), ratio=20.0, seed=0, **more):
    """Noise of 100 counts, and an arrival `ratio` times as large at sample p; 9000 samples, int32."""
    rng = np.random.default_rng(seed)
    smooth = np.hanning(12)
    x = np.stack([np.convolve(rng.normal(size=n + len(smooth) - 1), smooth, "valid") for _ in codes]) * 50
    at = round(p)
    x[:, at:] *= 1 + (ratio - 1) * np.exp(-np.arange(n - at) / (15 * rate))
    channels = tuple(Channel(network="XX", station="STA", location="00", code=c, component=c[-1]) for c in codes)
    metadata = {
        "trace_name": name, "source_id": "ev1", "source_magnitude": magnitude, "trace_p_arrival_sample": p,
        "trace_npts": n, "trace_sampling_rate_hz": rate,
    } | more  # fmt: skip
    counts = np.rint(x).astype(np.int32)
    return Waveform(
        data=counts, sampling_rate_hz=rate, channels=channels, start_ns=START_NS, unit="counts", metadata=metadata
    )


def made(record, **keys):
    (found,) = Marmara(MarmaraConfig(**keys)).make([record], [np.random.default_rng(0)])
    return found


def reason(record, **keys):
    found = made(record, **keys)
    assert isinstance(found, Rejected) and found.name == record.metadata["trace_name"]
    return found.reason


def changed(record, row, where, value):
    data = record.data.astype(np.float64) if value != value else record.data.copy()
    data[row, where] = value
    return replace(record, data=data)


def test_the_default_window_is_that_of_the_spectrograms():
    window = made(event()).record
    assert window.data.shape == (3, 7000) and window.data.dtype == np.float32
    frames = 1 + (window.data.shape[1] - 256) // 64
    assert abs(frames - 110) <= 5
    assert window.metadata["trace_p_arrival_sample"] == 1000
    assert (window.metadata["trace_npts"], window.metadata["source_id"], window.unit) == (7000, "ev1", "counts")
    assert window.start_ns == START_NS + 10_000_000_000
    assert window.metadata["trace_Z_snr_db"] > 20 and window.metadata["trace_E_gap_share"] == 0
    kinds = ["demean", "detrend (linear)", "taper (cosine, 5 %", "band of the table (HH", "bandpass (0.5 to 15 Hz", "cut"]
    assert len(window.history) == len(kinds)
    assert all(line.startswith(kind) for line, kind in zip(window.history, kinds, strict=True)), window.history
    assert "order 4, zero phase" in window.history[4]


@pytest.mark.parametrize("zero_phase", [True, False])
def test_the_samples_are_those_of_the_steps_in_their_order(zero_phase):
    record = event(p=2345.4)
    window = made(record, zero_phase=zero_phase, order=3, taper_share=0.1).record
    steps = condition.taper(condition.detrend(condition.demean(record)), 0.1)
    whole = bandpass(steps, band_for("HH", 2.5, 100.0), order=3, zero_phase=zero_phase)
    np.testing.assert_allclose(window.data, whole.data[:, 1345:8345], rtol=1e-6, atol=1e-4)
    assert window.metadata["trace_p_arrival_sample"] == pytest.approx(1000.4)


def test_every_rule_has_its_reason():
    good = event()
    nan = float("nan")
    assert isinstance(made(good), Made)
    assert reason(event(ratio=1.0)) == "SNR not above 1.5"
    assert reason(changed(good, 1, slice(5000, 5100), nan)) == "gap"
    assert reason(changed(good, 2, slice(5000, 5100), 0)) == "gap"
    assert reason(changed(good, slice(None), slice(0, 2000), 0), gap_most=None) == "no SNR"
    assert reason(changed(good, 0, slice(None), 7), no_dead=True) == "dead component"
    assert reason(changed(good, 0, [1000, 4000], 10**6), spikes_most=1) == "spikes"
    assert reason(replace(good, data=np.clip(good.data, -700, 700)), clipped_most=0.0) == "clipped"
    assert reason(event(magnitude=float("nan"))) == "no magnitude"
    assert reason(event(codes=("LHZ", "LHN", "LHE"))) == "no band for the instrument"
    assert reason(event(codes=("HHZ", "HHN"))) == "missing component"
    assert reason(replace(good, metadata={"trace_name": "one"})) == "no P"
    assert reason(replace(good, metadata=good.metadata | {"trace_p_arrival_sample": 9500.0})) == "P outside the record"
    assert reason(event(p=500.0)) == "too short"
    assert reason(event(n=6900)) == "too short"
    assert reason(event(n=9000, rate=8.0, p=2000.0, magnitude=0.5, codes=("EHZ", "EHN", "EHE"))) == "rate too low for the band"
    assert reason(replace(good, data=good.data[:, :0])) == "no samples"
    assert reason(replace(good, data=np.full((3, 5), b"a"))) == "no numbers"


def test_rules_that_are_off_let_pass():
    good = event()
    for record in (
        changed(good, 0, slice(None), 7), changed(good, 0, [1000, 4000], 10**6), replace(good, data=np.clip(good.data, -700, 700))
    ):  # fmt: skip
        assert isinstance(made(record), Made)
    assert isinstance(made(event(ratio=1.0), snr_above=None), Made)
    assert made(event(magnitude=float("nan")), magnitude_missing=1.0).record.metadata["trace_band_low_hz"] == 1.0
    assert made(event(codes=("LHZ", "LHN", "LHE")), other_instrument="BH").record.metadata["trace_band"] == "BH"


def test_the_reasons_tell_the_quality():
    found = made(changed(event(), 2, slice(5000, 5450), 0))
    assert "E: SNR" in found.detail and "gap 0.05," in found.detail


def test_a_gap_that_may_stay_is_bridged():
    window = made(changed(event(), 1, slice(5000, 5100), float("nan")), gap_most=0.1).record
    assert np.isfinite(window.data).all()
    assert any(line.startswith("gaps bridged by straight lines (100 samples)") for line in window.history)
    assert window.metadata["trace_N_gap_share"] == pytest.approx(100 / 9000)


@pytest.mark.parametrize("rate", [20.0, 50.0, 200.0])
def test_other_rates(rate):
    n = round(90 * rate)
    record = event(rate=rate, n=n, p=20 * rate, codes=("BHZ", "BHN", "BHE"), magnitude=0.5)
    same = made(record).record
    assert (same.data.shape, same.sampling_rate_hz) == ((3, 7000), 100.0)
    assert same.metadata["trace_p_arrival_sample"] == pytest.approx(1000)
    own = made(record, sampling_rate_hz=None).record
    assert (own.data.shape, own.sampling_rate_hz) == ((3, round(70 * rate)), rate)
    lowered = [line for line in own.history if "lowered" in line]
    assert len(lowered) == (rate == 20.0)
    strong = np.abs(own.data[0]).argmax() / rate, np.abs(same.data[0]).argmax() / 100
    assert strong[0] == pytest.approx(strong[1], abs=0.06)


def test_a_window_may_be_moved_inside():
    early, late = made(event(p=500.0), beyond="move").record, made(event(p=5000.0), beyond="move").record
    assert early.metadata["trace_p_arrival_sample"] == 500 and late.metadata["trace_p_arrival_sample"] == 3000
    assert reason(event(n=6900), beyond="move") == "too short"


def test_a_sensor_that_is_not_oriented_keeps_its_components():
    window = made(event(codes=("HH1", "HHZ", "HH2"))).record
    assert window.components == ("Z", "1", "2") and "trace_2_snr_db" in window.metadata


def test_records_together_are_records_alone():
    records = [
        event("a"), event("b", rate=50.0, n=4500, p=1000.0), event("c", ratio=1.0, seed=2), event("d", seed=3, magnitude=0.2),
        event("e", codes=("HHZ",)), event("f", rate=50.0, n=4500, p=1111.1, seed=5),
    ]  # fmt: skip
    recipe = Marmara(MarmaraConfig())
    together = recipe.make(records, [np.random.default_rng(0)] * len(records))
    for record, found in zip(records, together, strict=True):
        alone = made(record)
        assert type(alone) is type(found)
        if isinstance(found, Made):
            np.testing.assert_array_equal(found.record.data, alone.record.data)
            assert (found.record.metadata, found.record.history) == (alone.record.metadata, alone.record.history)
        else:
            assert found == alone


def test_what_the_table_tells_is_left_out_unread():
    table = pd.DataFrame({
        "trace_p_arrival_sample": [100.0, np.nan, 100.0, 100.0, np.nan], "source_magnitude": [1.0, 1.0, np.nan, 999.0, 2.0],
        "p_arrival_sample": [np.nan, np.nan, np.nan, np.nan, 5.0],
    })  # fmt: skip
    assert list(Marmara(MarmaraConfig()).select(table)) == ["", "no P", "no magnitude", "no magnitude", ""]
    assert list(Marmara(MarmaraConfig(magnitude_missing=1.0)).select(table)) == ["", "no P", "", "", ""]


def test_the_preset_and_bad_settings():
    path = Path(__file__).parents[3] / "presets" / "data" / "marmara.yaml"
    assert path.is_file()
    assert config.load(MarmaraConfig, None, {"quality.noise_s": "5", "snr_above": "null"}) == replace(
        MarmaraConfig(), snr_above=None, quality=replace(MarmaraConfig().quality, noise_s=5.0)
    )
    with pytest.raises(SeislatentError, match="length above 0"):
        Marmara(MarmaraConfig(length_s=0))


# -- back to files


@pytest.mark.parametrize("gain", [1e6, 1.0, 1e-9, 0.0])
def test_miniseed_and_back(tmp_path, gain):
    windows = [made(event(f"n/{k}", seed=k)).record for k in range(3)]
    windows = [replace(w, data=w.data * np.float32(gain)) for w in windows]
    table = write_miniseed(windows, tmp_path / "out")
    assert table["trace_file"].tolist() == ["n_0.mseed", "n_1.mseed", "n_2.mseed"]
    again = pd.read_csv(tmp_path / "out" / "metadata.csv", dtype={"station_location_code": str})
    for (_, row), window in zip(again.iterrows(), windows, strict=True):
        back = read(tmp_path / "out" / row["trace_file"])
        assert [w.ids[0] for w in back] == list(window.ids) == row["trace_ids"].split(",")
        np.testing.assert_array_equal(np.concatenate([w.data for w in back]), window.data)
        assert {w.sampling_rate_hz for w in back} == {100.0}
        assert all(abs(w.start_ns - window.start_ns) < 1000 for w in back)
        assert int(row["start_ns"]) == window.start_ns
        assert tuple(json.loads(row["trace_history"])) == window.history
        for name in ("source_magnitude", "trace_p_arrival_sample", "trace_Z_snr_db", "trace_band", "source_id", "trace_unit"):
            assert row[name] == (window.unit if name == "trace_unit" else window.metadata[name])
        assert row["station_location_code"] == "00"


def test_miniseed_tells_what_it_cannot_hold(tmp_path):
    good, long = made(event("good")).record, made(event("good")).record
    long = replace(long, channels=tuple(replace(c, station="FARTOOLONG") for c in long.channels))
    table = write_miniseed([good, long, good], tmp_path)
    assert table["trace_file"].isna().tolist() == [False, True, False]
    assert "FARTOOLONG" in table["trace_trouble"].iloc[1]
    assert len(set(table["trace_file"].dropna())) == 2 == len(list(tmp_path.glob("*.mseed")))
    with pytest.raises(SeislatentError, match="exists"):
        write_miniseed([good], tmp_path)
    assert not list(tmp_path.glob(".*"))


# -- the raw inputs


def example():
    path = Path(__file__).parents[3] / "examples" / "marmara_from_a_record_set.py"
    spec = importlib.util.spec_from_file_location("marmara_from_a_record_set", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_example_tells_calculated_arrivals_from_picks():
    place = {"source_latitude_deg": 40.0, "source_longitude_deg": 29.0, "path_ep_distance_km": 50.0, "path_azimuth_deg": 90.0}
    record = event(trace_s_arrival_calc_sample=2500.0, **place)
    p, s = example().picks_of(record, "e1")
    assert (p["status"], p["calculated"], s["status"], s["calculated"]) == ("manual", False, "automatic", True)
    assert (p["time_ns"] - START_NS, s["time_ns"] - START_NS) == (20_000_000_000, 25_000_000_000)
    assert p["snr"] > 10 and np.isnan(s["snr"]) and p["path_ep_distance_km"] == 50.0 and p["path_azimuth_deg"] == 90.0
    assert example().event_of(record) is None  # no time of origin


def test_events_of_one_day_are_told_apart():
    rows = [(0, "day", 0.0), (1, "day", 0.2), (2, "day", 500.0), (3, "other", 0.0)]
    table = pd.DataFrame({
        "record": [r[0] for r in rows], "given": [r[1] for r in rows], "origin_ns": [int(r[2] * 1e9) for r in rows],
        "source_latitude_deg": [40.0, 40.0, 40.0, 41.0], "source_longitude_deg": 29.0, "source_magnitude": [1.0, 1.0, 2.0, np.nan],
    })  # fmt: skip
    events, names = example().named(table)
    assert names == {0: "19700101000000", 1: "19700101000000", 2: "19700101000820", 3: "19700101000000_1"}
    assert sorted(events["source_id"]) == sorted(set(names.values()))
    _, names = example().named(table.iloc[[0, 1, 3]])
    assert names == {0: "day", 1: "day", 3: "other"}


def test_from_raw_files_to_windows(tmp_path):
    """A record set becomes miniSEED files, a catalogue and bulletins, and these become the windows of the set itself."""
    place = {"source_latitude_deg": 40.7, "source_longitude_deg": 29.0, "source_depth_km": 8.0, "trace_category": "earthquake"}
    place |= {"source_origin_sample": 1500.0}
    records = []
    for k in range(4):
        one = event(f"t{k}", seed=k, ratio=1.0 if k == 3 else 20.0, **place)
        station = {"station": f"ST{k}", "location": "", "latitude_deg": 40.7 + 0.1 * k, "longitude_deg": 29.3, "elevation_m": 0.0}
        records.append(replace(
            one, channels=tuple(replace(c, **station) for c in one.channels), start_ns=START_NS // 10**9 * 10**9 + k // 2 * 10**12
        ))  # fmt: skip
    write_seisbench(tmp_path / "set", records)
    told = example().make(tmp_path / "set", tmp_path / "raw")
    assert told == "4 records of 2 events, 4 readings"
    assert len(list((tmp_path / "raw" / "waveforms").rglob("*.mseed"))) == 4

    recipe = Marmara(MarmaraConfig())
    found = recipe.open([tmp_path / "raw"])
    assert (recipe.select(found.metadata) == "").all()
    results = list(recipe.make([found[i] for i in range(len(found))], [np.random.default_rng(0)] * len(found)))
    assert sorted(r.reason for r in results if isinstance(r, Rejected)) == ["SNR not above 1.5"]
    windows = {r.record.channels[0].station: r.record for r in results if isinstance(r, Made)}
    assert sorted(windows) == ["ST0", "ST1", "ST2"]
    for k in range(3):
        before, after = made(records[k]).record, windows[f"ST{k}"]
        assert after.metadata["source_magnitude"] == 2.5 and after.data.shape == before.data.shape
        assert abs(after.metadata["trace_p_arrival_sample"] - 1000) <= 6  # a bulletin holds times to 0.1 s
        assert after.metadata["path_ep_distance_km"] > 20
        assert after.history[-1].startswith("cut")
