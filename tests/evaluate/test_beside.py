"""Differences of pairs: the interval of what is drawn together, not of two means side by side."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from seislatent.cli import main as command
from seislatent.evaluate.beside import of_draws, of_values
from seislatent.evaluate.bootstrap import summary
from seislatent.evaluate.judged import draws_of, ends_of, ratio, told, weights
from seislatent.metrics.detection import event_weights, interval_by_event


def test_what_both_share_is_in_no_interval():
    rng = np.random.default_rng(0)
    events = np.repeat(np.arange(30), 4)
    hard = np.repeat(rng.normal(0, 10, 30), 4)  # some events are hard for every system
    values = {"a": {"m": hard + 1}, "b": {"m": hard + rng.normal(0, 0.1, 120)}}
    (row,) = of_values(values, events)
    alone = [summary(values[name]["m"], events) for name in "ab"]
    assert alone[0].low < alone[1].mean < alone[0].high  # side by side they cannot be told apart
    assert (row["system"], row["than"]) == ("a", "b")
    assert 0.9 < row["m"]["low"] < row["m"]["mean"] < row["m"]["high"] < 1.1


def test_records_that_one_lacks_are_left_out_and_trivial_systems_too():
    values = {"a": {"m": np.array([1.0, np.nan, 5.0])}, "b": {"m": np.array([0.0, 0.0, 3.0])}, "trivial/c": {"m": np.zeros(3)}}
    (row,) = of_values(values, np.arange(3))
    assert row["m"]["mean"] == 1.5
    assert "m" not in of_values({"a": {"m": np.array([np.nan])}, "b": {"m": np.array([1.0])}}, np.arange(1))[0]


def test_ratios_are_drawn_together():
    right, events = torch.tensor([1.0, 0, 1, 0, 1, 1]), np.array([0, 0, 1, 1, 2, 2])
    whole = torch.ones(6)
    one, other = ratio(right.double(), whole.double(), events), ratio((right * 0).double(), whole.double(), events)
    (row,) = of_draws({"a": {"m": one}, "b": {"m": other}}, ["m", "none"])
    assert row == {"system": "a", "than": "b", "m": {"mean": one["mean"], "std": None, "low": one["low"], "high": one["high"]}}
    (same,) = of_draws({"a": {"m": one}, "b": {"m": one}}, ["m"])
    assert (same["m"]["low"], same["m"]["high"]) == (0, 0)
    (alone,) = of_draws({"a": {"m": ratio(right, whole, np.zeros(6))}, "b": {"m": ratio(right, whole, np.zeros(6))}}, ["m"])
    assert alone["m"]["low"] is None


def test_intervals_are_those_of_the_metrics():
    events, x = np.repeat(np.arange(12), 3), torch.arange(36).double().sin()
    w = weights(events)
    made = told(x.mean(), (w @ x) / w.sum(1), events)
    ends = interval_by_event(lambda v: (v @ x) / v.sum(1), events)
    assert (made["low"], made["high"]) == (pytest.approx(ends.low), pytest.approx(ends.high))
    assert torch.equal(w, event_weights(events))
    part, whole = (x > 0).double(), torch.arange(36).double()
    share = ratio(part, whole, events)
    ends = interval_by_event(lambda v: (v @ part) / (v @ whole), events)
    assert (share["low"], share["high"]) == (pytest.approx(ends.low), pytest.approx(ends.high))
    plain = summary(x.numpy(), events)
    assert (made["low"], made["high"]) == (pytest.approx(plain.low), pytest.approx(plain.high))
    assert ends_of(torch.tensor([float("nan"), 1.0])) == (None, None)
    assert [draws_of(n) for n in (10, 5_000, 10_000, 10**6)] == [1000, 1000, 500, 100]


@pytest.mark.parametrize(
    ("systems", "code", "message"),
    [
        ("baseline/mdtc", 1, "unknown baseline 'baseline/mdtc': did you mean 'baseline/mdct'?"),
        ("baseline/mdct,", 2, "names nothing between its commas"),
        ("", 2, "names nothing between its commas"),
    ],
)
def test_wrong_names_of_systems(systems, code, message, tmp_path, capsys):
    words = ["evaluate", "compress", "--systems", systems, "--data", str(tmp_path), "--out", str(tmp_path / "o")]
    assert command.main(words) == code
    assert message in capsys.readouterr().err
