"""Classifiers on the user's own records: a column of a store, or folders of waveform files; what is told after training."""

from __future__ import annotations

import json

import numpy as np
import pytest
from obspy import Stream, Trace, UTCDateTime

from seislatent import load, training
from seislatent.cli.main import main
from seislatent.data.store import Store
from seislatent.errors import SeislatentError

RATE = 40.0
SMALL = {"encoder": {"system": "features/autoencoder", "config": {"maps": 16}}, "dense": 32, "dropout": 0.0}
QUICK = {
    "steps": 40,
    "batch": 16,
    "validate_every": 20,
    "accelerator": "cpu",
    "average": 0.9,
    "rates": {"encoder": 1e-2, "head": 1e-2},
}


def record(dice, kind):
    """40 s of three components with an onset: low frequencies and two phases, or high ones and one."""
    t = np.arange(round(40 * RATE)) / RATE
    x = dice.standard_normal((3, t.size))
    low, high, phases = (1.0, 2.5, (10.0, 15.0)) if kind == "earthquake" else (6.0, 8.0, (10.0,))
    for onset in phases:
        since = np.maximum(t - onset - dice.uniform(-2, 2), 0)
        x += 60 * np.sin(2 * np.pi * dice.uniform(low, high) * since) * np.exp(-since / 2) * (since > 0)
    return (50 * x).astype(np.int32)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Two folders of 40 events each, an hour apart."""
    out, dice = tmp_path_factory.mktemp("own"), np.random.default_rng(0)
    for k, kind in enumerate(("earthquake", "quarry")):
        (out / kind).mkdir()
        for i in range(40):
            header = {
                "network": "XX",
                "station": "ABC",
                "sampling_rate": RATE,
                "starttime": UTCDateTime(2020, 1, 1) + 3600 * (2 * i + k),
            }
            traces = zip("ZNE", record(dice, "earthquake" if not k else "blast"), strict=True)
            Stream([Trace(x, {**header, "channel": f"HH{c}"}) for c, x in traces]).write(
                str(out / kind / f"{i}.mseed"), format="MSEED"
            )
    return out


@pytest.fixture(scope="module")
def run(folder, tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "blast"
    path = training.train("features/blast", str(folder), out, system={**SMALL}, recipe=QUICK)
    return out, path


def test_two_folders_become_a_discriminator(run, folder):
    out, path = run
    system = load(path).system
    assert system.labels == ("earthquake", "quarry") and system.sampling_rate_hz == 20
    assert len(Store(out / "store")) == 80
    told = json.loads((out / "report" / "report.json").read_text())
    assert (told["question"], told["task"], told["label"]) == ("detect", "classes", "label")
    assert told["records"] >= 8 and told["days"] >= 2 and set(told["systems"]) == {"features/blast", "trivial/majority"}
    told = {**told, **told["systems"]["features/blast"]}
    assert told["accuracy"]["mean"] >= 0.9
    assert sum(sum(row.values()) for row in told["confusion"].values()) == told["records"]
    assert set(told["recall"]["quarry"]) == {
        "records", "by_events", "events", "worst_of_events", "by_days", "days", "worst_of_days"
    }  # fmt: skip
    assert set(told["unknown"]) == {"earthquake", "quarry"} and 0 <= told["reliability"]["expected_calibration_error"] <= 1
    assert (out / "report" / "report.html").exists() and (out / "report" / "reliability.png").exists()
    about = load(path).about["calibration"]
    assert about["temperature"] > 0 and about["unknown_beyond"] > 0 and about["records"] >= 8
    assert training.train("features/blast", str(folder), out, system={**SMALL}, recipe=QUICK) == path, "the same command goes on"


def test_a_column_of_a_store(run, tmp_path, capsys):
    out, _ = run
    options = [f"--recipe.{k}={json.dumps(v) if isinstance(v, dict) else v}" for k, v in QUICK.items()] + [
        f"--system.encoder={json.dumps(SMALL['encoder'])}",
        "--system.dense=32",
    ]
    around = ["--dataset.short=pad", "--dataset.lacking=zero"]
    words = ["train", "features/classifier", "--data", str(out / "store"), "--label", "label", "--out", str(tmp_path / "r")]
    assert main([*words, *options, *around]) == 0
    told = capsys.readouterr().out
    assert "balanced accuracy: " in told and "quarry: called " in told and "unknown" in told and "report.html" in told
    assert load(tmp_path / "r" / "best.safetensors").system.labels == ("earthquake", "quarry")


def test_labels_for_what_is_no_classifier(run, capsys):
    assert main(["train", "features/autoencoder_under", "--data", str(run[0] / "store"), "--label", "label"]) == 2
    assert "is for classifiers" in capsys.readouterr().err


def relabelled(monkeypatch, change):
    """The stores as if their labels were others."""
    real = Store.columns

    def columns(self, *names):
        table = real(self, *names)
        if "label" in table:
            table["label"] = change(table["label"].astype(object))
        return table

    monkeypatch.setattr(Store, "columns", columns)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: s.where(s != "quarry", "earthquake"), "all records have the label 'earthquake': give records of two"),
        (lambda s: s.where(s != "quarry"), "40 of 80 records have no label: name them, or leave them out with --dataset.other"),
        (lambda s: s.where(s.index != 3, " "), "1 of 80 records have no label"),
        (lambda s: s.astype(str) + [str(i % 11) for i in s.index], "label has 22 classes .* a classifier takes 2 to 20"),
        (lambda s: s.where(s.index > 2, "icequake"), "records with the label 'icequake' in the split"),
        (lambda s: s.index.to_series(), "holds numbers"),
    ],
)
def test_columns_that_are_no_classes(run, tmp_path, monkeypatch, change, message):
    relabelled(monkeypatch, change)
    with pytest.raises(SeislatentError, match=message):
        training.train("features/classifier", str(run[0] / "store"), tmp_path / "r", label="label")
    assert not (tmp_path / "r").exists()


def test_a_column_that_is_not_there(run, tmp_path):
    with pytest.raises(SeislatentError, match="did you mean 'label'"):
        training.train("features/classifier", str(run[0] / "store"), tmp_path / "r", label="labek")


def test_a_folder_that_is_nothing_of_the_sort(tmp_path):
    (tmp_path / "x").mkdir()
    with pytest.raises(SeislatentError, match=r"labels\.csv"):
        training.train("features/blast", str(tmp_path / "x"), tmp_path / "r")
