import os
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import obspy
import pandas as pd
import pytest
import yaml
from obspy import Trace, UTCDateTime
from scipy import signal

from seislatent import config
from seislatent.data.recipe import Made, Rejected
from seislatent.data.recipes.pairs import Pairs, PairsConfig
from seislatent.data.records import open_records
from seislatent.errors import SeislatentError
from seislatent.waveform import Channel, Waveform

PRESETS = Path(__file__).parents[3] / "presets" / "data"
APPENDIX = {
    "before_p_s": (0.0, 0.0), "differentiate": False, "broad_hz": None, "zero_phase": False, "margin_s": 0.0, "taper": 0.05,
    "peak": "component",
}  # fmt: skip


def record(name="one", *, n=6000, rate=100.0, p=700.0, codes="HNZ HNN HNE", unit="counts", seed=0, dtype=np.float32, **more):
    """Noise with an earthquake from P on, on an offset."""
    rng = np.random.default_rng(seed)
    size = np.where(np.arange(n) < (n if p is None else p), 1.0, 100.0 * np.exp(-(np.arange(n) - (p or 0)) / (10 * rate)))
    data = (rng.normal(0, 1, (3, n)).cumsum(-1) * 0.1 + rng.normal(0, 1, (3, n))) * size * [[1.0], [2.0], [3.0]] + 500
    channels = tuple(Channel(network="XX", station="ABC", code=c, component=c[-1]) for c in codes.split())
    metadata = {"trace_name": name, "source_magnitude": 4.0, "trace_start_time": "2001-09-09T01:46:40Z", "trace_npts": n, **more}
    if p is not None:
        metadata |= {"trace_p_arrival_sample": p, "trace_s_arrival_sample": p + 10 * rate}
    return Waveform(
        data=data.astype(dtype), sampling_rate_hz=rate, channels=channels, start_ns=10**18, unit=unit, history=("read",),
        metadata=metadata,
    )  # fmt: skip


def make(records, seed=0, **keys):
    records = [records] if isinstance(records, Waveform) else records
    return list(Pairs(PairsConfig(**keys)).make(records, [np.random.default_rng([seed, i]) for i in range(len(records))]))


def one(of, **keys):
    (found,) = make(of, **keys)
    return found


def window(pair, of):
    """First sample of the pair in the record that it was made from, at the record's rate."""
    return round((pair.record.start_ns - of.start_ns) / 1e9 * of.sampling_rate_hz)


def test_a_pair_step_by_step_with_scipy():
    w = record(dtype=np.float64, n=7000, p=1600.0)
    pair = one(w)
    a = window(pair, w)
    y = w.data
    time = np.arange(7000)
    for k in range(3):
        y[k] -= np.polyval(np.polyfit(time[a : a + 4096], y[k, a : a + 4096], 1), time)
    y = signal.sosfiltfilt(signal.butter(4, 30, fs=100, output="sos"), y[:, a - 500 : a + 4597])[:, :-1]
    low = signal.sosfiltfilt(signal.butter(4, 1, fs=100, output="sos"), y)[:, 500:-500]
    broad = y[:, 500:-500]
    peak = np.abs(broad).max()
    np.testing.assert_allclose(pair.record.data, broad / peak, atol=2e-7)
    np.testing.assert_allclose(pair.others["low"], low / peak, atol=2e-7)
    assert pair.record.metadata["trace_peak"] == pytest.approx(peak, rel=1e-9)
    assert pair.record.data.dtype == pair.others["low"].dtype == np.float32


def test_the_record_and_its_columns():
    w = record()
    pair = one(w)
    made, told = pair.record, pair.record.metadata
    a = window(pair, w)
    assert 100 <= told["trace_p_arrival_sample"] <= 1000 and told["trace_p_arrival_sample"] == 700 - a
    assert told["trace_s_arrival_sample"] == 1700 - a
    assert made.data.shape == (3, 4096) and made.sampling_rate_hz == 100 and made.unit == "1" and made.channels == w.channels
    assert np.abs(made.data).max() == 1
    assert told["trace_name"] == "one" and told["source_magnitude"] == 4.0 and "trace_npts" not in told
    peaks = [told[f"trace_{c}_peak"] for c in "ZNE"]
    np.testing.assert_allclose(np.abs(made.data).max(-1) * told["trace_peak"], peaks, rtol=1e-6)
    assert told["trace_peak"] == max(peaks) and [told[f"trace_{c}_scale"] for c in "ZNE"] == [max(peaks)] * 3
    assert (told["trace_scale_unit"], told["trace_gain_known"]) == ("counts", False)
    assert told["trace_recorded_quantity"] == "acceleration"
    assert made.history[0] == "read" and made.history[1:] == (
        "detrend (linear, over the window)", "lowpass (30 Hz, order 4, zero phase)", "cut (4096 samples at trace_start_time)",
        "divide by the peak of each record", "beside it low: lowpass (1 Hz, order 4, zero phase)",
    )  # fmt: skip


def test_what_each_side_holds():
    t = np.arange(6000) / 100
    x = sum(np.sin(2 * np.pi * f * t) for f in (0.3, 8.0, 44.0))
    w = record(dtype=np.float64)
    pair = one(replace(w, data=np.stack([x, x, x])))
    share = [np.abs(np.fft.rfft(s[0] * np.hanning(4096))) for s in (pair.record.data, pair.others["low"])]
    frequency = np.fft.rfftfreq(4096, 0.01)
    at = {f: np.argmin(np.abs(frequency - f)) for f in (0.3, 8.0, 44.0)}
    broad, low = share
    assert broad[at[0.3]] == pytest.approx(broad[at[8.0]], rel=0.05) and broad[at[44.0]] < 1e-3 * broad[at[8.0]]
    assert low[at[0.3]] == pytest.approx(broad[at[0.3]], rel=0.01) and low[at[8.0]] < 1e-3 * low[at[0.3]]


@pytest.mark.parametrize(
    ("codes", "unit", "times", "told"),
    [
        ("HHZ HHN HHE", "counts", 1, ("counts/s", False, "velocity")),
        ("HHZ HHN HHE", "cm/s", 1, ("m/s^2", True, "velocity")),
        ("HHZ HHN HHE", "m", 2, ("m/s^2", True, "displacement")),
        ("EHZ EHN EHE", "cm/s^2", 0, ("m/s^2", True, "acceleration")),
        ("BNZ BNN BNE", None, 0, ("counts", False, "acceleration")),
    ],
)
def test_records_become_acceleration(codes, unit, times, told):
    """A smooth pulse whose derivatives are known."""
    t = (np.arange(6000) - 3000) / 100
    pulse = np.exp(-((t / 0.5) ** 2))
    slopes = [pulse, -8 * t * pulse, (64 * t**2 - 8) * pulse]
    w = record(codes=codes, unit=unit, p=2500.0)
    pair = one(replace(w, data=np.stack([pulse, 2 * pulse, 3 * pulse])))
    a = window(pair, w)
    expected = signal.detrend(3 * slopes[times][a : a + 4096])
    np.testing.assert_allclose(pair.record.data[2], expected / np.abs(expected).max(), atol=1e-5)
    found = pair.record.metadata
    assert (found["trace_scale_unit"], found["trace_gain_known"], found["trace_recorded_quantity"]) == told
    size = {"cm/s": 0.01, "cm/s^2": 0.01}.get(unit, 1.0)
    assert found["trace_peak"] == pytest.approx(size * np.abs(expected).max(), rel=1e-5)
    assert pair.record.history.count("differentiate") == times


@pytest.mark.parametrize("rate", [80.0, 99.99, 200.0, 250.0])
def test_other_rates_come_to_100_hz_with_their_marks(rate):
    w = record(rate=rate, n=round(60 * rate), p=8 * rate, dtype=np.float64)
    t = np.arange(w.data.shape[1]) / rate
    x = np.exp(-(((t - 20) / 0.2) ** 2)) * np.cos(2 * np.pi * 5 * (t - 20))
    pair = one(replace(w, data=np.stack([x, x, x])))
    start_s = (pair.record.start_ns - w.start_ns) / 1e9
    assert pair.record.data.shape == (3, 4096) and pair.record.sampling_rate_hz == 100
    s = np.arange(4096) / 100 + start_s
    expected = np.exp(-(((s - 20) / 0.2) ** 2)) * np.cos(2 * np.pi * 5 * (s - 20))
    np.testing.assert_allclose(pair.record.data[0], expected / np.abs(expected).max(), atol=3e-3)
    assert pair.record.metadata["trace_p_arrival_sample"] == pytest.approx((8 - start_s) * 100, abs=1e-6)
    assert pair.record.history[1] == f"resample ({rate:g} to 100 Hz)"


def test_the_low_side_has_no_spike_where_the_record_ends():
    """Noise in velocity, cut at both edges of its window, against the low side that the whole record gives."""
    keys = {"before_p_s": (1.0, 1.0)}
    ends = {"whole": 0.0, "mirrored": 0.0, "scipy": 0.0}
    for seed in range(6):
        w = record(n=9000, p=3000.0, codes="HHZ HHN HHE")
        noise = np.random.default_rng(seed).normal(0, 1, (3, 9000))
        w = replace(w, data=signal.sosfilt(signal.butter(2, [0.3, 20], "bandpass", fs=100, output="sos"), noise))
        cut = replace(w, data=w.data[:, 2900 : 2900 + 4096], metadata=w.metadata | {"trace_p_arrival_sample": 100.0})
        whole, mirrored, scipys = one(w, **keys), one(cut, **keys), one(cut, margin_s=0.0, **keys)
        tops = [m.record.metadata["trace_peak"] for m in (whole, mirrored, scipys)]
        lows = [m.others["low"] * top for m, top in zip((whole, mirrored, scipys), tops, strict=True)]
        np.testing.assert_allclose(lows[1][:, 300:-300], lows[0][:, 300:-300], atol=0.05 * np.abs(lows[0]).max())
        for name, low in zip(ends, lows, strict=True):
            ends[name] = max(ends[name], np.abs(low[:, :100]).max(), np.abs(low[:, -100:]).max())
    assert ends["mirrored"] < 3 * ends["whole"] and ends["scipy"] > 10 * ends["whole"]


def test_starts_are_drawn_from_what_the_record_allows():
    starts = [one(record(), seed=k).record.metadata["trace_p_arrival_sample"] for k in range(60)]
    assert min(starts) >= 99 and max(starts) <= 700 and max(starts) - min(starts) > 400  # P at 7 s: no window begins earlier
    late = [one(record(p=2500.0), seed=k).record.metadata["trace_p_arrival_sample"] for k in range(20)]
    assert min(late) >= 2500 - (6000 - 4096) and max(late) <= 1000
    assert one(record(n=4096, p=300.0)).record.metadata["trace_p_arrival_sample"] == 300
    assert one(record(), before_p_s=(0.0, 0.0)).record.metadata["trace_p_arrival_sample"] == 0


def test_the_appendix_as_its_program_does_it():
    w = record(codes="HHZ HHN HHE", dtype=np.float64)
    pair = one(w, **APPENDIX)
    lowpass = signal.butter(4, 1.0 / 50, output="sos")
    for k in range(3):
        data = signal.detrend(w.data[k, 700 : 700 + 4096]) * signal.windows.tukey(4096, 5 / 100)
        peak = np.abs(data).max()
        np.testing.assert_allclose(pair.record.data[k], data / peak, atol=1e-6)
        np.testing.assert_allclose(pair.others["low"][k], signal.sosfilt(lowpass, data / peak), atol=1e-6)
        assert pair.record.metadata[f"trace_{'ZNE'[k]}_scale"] == pytest.approx(peak)


@pytest.mark.parametrize(("name", "keys"), [("pairs", {}), ("pairs_appendix", APPENDIX)])
def test_presets_are_what_the_docs_say(name, keys):
    chosen = {"category": "earthquake_local", "magnitude_missing": "reject", "estimate_p": False} if keys else {}
    found = config.load(PairsConfig, yaml.safe_load((PRESETS / f"{name}.yaml").read_text())["config"])
    assert found == PairsConfig(**keys, **chosen)


@pytest.mark.parametrize("peak", ["record", "component"])
def test_the_rescaled_low_side_keeps_its_factor(peak):
    w = record()
    plain, scaled = one(w, peak=peak), one(w, peak=peak, rescale_low=True)
    np.testing.assert_array_equal(plain.record.data, scaled.record.data)
    tops = np.abs(scaled.others["low"]).max(-1)
    assert (tops == 1).all() if peak == "component" else tops.max() == 1 and tops.min() < 1
    told = scaled.record.metadata
    for k, c in enumerate("ZNE"):
        back = scaled.others["low"][k] * told[f"trace_{c}_low_scale"]
        expected = plain.others["low"][k] * told[f"trace_{c}_scale"]
        np.testing.assert_allclose(back, expected, rtol=1e-5, atol=1e-6 * told["trace_peak"])
    assert not [k for k in plain.record.metadata if "low_scale" in k]
    assert scaled.record.history[-1].endswith("by its own peak")


def test_no_record_changes_another_and_the_order_stays():
    records = [record(f"r{k}", seed=k, n=6000 + 500 * (k % 3), rate=(100.0, 200.0)[k % 2] if k % 5 else 100.0) for k in range(12)]
    records = [replace(w, data=np.tile(w.data, 2)) if w.sampling_rate_hz == 200 else w for w in records]
    records[4] = replace(records[4], data=np.where(np.arange(records[4].data.shape[1]) == 2000, np.nan, records[4].data))
    together = make(records)
    names = [m.name if isinstance(m, Rejected) else m.record.metadata["trace_name"] for m in together]
    assert names == [f"r{k}" for k in range(12)]
    assert together[4].reason == "gap"
    recipe = Pairs(PairsConfig())
    for k, w in enumerate(records):
        (alone,) = recipe.make([w], [np.random.default_rng([0, k])])
        if isinstance(alone, Made):
            np.testing.assert_array_equal(alone.record.data, together[k].record.data)
            np.testing.assert_array_equal(alone.others["low"], together[k].others["low"])
            assert alone.record.metadata == together[k].record.metadata


@pytest.mark.parametrize("size", [1e6, 1e-3, 1e-6])
def test_loud_and_quiet_records_come_back(size):
    w = record(dtype=np.float64, unit="m/s^2")
    quiet = one(replace(w, data=w.data * size))
    assert quiet.record.metadata["trace_peak"] == pytest.approx(size * one(w).record.metadata["trace_peak"], rel=1e-6)
    np.testing.assert_allclose(quiet.record.data, one(w).record.data, atol=1e-6)


def test_every_refusal_has_its_reason():
    flat, holed = record(), record()
    flat.data[1, :] = 7
    holed.data[0, 3000] = np.nan
    cases = {
        "rate below 80 Hz": record(rate=50.0), "not three components": record().select([0, 1]),
        "quantity not known": record(codes="HLZ HLN HLE"), "too short": record(n=4000), "no P": record(p=None),
        "P too near the start": record(p=20.0), "too short after P": record(p=3500.0), "gap": holed, "dead component": flat,
        "no numbers": replace(record(), data=np.full((3, 10), b"a")),
    }  # fmt: skip
    for reason, case in cases.items():
        found = one(case)
        assert isinstance(found, Rejected) and found.reason == reason, (reason, found)
        assert found.name == "one"
    assert isinstance(one(record(codes="HLZ HLN HLE"), quantity="velocity"), Made)
    assert one(replace(record(), data=np.zeros((3, 6000), np.int32))).reason == "dead component"
    ramp = record(codes="HHZ HHN HHE", dtype=np.float64)
    ramp.data[2] = 3 + 7.0 * np.arange(6000)  # of velocity: an acceleration that never changes
    assert one(ramp).reason == "dead component"
    assert isinstance(one(replace(record(), data=record(dtype=np.float64).data * 1e-3 + 1e5)), Made)  # a quiet one on an offset
    assert one(replace(record(), unit="pa")).reason == "quantity not known"


def test_components_come_in_one_order():
    w = record(codes="HNE HNN HNZ")
    pair = one(w)
    assert pair.record.components == ("Z", "N", "E")
    back = one(w.select([2, 1, 0]))
    np.testing.assert_array_equal(pair.record.data, back.record.data)
    assert one(record(codes="HN1 HN2 HNZ")).record.components == ("Z", "1", "2")


def test_p_is_estimated_where_asked_for():
    w = replace(record(p=1500.0), metadata={"trace_name": "one"})
    found = one(w, estimate_p=True).record.metadata
    start = found["trace_p_arrival_sample"]
    assert found["trace_p_status"] == "estimated" and 100 <= start <= 1000
    pair = one(w, estimate_p=True)
    assert window(pair, w) + start == pytest.approx(1500, abs=10)
    assert one(record(), estimate_p=True).record.metadata.get("trace_p_status") is None  # a pick is kept
    assert one(record(p=None), estimate_p=True).reason == "no P"  # noise alone


def test_selection_by_the_table():
    rows = {
        "trace_sampling_rate_hz": [100, 50, 100, 100, 100, 80, 100], "trace_p_arrival_sample": [700, 7, 700, 700, np.nan, 9, 700],
        "trace_category": ["earthquake_local"] * 2 + ["noise"] + ["earthquake_local"] * 4,
        "source_magnitude": [3.5, 4, 4, 3.4, 4, 5, np.nan],
    }  # fmt: skip
    table = pd.DataFrame(rows)
    told = ["", "rate below 80 Hz", "noise", "magnitude below 3.5", "", "", ""]
    assert list(Pairs(PairsConfig()).select(table)) == told
    strict = PairsConfig(category="earthquake_local", magnitude_missing="reject", estimate_p=False, kinds=("earthquake", "noise"))
    told = ["", "rate below 80 Hz", "not earthquake_local", "magnitude below 3.5", "no P", "", "no magnitude"]
    assert list(Pairs(strict).select(table)) == told
    bare = table[["trace_sampling_rate_hz"]]
    assert list(Pairs(PairsConfig()).select(bare))[:4] == ["", "rate below 80 Hz", "", ""]
    assert set(Pairs(PairsConfig(kinds=("earthquake",))).select(bare)) == {"rate below 80 Hz", "not told what it shows"}


def test_configs_that_cannot_be_are_told():
    for keys, line in (
        ({"before_p_s": (5.0, 1.0)}, "before P"), ({"margin_s": -1.0}, "margin_s"), ({"margin_s": 41.0}, "margin_s"),
        ({"taper": 1.5}, "taper"),
        ({"low_hz": 40.0}, "below broad_hz"), ({"broad_hz": 60.0}, "Nyquist"), ({"before_p_s": (1.0, 50.0)}, "window's length"),
    ):  # fmt: skip
        with pytest.raises(SeislatentError, match=line):
            Pairs(PairsConfig(**keys))


@pytest.mark.skipif("SEISLATENT_RECORDS" not in os.environ, reason="SEISLATENT_RECORDS names no folder with real records")
def test_real_records():
    records = open_records(Path(os.environ["SEISLATENT_RECORDS"]) / "stead_sample50")
    recipe = Pairs(PairsConfig())
    keep = (recipe.select(records.metadata) == "").to_numpy()
    chosen = list(records.select(keep))
    made = list(recipe.make(chosen, [np.random.default_rng(i) for i in range(len(chosen))]))
    assert len(made) == 13 and all(isinstance(m, Made) for m in made)
    for m in made:
        assert m.record.metadata["trace_scale_unit"] == "counts/s" and not m.record.metadata["trace_gain_known"]
        assert 1e-3 < np.abs(m.others["low"]).max() < 0.1  # section 4.4.2: below 0.01 for most


def test_waveform_files_with_a_catalogue_and_without(tmp_path):
    """Components in one file or in three are a record; a catalogue beside them gives event, magnitude and P."""
    begin = UTCDateTime(2020, 1, 1)
    for k in range(3):
        w = record(n=9000, p=2000.0, seed=k, dtype=np.int32)
        for row, code in zip(w.data, ("HNZ", "HNN", "HNE"), strict=True):
            header = {"network": "XX", "station": "ABC", "channel": code, "sampling_rate": 100.0, "starttime": begin + 600 * k}
            (tmp_path / "files").mkdir(exist_ok=True)
            Trace(row.copy(), header).write(str(tmp_path / "files" / f"{k}.{code}.mseed"), format="MSEED")
    recipe = Pairs(PairsConfig())
    records = recipe.open([tmp_path / "files"])
    assert len(records) == 3 and records[0].components == ("Z", "N", "E")
    assert isinstance(one(records[0], magnitude_from=None), Made)
    events = [f"e{k},{begin + 600 * k + 15},40,28,10,{3.0 + k}" for k in range(3)]
    (tmp_path / "files" / "catalogue.csv").write_text("event_id,time,latitude,longitude,depth_km,magnitude\n" + "\n".join(events))
    picks = [f"e{k},XX,ABC,P,{begin + 600 * k + 20}" for k in range(3)]
    (tmp_path / "files" / "picks.csv").write_text("event_id,network,station,phase,time\n" + "\n".join(picks))
    records = recipe.open([tmp_path / "files"])
    assert [*recipe.select(records.metadata)] == ["magnitude below 3.5", "", ""]
    pair = one(records[2])
    assert isinstance(pair, Made) and pair.record.metadata["source_id"] == "e2"
    p = pair.record.start_ns / 1e9 + pair.record.metadata["trace_p_arrival_sample"] / 100
    assert p == pytest.approx((begin + 1220).timestamp, abs=1e-6)


def test_national_files_become_pairs(tmp_path):
    """K-NET's header gives its factor to m/s^2."""
    text = (Path(obspy.__file__).parent / "io" / "nied" / "tests" / "data" / "test.knet").read_text()
    for code, direction in {"EW": "E-W", "NS": "N-S", "UD": "U-D"}.items():
        (tmp_path / f"one.{code}").write_text(re.sub(r"(Dir\.\s+)\S+", rf"\g<1>{direction}", text))
    (record,) = Pairs(PairsConfig()).open([tmp_path])
    assert record.unit == "m/s^2" and set(record.components) == set("ZNE")


def test_p_is_not_estimated_in_continuous_data():
    for n, kind in ((20_000, Made), (100_000, Rejected)):
        w = record(n=n)
        found = one(replace(w, metadata={k: v for k, v in w.metadata.items() if "_arrival_" not in k}))
        assert isinstance(found, kind), n
    assert found.reason == "no P"
