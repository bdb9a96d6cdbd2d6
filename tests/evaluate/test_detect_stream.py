"""The question `detect` on continuous records: counts, thresholds and rates by hand; gaps, edges, labels of other stations."""

from __future__ import annotations

import json

import numpy as np
import pytest
from obspy import Stream, Trace, UTCDateTime

import seislatent as sl
from seislatent.cli import main as command
from seislatent.errors import SeislatentError
from seislatent.evaluate.detect import Aic, ArPick, StaLta
from seislatent.evaluate.detect_stream import thresholds
from seislatent.systems.base import Pick, Picker
from seislatent.waveform import Channel, Waveform

RATE, START, HOURS = 20.0, UTCDateTime(2024, 5, 1), 2
P_S = {"AA": (600.0, 1200.0, 5000.0, 7195.0 - 2), "BB": (601.0, 4000.0)}
"""Spikes on Z, in s from the start; S on N comes 5 s later."""
FALSE_S = {"AA": (2000.0, 6000.0), "BB": ()}


@pytest.fixture(scope="module")
def day(tmp_path_factory):
    """Two stations, two hours; spikes of height 100 on Z and N at labelled arrivals, of 50 on Z at others; a gap in AA."""
    folder = tmp_path_factory.mktemp("day")
    lines = ["network,station,phase,time"]
    for station in P_S:
        x = np.random.default_rng(len(station)).normal(0, 0.01, (3, round(HOURS * 3600 * RATE)))
        for at in P_S[station]:
            x[0, round(at * RATE)] = 100
            x[1, min(round((at + 5) * RATE), x.shape[1] - 1)] = 100
            lines += [f"XX,{station},{phase},{START + at + late}" for phase, late in (("Pg", 0), ("S", 5))]
        for at in FALSE_S[station]:
            x[0, round(at * RATE)] = 50
        stream = Stream()
        for row, code in zip(x, ("BHZ", "BHN", "BHE"), strict=True):
            trace = Trace(row.astype(np.float32), {"network": "XX", "station": station, "channel": code, "sampling_rate": RATE})
            trace.stats.starttime = START
            cut = (START + 3000, START + 3010.0) if station == "AA" else None
            pieces = [trace] if cut is None else [trace.slice(None, cut[0]), trace.slice(cut[1], None)]
            stream += Stream(pieces)
        stream.write(str(folder / f"{station}.mseed"), format="MSEED")
    lines += [lines[1], f"XX,CC,P,{START + 100}", f"XX,AA,Lg,{START + 700}"]  # told twice, another station, another phase
    (folder / "picks.csv").write_text("\n".join(lines) + "\n")
    return folder


class Spikes(Picker):
    """Every spike: those of 100 with probability 0.9, others 0.4; late by 0.2 s."""

    name = "spikes"

    def __init__(self):
        self.seen = []

    def pick(self, waveform):
        self.seen.append(waveform)
        z, n = waveform.data[0], waveform.data[1]
        found = [Pick(phase="P", sample=i + 4, probability=0.9 if z[i] > 75 else 0.4) for i in np.flatnonzero(z > 25)]
        return found + [Pick(phase="S", sample=float(i), probability=0.9) for i in np.flatnonzero(n > 25)]


def judged(day, *systems, **how):
    return sl.evaluate("detect", list(systems), day, "all", picks=day / "picks.csv", **how)


def test_counts_by_hand(day):
    picker = Spikes()
    report = judged(day, picker)
    assert (report["task"], report["stations"], report["events"]) == ("stream", 2, 2)
    # AA's P at 7193 s has its S behind the record's end; the last 5 s of a stretch do not count
    assert report["labels"] == {"P": 6, "S": 5}
    told = report["systems"]["spikes"]
    assert told["p_picks"] == 8 and told["p_precision"]["mean"] == pytest.approx(6 / 8) and told["p_recall"]["mean"] == 1
    assert told["p_f1"]["mean"] == pytest.approx(12 / 14)
    hours = report["station_hours"]
    # five stretches (a gap in the first hour of AA), each less 15 s, and 10 s of gap
    assert hours == pytest.approx((4 * 3600 - 10 - 5 * 15) / 3600, abs=1e-4)
    assert told["p_false_per_station_hour"]["mean"] == pytest.approx(2 / hours)
    assert told["p_matched_median_s"]["mean"] == pytest.approx(0.2) and told["p_matched_mad_s"]["mean"] == pytest.approx(0)
    assert (told["p_within_0.1_s"]["mean"], told["p_within_0.5_s"]["mean"]) == (0, 1)
    assert told["s_f1"]["mean"] == 1 and told["s_false_per_station_hour"]["mean"] == 0
    assert all(np.isfinite(w.data).all() and w.metadata == {} and w.components == ("Z", "N", "E") for w in picker.seen)


def test_thresholds(day):
    told = judged(day, Spikes())["systems"]["spikes"]
    high, low = told["p_curve"]
    assert (high["threshold"], low["threshold"]) == (0.9, 0.4)
    assert (high["precision"], high["recall"], high["false_per_station_hour"]) == (1, 1, 0)
    assert low["precision"] == pytest.approx(0.75)
    best = told["p_at_recall"][-1]
    assert (best["recall"], best["threshold"], best["false_per_station_hour"]["mean"]) == (0.9, 0.9, 0)
    strict = judged(day, Spikes(), tolerance_s=0.1)["systems"]["spikes"]
    assert strict["p_recall"]["mean"] == 0 and strict["p_at_recall"][0]["threshold"] is None


def test_a_clock_stands_beside(day):
    told = judged(day, Spikes())["systems"]["trivial/clock"]
    assert told["p_false_per_station_hour"]["mean"] > 300 and told["p_precision"]["mean"] < 0.01


def test_no_labels_at_all(day, tmp_path):
    (tmp_path / "none.csv").write_text("network,station,phase,time\n")
    report = sl.evaluate("detect", Spikes(), day, "all", picks=tmp_path / "none.csv", out=tmp_path / "out")
    told = report["systems"]["spikes"]
    assert told["p_recall"]["mean"] is None and told["p_precision"]["mean"] == 0 and told["p_picks"] == 8
    assert told["p_at_recall"][0]["threshold"] is None and (tmp_path / "out" / "report.html").exists()


def test_refusals(day, tmp_path):
    class Refuses(Picker):
        name = "refuses"

        def pick(self, waveform):
            raise SeislatentError("this stretch: too long")

    told = judged(day, Refuses())["systems"]["refuses"]
    assert told["refused"] == {"too long": 5} and told["p_recall"]["mean"] == 0 and told["p_precision"]["mean"] is None
    with pytest.raises(SeislatentError, match="give one of the two"):
        judged(day, Spikes(), label="event_type")
    with pytest.raises(SeislatentError, match="more than 0"):
        judged(day, Spikes(), tolerance_s=0.0)
    with pytest.raises(SeislatentError, match="holds no picks"):
        (tmp_path / "bad.csv").write_text("a,b\n1,2\n")
        sl.evaluate("detect", Spikes(), day, "all", picks=tmp_path / "bad.csv")
    with pytest.raises(SeislatentError, match=r"none of the .* can be judged \(missing component: "):
        one = tmp_path / "one"
        one.mkdir()
        Stream([Trace(np.ones(9000, np.float32), {"station": "A", "channel": "BHZ", "sampling_rate": 20})]).write(
            str(one / "a.mseed"), format="MSEED"
        )
        sl.evaluate("detect", Spikes(), one, "all", picks=day / "picks.csv")


def test_classical_pickers_find_every_arrival_of_an_hour():
    rng = np.random.default_rng(0)
    x = rng.normal(0, 1, (3, 100 * 600))
    onsets = (50, 180, 300, 470)
    for at in onsets:
        for row, late, size in ((0, 0, 30), (1, 6, 60), (2, 6, 60)):
            begin = (at + late) * 100
            x[row, begin : begin + 800] += size * rng.normal(0, 1, 800) * np.exp(-np.arange(800) / 200)
    channels = tuple(Channel(network="XX", station="A", code=f"HH{c}", component=c) for c in "ZNE")
    hour = Waveform(data=x, sampling_rate_hz=100.0, channels=channels, start_ns=10**18)
    for picker in (StaLta(), Aic(), ArPick()):
        found = picker.pick_stream(hour)
        for phase, late, near in (("P", 0, 0.1), ("S", 6, 1.0)):
            times = np.array([p.sample / 100 for p in found if p.phase == phase])
            for at in onsets:
                assert np.abs(times - at - late).min() < near, (picker.name, phase, at)
        assert len(found) < 30 and all(2 / 3 <= p.probability <= 1 for p in found)
        best = sorted(found, key=lambda p: -p.probability)[:4]
        assert all(min(abs(p.sample / 100 - at) for at in onsets) < 7 for p in best)


def test_from_the_command_line(day, tmp_path, capsys):
    out = tmp_path / "out"
    words = ["evaluate", "detect", "--systems", "baseline/sta_lta", "--data", str(day), "--split", "all"]
    assert command.main([*words, "--picks", str(day / "picks.csv"), "--out", str(out)]) == 0
    assert "false per station-hour" in capsys.readouterr().out
    told = json.loads((out / "report.json").read_text(encoding="utf-8"))
    assert told["interval"]["drawn"] == "hours" and {"thresholds_p.png", "report.html"} <= {p.name for p in out.iterdir()}
    assert told["systems"]["baseline/sta_lta"]["p_recall"]["mean"] == 1


def test_thresholds_stand_where_the_recall_changes():
    rng = np.random.default_rng(0)
    at = np.arange(100.0, 3100.0, 100.0)
    right = np.stack([at, np.linspace(0.9, 0.99, len(at))], 1)
    false = np.stack([rng.uniform(0, 3600, 5000), rng.uniform(0.1, 0.5, 5000)], 1)
    false = false[np.abs(false[:, :1] - at).min(1) > 1]
    levels = thresholds([np.concatenate([right, false])], [at], 0.5)
    assert len(levels) <= 100 and set(right[:, 1]) <= set(levels) and (np.diff(levels) > 0).all()
    assert len(thresholds([np.empty((0, 2))], [at], 0.5)) == 0
