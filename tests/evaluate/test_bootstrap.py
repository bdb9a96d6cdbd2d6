"""Intervals drawn by event."""

from __future__ import annotations

import numpy as np
import pytest

from seislatent.evaluate.bootstrap import DRAWS, summary


def test_two_events_by_hand():
    found = summary([0, 0, 1], ["a", "a", "b"])
    assert found.mean == pytest.approx(1 / 3) and found.std == pytest.approx(np.sqrt(2) / 3)
    assert (found.low, found.high) == (0, 1)  # twice a: 0, twice b: 1, each in a quarter of the draws


def test_more_records_of_one_event_make_nothing_surer():
    rng = np.random.default_rng(1)
    values = rng.normal(size=30)
    once = summary(values, np.arange(30))
    often = summary(np.repeat(values, 50), np.repeat(np.arange(30), 50))
    alone = summary(np.repeat(values, 50), np.arange(1500))
    assert (often.low, often.high) == pytest.approx((once.low, once.high))
    assert alone.high - alone.low < 0.3 * (once.high - once.low)


def test_width_for_many_events():
    values = np.random.default_rng(2).normal(size=400)
    found = summary(values, np.arange(400))
    assert found.high - found.low == pytest.approx(2 * 1.96 * values.std() / 20, rel=0.1)
    assert summary(values, np.arange(400)) == found and DRAWS == 1000


def test_one_event_has_no_interval():
    assert (summary([1, 2, 3], [7, 7, 7]).low, summary([1.0], ["x"]).high) == (None, None)
