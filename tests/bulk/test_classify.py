"""Classes of records and streams, whole or in windows."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from small_annotator import DAY_NS, START_NS, record

from seislatent.bulk.classify import ClassifySettings, classify
from seislatent.errors import SeislatentError
from seislatent.io.miniseed import write
from seislatent.io.seisbench import write_seisbench


def test_records_have_one_answer_each_with_their_names(tmp_path, classifier):
    made = [replace(record([10.0] * k, seconds=40 + k, seed=k), metadata={"trace_name": f"r{k}"}) for k in (0, 1)]
    write_seisbench(tmp_path / "set", made)
    found = classify(classifier, tmp_path / "set").answers
    assert [(a.id, a.label) for a in found] == [("r0", "noise"), ("r1", "earthquake")]
    assert found[1].probability == pytest.approx(0.9) and found[1].probabilities["noise"] == pytest.approx(0.1)
    assert found[0].start_ns == START_NS and abs(found[0].end_ns - START_NS - 40 * 10**9) < 10**8


def test_short_streams_have_one_answer_and_long_ones_windows(tmp_path, classifier):
    (one,) = classify(classifier, write([record([50.0], seconds=200)], tmp_path / "short.mseed")).answers
    assert one.label == "earthquake" and one.id == "XX.AAA.00.HH"
    path = write([record([301.0], seconds=601)], tmp_path / "long.mseed")
    found = classify(classifier, path).answers
    assert {round((b.start_ns - a.start_ns) / 1e9) for a, b in pairwise(found)} == {10}
    assert all(a.start_ns % (10 * 10**9) == 0 and a.end_ns - a.start_ns == 20 * 10**9 for a in found)
    loud = [a for a in found if a.label == "earthquake"]
    assert loud and all(a.start_ns < START_NS + 310 * 10**9 and a.end_ns > START_NS + 301 * 10**9 for a in loud)
    assert len(classify(classifier, path, ClassifySettings(whole_s=1000)).answers) == 1
    assert len(classify(classifier, path, ClassifySettings(window_s=60, overlap=0.0)).answers) in (10, 11)


def test_windows_go_on_over_midnight(tmp_path, classifier):
    start = START_NS - START_NS % DAY_NS - 400 * 10**9
    found = classify(classifier, write([record([390.0], seconds=800, start_ns=start)], tmp_path / "night.mseed")).answers
    starts = np.array([a.start_ns for a in found])
    assert (np.diff(starts) == 10 * 10**9).all() and len(set(starts)) == len(starts)


def test_what_is_like_nothing_known_is_unknown(tmp_path, classifier):
    (one,) = classify(classifier, write([record([10.0], amplitude=1e5, seconds=60)], tmp_path / "loud.mseed")).answers
    assert one.label == "unknown" and one.probability == pytest.approx(0.9)


def test_what_cannot_be_classified_is_told(tmp_path, classifier, picker):
    path = write([record([], rate=1.0, band="LH")], tmp_path / "slow.mseed")
    with pytest.raises(SeislatentError, match="1 Hz"):
        classify(classifier, path)
    with pytest.raises(SeislatentError, match="no classifier"):
        classify(picker, path)
    with pytest.raises(SeislatentError, match="overlap by 1"):
        classify(classifier, path, ClassifySettings(overlap=1.0))


def test_gaps_of_a_stream_leave_windows_out(tmp_path, classifier):
    whole = record([301.0], seconds=900)
    one = replace(whole, data=whole.data[:, :40000])
    two = replace(whole, data=whole.data[:, 60000:], start_ns=whole.start_ns + 600 * 10**9)
    found = classify(classifier, write([one, two], tmp_path / "gap.mseed")).answers
    starts = (np.array([a.start_ns for a in found]) - START_NS) / 1e9
    assert not ((starts > 391) & (starts < 589)).any() and starts.min() < 1 and starts.max() > 870
