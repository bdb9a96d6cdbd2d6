"""Limits and verdicts."""

from __future__ import annotations

import math

import pytest

from seislatent.errors import SeislatentError
from seislatent.evaluate.criteria import LIMITS, Criteria, Limit, judge, load


def told(mean, low=None, high=None):
    return {"mean": mean, "std": 0.1, "low": low, "high": high}


def rules(*limits):
    return Criteria(name="some", limits=list(limits))


@pytest.mark.parametrize(
    "value, outcome",
    [
        (told(0.1, 0.05, 0.2), "passed"),
        (told(0.3, 0.1, 0.5), "open"),
        (told(0.9, 0.6, 1.2), "failed"),
        (told(-0.9, -1.2, -0.5), "failed"),
        (told(0.4), "passed"),
        (told(0.5), "failed"),
    ],
)
def test_the_whole_interval_decides(value, outcome):
    verdict = judge({"bias": value}, rules(Limit(metric="bias", lowest=-0.4, highest=0.4)))
    assert verdict.outcome == outcome and verdict.judged[0].outcome == outcome


def test_one_failed_limit_fails_and_an_open_one_leaves_open():
    metrics = {"a": told(1.0, 0.9, 1.1), "b": told(5.0, 3.0, 7.0), "c": told(9.0, 8.0, 10.0), "points": [1]}
    good, between, bad = Limit(metric="a", highest=2), Limit(metric="b", lowest=4), Limit(metric="c", highest=1)
    assert judge(metrics, rules(good)).outcome == "passed"
    assert judge(metrics, rules(good, between)).outcome == "open"
    assert judge(metrics, rules(good, between, bad)).outcome == "failed"


def test_stars_stand_for_any_characters_and_brackets_for_themselves():
    metrics = {"ln_ratio_SA(0.1)_g": told(0.0), "ln_ratio_SA(1.0)_g": told(1.0), "ln_ratio_PGA_g": told(9.0)}
    verdict = judge(metrics, rules(Limit(metric="ln_ratio_SA(*)_g", highest=0.5)))
    assert [j.outcome for j in verdict.judged] == ["passed", "failed"]
    assert verdict.plain()["judged"][1]["metric"] == "ln_ratio_SA(1.0)_g"


def test_what_is_not_known_is_never_passed():
    metrics = {"a": told(1.0), "b": told(math.nan), "d": told(None)}
    verdict = judge(metrics, rules(*(Limit(metric=m, highest=2) for m in "abcd")))
    assert verdict.outcome == "open" and verdict.missing == ["b", "c", "d"]
    assert judge(metrics, rules()).outcome == "open"


def test_every_shipped_file_loads_and_names_its_sources():
    shipped = sorted(p.stem for p in LIMITS.glob("*.yaml"))
    assert "broadband" in shipped
    for name in shipped:
        made = load(name)
        assert made.name == name and all(limit.source for limit in made.limits)


def test_a_file_of_ones_own(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("limits:\n  - {metric: eg, lowest: 6}\n")
    assert load(path).limits == [Limit(metric="eg", lowest=6.0)] and load(path).name == "mine"


@pytest.mark.parametrize(
    "text, match",
    [
        ("limits: [{metric: eg, lowst: 6}]", "lowest"),
        ("limits: [{metric: eg}]", "lowest, highest"),
        ("limits: [{metric: eg, lowest: 6, highest: 4}]", "lower one first"),
        ("limits: [{lowest: 6}]", "no metric"),
        ("limits: []", "no limit"),
        ("limits: 3", "list of limits"),
        ("title: x\nlimits: [{metric: eg, lowest: 6}]", "title"),
        ("{", "no criteria"),
    ],
)
def test_bad_files_are_refused_with_their_name(tmp_path, text, match):
    path = tmp_path / "bad.yaml"
    path.write_text(text)
    with pytest.raises(SeislatentError, match=match) as told:
        load(path)
    assert "bad.yaml" in str(told.value)


def test_unknown_names_name_the_nearest():
    with pytest.raises(SeislatentError, match="broadband"):
        load("brodband")
    with pytest.raises(SeislatentError, match="no criteria"):
        load("nowhere.yaml")
