"""The question `detect`: pickers and classifiers whose answers are known by hand, what is left out, real records."""

from __future__ import annotations

import dataclasses
import json
import os
import types
from pathlib import Path

import numpy as np
import pytest
import torch

import seislatent as sl
from seislatent import catalog
from seislatent.cli import main as command
from seislatent.errors import SeislatentError
from seislatent.evaluate.detect import Aic, ArPick, StaLta
from seislatent.evaluate.detect_picks import ROOM_S, TAIL_S
from seislatent.io.seisbench import write_seisbench
from seislatent.systems.base import Classifier, Pick, Picker
from seislatent.waveform import Channel, Waveform

RATE, P_S, S_S = 50.0, 30.0, 33.0
BASELINES = {
    "baseline/sta_lta": "seislatent.evaluate.detect.StaLta",
    "baseline/aic": "seislatent.evaluate.detect.Aic",
    "baseline/ar_pick": "seislatent.evaluate.detect.ArPick",
}


def record(i, *, p_s=P_S, s_s=S_S, seconds=60.0, gain=1.0, kind=None, components="ZNE", amplitude=1.0):
    """Weak noise; P a spike of 100 on Z at the same second of every record, S one of 100 on N."""
    n = round(seconds * RATE)
    x = np.random.default_rng(i).normal(0, 1e-3, (len(components), n)) * amplitude
    if p_s is not None and p_s < seconds:
        x[0, round(p_s * RATE)] = 100 * gain
    if s_s is not None and s_s < seconds and len(components) > 1:
        x[1, round(s_s * RATE)] = 100 * gain
    metadata = {"source_id": f"e{i}", "trace_name": f"r{i}", "split": "test"}
    metadata |= {"trace_p_arrival_sample": float(p_s * RATE)} if p_s is not None else {}
    metadata |= {"trace_s_arrival_sample": float(s_s * RATE)} if s_s is not None else {}
    metadata |= {"event_type": kind} if kind else {}
    channels = tuple(Channel(network="XX", station=f"A{i}", code=f"HH{c}", component=c) for c in components)
    return Waveform(data=x, sampling_rate_hz=RATE, channels=channels, start_ns=(i + 1) * 10**16, metadata=metadata)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_seisbench(tmp_path_factory.mktemp("picks") / "records", [record(i) for i in range(8)])


class Known(Picker):
    """Finds both spikes, and adds what it is told: (phase, later in s, probability)."""

    def __init__(self, *said, name="known"):
        self.said, self.name, self.seen = said or (("P", 0.0, 0.9), ("S", 0.0, 0.9)), name, []

    def pick(self, waveform):
        self.seen.append(waveform)
        z, n = np.abs(waveform.data[0]), np.abs(waveform.data[1])
        if z.max() < 1:
            return []
        at = {"P": float(z.argmax()), "S": float(n.argmax())}
        return [Pick(phase=p, sample=at[p] + late * waveform.sampling_rate_hz, probability=c) for p, late, c in self.said]


class Constant(Picker):
    name = "constant"

    def pick(self, waveform):
        return [Pick(phase="P", sample=P_S / 60 * waveform.data.shape[1])]


def values(told, phase="p"):
    return {name.removeprefix(f"{phase}_"): v["mean"] for name, v in told.items() if name.startswith(f"{phase}_")}


def test_who_knows_is_perfect(folder):
    picker = Known()
    report = sl.evaluate("detect", picker, folder)
    assert (report["records"], report["events"], report["noise_cuts"], report["s_records"]) == (8, 8, 8, 8)
    for phase in "ps":
        found = values(report["systems"]["known"], phase)
        for name in ("mean_s", "median_s", "std_s", "mad_s", "matched_mean_s", "matched_std_s", "false_in_noise"):
            assert found[name] == pytest.approx(0, abs=1e-9), name
        for name in ("within_0.1_s", "within_0.5_s", "picked", "precision", "recall", "f1"):
            assert found[name] == 1, name
    assert len(picker.seen) == 16 and all(w.data.shape == (3, round(25 * RATE)) for w in picker.seen)


def test_picker_is_told_nothing_and_p_lies_anywhere(folder):
    picker = Known()
    sl.evaluate("detect", picker, folder, cut_s=20.0)
    assert all(w.metadata == {} for w in picker.seen)
    at = [np.abs(w.data[0]).argmax() / RATE for w in picker.seen if np.abs(w.data[0]).max() > 1]
    assert len(at) == 8 and min(at) >= 8 and max(at) <= 20 - TAIL_S and max(at) - min(at) > 2
    sl.evaluate("detect", picker, folder, lead_s=2.0, cut_s=45.0)
    assert min(np.abs(w.data[0]).argmax() / RATE for w in picker.seen if w.data.shape[1] == 45 * RATE) >= 2
    report = sl.evaluate("detect", Constant(), folder)
    assert values(report["systems"]["constant"])["within_0.1_s"] < 0.3
    assert values(report["systems"]["trivial/constant"])["within_0.1_s"] < 0.5
    assert values(report["systems"]["trivial/constant"])["mean_s"] == pytest.approx(0, abs=1e-9)
    assert values(report["systems"]["trivial/constant"])["false_in_noise"] == 1


def test_cuts_follow_the_seed_and_not_the_order(folder, tmp_path):
    def starts(where, **how):
        picker = Known()
        sl.evaluate("detect", picker, where, **how)
        return sorted(w.start_ns for w in picker.seen)

    assert starts(folder) == starts(folder) != starts(folder, seed=1)
    turned = write_seisbench(tmp_path / "turned", [record(i) for i in reversed(range(8))])
    assert starts(folder) == starts(turned)


def test_late_picks_by_hand(folder):
    late = Known(("P", 0.2, 1.0), name="late")
    found = values(sl.evaluate("detect", late, folder)["systems"]["late"])
    assert found["mean_s"] == pytest.approx(0.2) and found["median_s"] == pytest.approx(0.2) and found["std_s"] == pytest.approx(0)
    assert (found["within_0.1_s"], found["within_0.5_s"], found["f1"]) == (0, 1, 1)
    told = sl.evaluate("detect", late, folder, tolerance_s=0.1)["systems"]["late"]
    assert values(told)["f1"] == 0 and told["p_matched_mean_s"]["mean"] is None
    missed = values(told, "s")
    assert (missed["recall"], missed["picked"]) == (0, 0) and missed["precision"] is None and missed["mean_s"] is None


def test_the_most_probable_pick_counts_and_others_are_false(folder):
    burst = Known(("P", -3.0, 0.2), ("P", 0.0, 0.9), ("P", 0.05, 0.3), name="burst")
    found = values(sl.evaluate("detect", burst, folder)["systems"]["burst"])
    assert found["median_s"] == pytest.approx(0, abs=1e-9) and found["recall"] == 1
    assert found["precision"] == pytest.approx(1 / 3) and found["f1"] == pytest.approx(1 / 2)


def test_snr_and_events(folder, tmp_path):
    loud = [record(i) for i in range(3)] + [record(10 + i, gain=1e-5) for i in range(3)]
    told = sl.evaluate("detect", Known(), write_seisbench(tmp_path / "both", loud))["systems"]["known"]
    *weak, strong = told["by_snr"]["P"]
    assert (strong["low_db"], strong["high_db"], strong["records"]) == (30.0, None, 3) and strong["within_0.1_s"]["mean"] == 1
    assert sum(b["records"] for b in weak) == 3 and all(b["within_0.1_s"]["mean"] == 0 and b["high_db"] <= 10 for b in weak)
    assert told["p_picked"] == {"mean": 0.5, "std": 0.5, "low": told["p_picked"]["low"], "high": told["p_picked"]["high"]}
    assert 0 <= told["p_picked"]["low"] < 0.5 < told["p_picked"]["high"] <= 1


def test_what_is_left_out_is_counted(tmp_path):
    broken = record(5)
    broken.data[1, 7] = np.nan
    given = [
        record(0), record(1, p_s=None), record(2, p_s=70.0), record(3, p_s=2.0), record(4, p_s=8 + ROOM_S - 0.1), broken,
        record(6, components="NE"), record(7, gain=0, amplitude=0), record(8, s_s=50.0),
    ]  # fmt: skip
    report = sl.evaluate("detect", Known(), write_seisbench(tmp_path / "some", given))
    assert report["records"] == 2 and report["s_records"] == 1
    assert report["skipped"] == {
        "no P": 2, "no room to cut at random around P": 2, "values that are not finite": 1, "no vertical component": 1,
        "silent (all samples of the vertical equal)": 1,
    }  # fmt: skip


def test_a_picker_that_refuses_has_no_picks(folder):
    class Refuses(Picker):
        name = "refuses"

        def pick(self, waveform):
            raise SeislatentError("this record: too loud")

    told = sl.evaluate("detect", Refuses(), folder)["systems"]["refuses"]
    assert told["refused"] == {"too loud": 16} and told["p_recall"]["mean"] == 0 and told["p_precision"]["mean"] is None


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        (dict(cut_s=16.0), "17 s or more"),
        (dict(tolerance_s=0.0), "more than 0"),
        (dict(systems=[]), "at least one"),
        (dict(systems=[Known(), Known()]), "given twice"),
        (dict(systems="baseline/sta_lta"), "is a name"),
        (dict(systems=object()), "no Picker"),
        (dict(label="source_id"), "no Classifier"),
        (dict(window_s=3.0), "unknown option 'window_s'"),
        (dict(split="train"), "no record of split 'train'"),
    ],
)
def test_detect_refuses(folder, asked, message):
    with pytest.raises(SeislatentError, match=message):
        sl.evaluate(**{"question": "detect", "systems": Known(), "data": folder} | asked)


def test_no_labels_at_all(tmp_path):
    where = write_seisbench(tmp_path / "none", [record(0, p_s=None)])
    with pytest.raises(SeislatentError, match=r"none of the 1 records can be judged \(no P: 1\)"):
        sl.evaluate("detect", Known(), where)


def test_baselines_from_the_command_line(folder, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(catalog, "BASELINES", {**catalog.BASELINES, **BASELINES})
    out = tmp_path / "out"
    words = ["evaluate", "detect", "--systems", "baseline/sta_lta,baseline/ar_pick", "--data", str(folder), "--cut", "20"]
    assert command.main([*words, "--seed", "3", "--out", str(out)]) == 0
    assert "baseline/ar_pick" in capsys.readouterr().out
    told = json.loads((out / "report.json").read_text(encoding="utf-8"))
    assert (told["question"], told["task"], told["cut_s"], told["seed"]) == ("detect", "picks", 20.0, 3)
    assert [*told["systems"]] == ["baseline/sta_lta", "baseline/ar_pick", "trivial/constant"]
    assert told["systems"]["baseline/sta_lta"]["p_within_0.1_s"]["mean"] == 1
    assert {"report.html", "residuals_p.png", "residuals_s.svg", "worst_2.png"} <= {p.name for p in out.iterdir()}
    for system in told["systems"].values():
        for name, value in system.items():
            if name.startswith(("p_", "s_")):
                assert set(value) == {"mean", "std", "low", "high"}, name
    page = (out / "report.html").read_text(encoding="utf-8")
    assert "Residual: most probable pick less label" in page and "http" not in page.replace("http://www.w3.org", "")


def test_a_model_is_judged_by_its_system_and_name_from_the_command_line(folder, tmp_path, monkeypatch):
    model = types.SimpleNamespace(system=Known(), name="features/known", digest="0" * 16)
    monkeypatch.setattr(catalog, "load", lambda name: model)
    words = ["evaluate", "detect", "--systems", "features/known,baseline/aic", "--data", str(folder), "--out", str(tmp_path / "o")]
    assert command.main(words) == 0
    told = json.loads((tmp_path / "o" / "report.json").read_text(encoding="utf-8"))
    assert [*told["systems"]] == ["features/known", "baseline/aic", "trivial/constant"]
    assert told["systems"]["features/known"]["p_f1"]["mean"] == 1
    assert [(d["system"], d["than"]) for d in told["differences"]] == [("features/known", "baseline/aic")]


def test_baselines_pick_what_their_functions_do():
    for made in (StaLta(), Aic(), ArPick()):
        picks = made.pick(record(0))
        assert {p.phase for p in picks} <= {"P", "S"} and all(p.probability == 1 for p in picks)
        assert made.name in BASELINES
    (p,) = [p for p in StaLta().pick(record(0)) if p.phase == "P"]
    assert p.sample == pytest.approx(P_S * RATE, abs=2)


# -- classes ----------------------------------------------------------------------------------------------------------------------


class Loud(Classifier):
    """Calls blast what is loud: the probability is the peak."""

    labels = ("blast", "earthquake")
    name = "loud"

    def classify(self, x):
        peak = x.abs().amax((1, 2)).double() / 100
        return torch.stack([peak, 1 - peak], 1)


@pytest.fixture(scope="module")
def kinds(tmp_path_factory):
    given = [(0.9, "blast"), (0.4, "blast"), (0.7, "earthquake"), (0.2, "earthquake"), (0.1, "earthquake"), (0.3, None)]
    records = [record(i, gain=g, kind=k) for i, (g, k) in enumerate(given)]
    return write_seisbench(tmp_path_factory.mktemp("kinds") / "records", records)


def test_classes_by_hand(kinds, tmp_path):
    report = sl.evaluate("detect", Loud(), kinds, out=tmp_path / "out", label="event_type")
    assert (report["records"], report["classes"], report["skipped"]) == (5, {"blast": 2, "earthquake": 3}, {"no label": 1})
    told = report["systems"]["loud"]
    assert told["confusion"] == {"blast": {"blast": 1, "earthquake": 1}, "earthquake": {"blast": 1, "earthquake": 2}}
    assert told["accuracy"]["mean"] == pytest.approx(3 / 5) and told["accuracy"]["std"] == pytest.approx(np.sqrt(0.24))
    assert told["balanced_accuracy"]["mean"] == pytest.approx((1 / 2 + 2 / 3) / 2)
    assert told["auc"]["mean"] == pytest.approx(5 / 6) and told["classes"]["blast"]["auc"]["mean"] == pytest.approx(5 / 6)
    assert told["classes"]["earthquake"]["precision"]["mean"] == pytest.approx(2 / 3)
    trivial = report["systems"]["trivial/majority"]
    assert (trivial["accuracy"]["mean"], trivial["balanced_accuracy"]["mean"], trivial["auc"]["mean"]) == (0.6, 0.5, 0.5)
    assert {"report.json", "report.html", "roc.png"} <= {p.name for p in (tmp_path / "out").iterdir()}


def test_how_far_a_classifier_can_be_believed(tmp_path):
    """Recall by event and day, reliability and unknown of six calls by hand."""
    given = [(0.95, "blast", "a", 0), (0.85, "blast", "a", 0), (0.25, "blast", "b", 1), (0.05, "quake", "c", 0),
             (0.15, "quake", "d", 2), (0.75, "quake", "e", 2)]  # fmt: skip
    records = []
    for i, (gain, kind, event, day) in enumerate(given):
        made = record(i, gain=gain, kind=kind)
        made.metadata["source_id"] = event
        records.append(dataclasses.replace(made, start_ns=10**18 + day * 86400 * 10**9 + i * 10**10))

    class Wary(Loud):
        labels, name = ("blast", "quake"), "wary"

        def judge(self, x):
            p = self.classify(x)
            return types.SimpleNamespace(probabilities=p, unknown=(p[:, 0] - 0.5).abs() < 0.3)

    folder = write_seisbench(tmp_path / "r", records)
    report = sl.evaluate("detect", [Wary(), Loud()], folder, label="event_type", out=tmp_path / "out")
    told, loud = report["systems"]["wary"], report["systems"]["loud"]
    assert (report["days"], report["classes"]) == (3, {"blast": 3, "earthquake": 0, "quake": 3})
    assert told["recall"]["blast"] == {
        "records": pytest.approx(2 / 3), "by_events": 0.5, "events": 2, "worst_of_events": 0,
        "by_days": 0.5, "days": 2, "worst_of_days": 0,
    }  # fmt: skip
    assert told["recall"]["quake"]["by_days"] == pytest.approx(3 / 4) and told["recall"]["quake"]["by_events"] == pytest.approx(
        2 / 3
    )
    assert told["unknown"] == {"blast": pytest.approx(1 / 3), "quake": pytest.approx(1 / 3)} and loud["unknown"] is None
    assert (told["accuracy_of_known"], loud["accuracy_of_known"]) == (1, loud["accuracy"]["mean"])
    # called with 0.95, 0.85, 0.75 (wrong), 0.95, 0.85, 0.75 (wrong): bins off by 0.05, 0.15 and 0.75
    assert told["reliability"]["expected_calibration_error"] == pytest.approx((0.05 + 0.15 + 0.75) / 3, abs=1e-4)
    assert [b["right"] for b in told["reliability"]["bins"]][7:] == [0, 1, 1] and told["reliability"]["bins"][0]["right"] is None
    page = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert "Whether probabilities hold" in page and "33.3%" in page and (tmp_path / "out" / "reliability.png").exists()


def test_classes_that_do_not_meet(kinds):
    class Other(Loud):
        labels = ("landslide", "earthquake")

    told = sl.evaluate("detect", Other(), kinds, label="event_type")["systems"]["loud"]
    assert told["classes"]["blast"]["recall"]["mean"] == 0 and set(told["classes"]) == {"blast", "earthquake"}
    assert told["confusion"]["earthquake"] == {"blast": 0, "earthquake": 2, "landslide": 1}
    assert told["balanced_accuracy"]["mean"] == pytest.approx((0 + 2 / 3) / 2)


def test_classes_refuse(kinds):
    class Broken(Loud):
        def classify(self, x):
            return torch.full((len(x), 3), 0.1)

    with pytest.raises(SeislatentError, match="1 record of 2 labels"):
        sl.evaluate("detect", Broken(), kinds, label="event_type")
    with pytest.raises(SeislatentError, match="unknown column 'event_tipe': did you mean 'event_type'"):
        sl.evaluate("detect", Loud(), kinds, label="event_tipe")
    with pytest.raises(SeislatentError, match="6 records of 1 classes in split"):
        sl.evaluate("detect", Loud(), kinds, label="split")


def test_an_event_counts_once(tmp_path):
    """Five blasts of one event called rightly, one of another wrongly: 5/6 of the records, half of the events."""
    given = (
        [(i, 0.9, "blast", "a") for i in range(5)] + [(5, 0.1, "blast", "b")] + [(6 + i, 0.2, "quake", f"c{i}") for i in range(3)]
    )
    records = []
    for i, gain, kind, event in given:
        made = record(i, gain=gain, kind=kind)
        made.metadata["source_id"] = event
        records.append(made)

    class Call(Loud):
        labels = ("blast", "quake")

    told = sl.evaluate("detect", Call(), write_seisbench(tmp_path / "r", records), label="event_type")["systems"]["loud"]
    assert told["balanced_accuracy"]["mean"] == pytest.approx((5 / 6 + 1) / 2)
    assert told["balanced_accuracy_by_event"]["mean"] == pytest.approx((1 / 2 + 1) / 2)
    # of the pairs of a blast and a quake, those of event b (half of the weight) are the wrong way round
    assert told["auc"]["mean"] == pytest.approx(5 / 6) and told["auc_by_event"]["mean"] == pytest.approx(1 / 2)


def test_pairs_of_systems_are_told_apart_by_the_same_events(kinds, folder):
    late, early = Known(("P", 0.3, 1.0), name="late"), Known(("P", 0.05, 1.0), ("S", 0.0, 1.0), name="early")
    report = sl.evaluate("detect", [late, early], folder)
    (row,) = report["differences"]
    assert (row["system"], row["than"]) == ("late", "early")
    assert row["p_within_0.1_s"]["mean"] == -1 and (row["p_within_0.1_s"]["low"], row["p_within_0.1_s"]["high"]) == (-1, -1)
    assert row["p_f1"]["mean"] == 0 and row["s_f1"]["mean"] == -1 and "s_mad_s" not in row
    alone = report["systems"]["late"]["p_within_0.1_s"]
    assert {"mean", "std", "low", "high"} == set(alone)

    class Quiet(Loud):
        name = "quiet"

        def classify(self, x):
            return super().classify(x).flip(1)

    (row,) = sl.evaluate("detect", [Loud(), Quiet()], kinds, label="event_type")["differences"]
    assert row["auc"]["mean"] == pytest.approx(2 * (5 / 6) - 1) and row["auc"]["low"] <= row["auc"]["mean"] <= row["auc"]["high"]


def test_hours_of_the_day(tmp_path):
    hour = 3600 * 10**9
    records = []
    for i, (at, kind) in enumerate([(9, "blast"), (9, "blast"), (20, "quake"), (23, "quake")]):
        made = record(i, gain=0.5, kind=kind)
        records.append(dataclasses.replace(made, start_ns=10**18 // (24 * hour) * 24 * hour + at * hour + i * 24 * hour))
    told = sl.evaluate("detect", Loud(), write_seisbench(tmp_path / "utc", records), label="event_type")["hours"]
    assert (told["of"], told["records"]) == ("UTC", 4) and told["counts"]["blast"][9] == 2 and sum(told["counts"]["quake"]) == 2
    for i, made in enumerate(records):
        channels = tuple(dataclasses.replace(c, latitude_deg=0.0, longitude_deg=30.0) for c in made.channels)
        records[i] = dataclasses.replace(made, channels=channels)
    report = sl.evaluate("detect", Loud(), write_seisbench(tmp_path / "local", records), label="event_type", out=tmp_path / "out")
    told = report["hours"]
    assert told["of"] == "local mean time" and told["counts"]["blast"][11] == 2 and told["counts"]["quake"][1] == 1
    assert (tmp_path / "out" / "hours.png").exists()


def test_a_classifier_gets_components_in_order_and_no_offset(tmp_path):
    class Sees(Loud):
        labels = ("blast", "quake")

        def classify(self, x):
            self.seen = x
            return super().classify(x)

    sees = Sees()
    records = [record(i, kind=k, components="ENZ") for i, k in enumerate(("blast", "quake"))]
    for made in records:
        made.data[:] += 1e9
        made.data[2, 500] += 7
    sl.evaluate("detect", sees, write_seisbench(tmp_path / "r", records), label="event_type")
    z = sees.seen[0, 0]
    assert float(z[500]) == pytest.approx(7, abs=0.1) and abs(float(sees.seen.mean())) < 0.1


def test_s_by_its_own_signal_to_noise_ratio(folder):
    told = sl.evaluate("detect", Known(), folder)["systems"]["known"]["by_snr"]
    (s,) = told["S"]
    assert (s["low_db"], s["records"], s["f1"]["mean"]) == (30.0, 8, 1) and s["mean_s"]["mean"] == pytest.approx(0, abs=1e-9)
    assert {"mean_s", "std_s", "median_s", "mad_s", "within_0.1_s", "within_0.5_s", "recall", "f1"} <= set(told["P"][0])


@pytest.mark.skipif("SEISLATENT_RECORDS" not in os.environ, reason="SEISLATENT_RECORDS names no folder of real records")
def test_real_records():
    report = sl.evaluate("detect", [StaLta(), Aic()], Path(os.environ["SEISLATENT_RECORDS"]) / "ncedc_phasenet")
    told = report["systems"]
    assert told["baseline/sta_lta"]["p_within_0.5_s"]["mean"] > 0.8 > 0.3 > told["trivial/constant"]["p_within_0.5_s"]["mean"]
    assert told["baseline/aic"]["p_mad_s"]["mean"] < 0.05
