"""Annotators on streams: the same answers wherever a file was cut, at every rate, and none in gaps."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch
from small_annotator import DAY_NS, START_NS, Rise, channels, record

from seislatent.errors import SeislatentError
from seislatent.systems.features.annotate import Annotation, annotation, annotation_blocks, batch_of, windows
from seislatent.systems.features.arrivals import arrivals, peaks, picked
from seislatent.systems.features.picker import PhasePicker, PhasePickerConfig
from seislatent.systems.features.stretches import parts
from seislatent.waveform import Waveform


def cut(waveform, first, last=None):
    rate = waveform.sampling_rate_hz
    return replace(waveform, data=waveform.data[:, first:last], start_ns=waveform.start_ns + round(first / rate * 1e9))


def times(waveform, phase="P", **how):
    return [a.time_ns for a in arrivals(Rise(), waveform, **how) if a.phase == phase]


def near(ns, seconds, start_ns=START_NS):
    return abs((ns - start_ns) / 1e9 - seconds)


@pytest.mark.parametrize("rate", [20.0, 40.0, 50.0, 100.0, 125.0, 200.0, 250.0, 500.0, 99.9987])
def test_an_onset_is_found_at_every_rate(rate):
    found = times(record([41.237, 71.5], rate=rate))
    assert len(found) == 2
    assert near(found[0], 41.237) < 0.06 and near(found[1], 71.5) < 0.06


@pytest.mark.parametrize("rate", [100.0, 40.0, 250.0])
def test_a_file_that_is_cut_elsewhere_has_the_same_picks(rate):
    whole = record([41.237, 71.5], rate=rate, seconds=120)
    (first, second) = times(whole)
    for at in (1, 7, 333, 1234, 2000):
        found = times(cut(whole, round(at * rate / 100)))
        assert len(found) == 2
        assert abs(found[0] - first) < 1e7 and abs(found[1] - second) < 1e7, "within a sample of 10 ms"
    for last in (60, 90, 101):
        found = times(cut(whole, 0, round(last * rate)))
        assert abs(found[0] - first) < 1e7


def test_a_file_in_pieces_is_the_whole_to_the_last_digit():
    whole = record([41.237, 71.5], seconds=150)
    one = annotation(Rise(), whole)
    ends = [0, 1, 130, 5000, 5001, 9999, 15000]
    pieces = [cut(whole, a, b) for a, b in pairwise(ends)]
    other = annotation(Rise(), iter(pieces))
    assert one.first == other.first and np.array_equal(one.valid, other.valid)
    np.testing.assert_allclose(one.probabilities, other.probabilities, atol=2e-6)


def test_the_trained_picker_s_network_gives_the_same_picks_wherever_a_file_is_cut():
    """On the real network, with weights that make it answer: its margin is what it says."""
    torch.manual_seed(1)
    system = PhasePicker(PhasePickerConfig(widths=(4, 4, 8, 8), dilations=(1,), level_s=2.0, samples=4096)).eval()
    with torch.no_grad():
        system.last.weight.normal_(std=2.0)
        system.last.bias.zero_()
    whole = record([61.237, 91.5], seconds=150)
    one = annotation(system, whole)
    for at in (77, 1000, 2345):
        other = annotation(system, cut(whole, at))
        inner = slice(system.margin + 64, None)
        assert other.first - one.first == at
        assert other.valid[inner].any()
        np.testing.assert_allclose(other.probabilities[:, inner], one.probabilities[:, at:][:, inner], atol=1e-4)


@pytest.mark.parametrize("stacking", ["max", "avg"])
@pytest.mark.parametrize("overlap", [0.5, 400, 900])
def test_overlaps_change_nothing_for_an_annotator_that_keeps_to_its_margin(overlap, stacking):
    whole = record([41.237], seconds=80)
    one = annotation(Rise(), whole)
    other = annotation(Rise(), whole, overlap=overlap, stacking=stacking)
    np.testing.assert_allclose(one.probabilities, other.probabilities, atol=1e-5)
    assert np.array_equal(one.valid, other.valid)


def test_every_sample_is_asked_once():
    system = Rise()
    hop = windows(system).hop
    assert hop == system.samples - 2 * system.margin
    annotation(system, record([], seconds=600))
    assert system.asked <= 60000 / hop + 3


def test_windows_that_leave_holes_or_do_not_move_are_refused():
    for how in ({"overlap": 100}, {"overlap": 1000}, {"overlap": -1}, {"blinding": 500}, {"blinding": (-1, 0)}, {"overlap": 999}):
        with pytest.raises(SeislatentError, match=r"overlap|blinding"):
            windows(Rise(), **how)
    assert windows(Rise(), overlap=0, blinding=0).hop == 1000
    with pytest.raises(SeislatentError, match="did you mean 'max'"):
        annotation(Rise(), record([]), stacking="maxi")
    with pytest.raises(SeislatentError, match="at least 1"):
        annotation(Rise(), record([]), batch_size=0)
    assert batch_of(Rise()) == 65


@pytest.mark.parametrize("filled", ["nan", "zero", "constant", "inf", "absent", "pieces"])
def test_no_pick_in_a_gap_or_at_its_ends(filled):
    whole = record([30.0, 70.0], seconds=100)
    data = whole.data.astype(np.float64) + 5000.0  # an offset, so that a gap of zeros has steps at its ends
    gap = slice(4500, 5200)
    if filled == "absent":
        pieces = [replace(whole, data=data[:, :4500]), cut(replace(whole, data=data), 5200)]
    elif filled == "pieces":
        pieces = [cut(replace(whole, data=data), a, b) for a, b in ((0, 4500), (5200, 7777), (7777, None))]
    else:
        data[:, gap] = {"nan": np.nan, "zero": 0.0, "constant": 123.0, "inf": np.inf}[filled]
        pieces = [replace(whole, data=data)]
    found = times(iter(pieces))
    assert len(found) == 2 and near(found[0], 30) < 0.05 and near(found[1], 70) < 0.05
    one = annotation(Rise(), iter(pieces))
    assert not one.valid[4450:5250].any() and one.valid[4440] and one.valid[5260]
    assert not one.probabilities[:, ~one.valid].any()


def test_a_gap_of_one_component_is_a_gap_and_a_missing_one_is_not():
    whole = record([30.0, 50.0, 70.0], seconds=100)
    data = whole.data.astype(np.float64)
    data[0, 4800:5200] = np.nan
    found = times(replace(whole, data=data))
    assert len(found) == 2 and near(found[0], 30) < 0.05 and near(found[1], 70) < 0.05
    data[2] = np.nan
    data[1] = 7.0  # dead
    assert len(times(replace(whole, data=data))) == 2
    assert not times(replace(whole, data=data), phase="S")


@pytest.mark.parametrize("components", ["Z", "ENZ", "Z12", "NZ", "Z3"[:1], "321"])
def test_any_order_and_number_of_components(components):
    found = times(record([41.2], components=components))
    assert len(found) == 1 and near(found[0], 41.2) < 0.05


def test_horizontal_components_alone_have_s():
    both = record([41.2], components="NE")
    assert not times(both) and len(times(both, phase="S")) == 1


@pytest.mark.parametrize("seconds", [0.5, 1.5, 3.0, 9.0])
def test_a_stream_shorter_than_a_window(seconds):
    one = annotation(Rise(), record([2.0], seconds=seconds))
    assert one.probabilities.shape == (2, round(seconds * 100))
    assert one.valid.sum() == max(0, round(seconds * 100) - 100)
    found = times(record([2.0], seconds=seconds))
    assert len(found) == (seconds > 2.6) and all(near(ns, 2.0) < 0.05 for ns in found)


def test_constant_and_silent_records_have_no_answers():
    for value in (0, 5):
        silent = replace(record([]), data=np.full((3, 5000), value, np.int32))
        assert not annotation(Rise(), silent).valid.any()
        assert picked(Rise(), silent) == []


@pytest.mark.parametrize("scale", [1e-9, 1e6, 1e20])
def test_amplitudes_of_any_unit(scale):
    whole = record([41.2])
    found = times(replace(whole, data=whole.data * scale))
    assert len(found) == 1 and near(found[0], 41.2) < 0.05


def test_what_cannot_be_annotated_is_told():
    whole = record([])
    bad = {
        "no numbers": replace(whole, data=np.full((3, 10), b"x", "S1")),
        "20 to 1000 Hz": replace(whole, sampling_rate_hz=1.0),
        "components are Z N E": replace(whole, channels=channels("ZRT")),
        "do not stand beside each other": replace(whole, channels=channels("ZZN")),
    }
    for told, waveform in bad.items():
        with pytest.raises(SeislatentError, match=told):
            annotation(Rise(), waveform)
    with pytest.raises(SeislatentError, match="in order"):
        annotation(Rise(), [cut(whole, 5000), cut(whole, 0, 100)])
    with pytest.raises(SeislatentError, match="no samples"):
        annotation(Rise(), replace(whole, data=whole.data[:, :0]))
    with pytest.raises(SeislatentError, match="more than"):
        annotation(Rise(), [whole, replace(whole, start_ns=START_NS + 400 * DAY_NS)])


def test_pieces_that_overlap_count_once():
    whole = record([41.2, 70.0])
    one, other = cut(whole, 0, 5000), cut(whole, 3000)
    assert times([one, other]) == times(whole)
    assert times([whole, cut(whole, 2000, 3000)]) == times(whole)


def answers(bells, *, seconds=60.0, block=700):
    """Blocks of an annotation of P with bells of some height at some times in s, as wide as 0.1 s."""
    t = np.arange(round(seconds * 100)) / 100
    p = np.max([height * np.exp(-(((t - at) / 0.1) ** 2) / 2) for at, height in bells], axis=0).astype(np.float32)
    whole = {"phases": ("P",), "sampling_rate_hz": 100.0}
    for at in range(0, len(p), block):
        part, clock = p[None, at : at + block], ((0, START_NS + at * 10**7),)
        yield Annotation(probabilities=part, valid=np.ones(part.shape[1], bool), first=1000 + at, clock=clock, **whole)


@pytest.mark.parametrize("block", [37, 700, 10_000])
def test_peaks_lie_between_samples_and_apart(block):
    bells = [(10.0037, 0.8), (10.8, 0.6), (20.123, 0.4), (21.3, 0.45), (40.0, 0.31), (50.0, 0.29)]
    found = list(peaks(answers(bells, block=block), Rise()))
    assert [round(near(a.time_ns, 0), 4) for a in found] == [10.0037, 20.123, 21.3, 40.0]
    assert found[0].probability == pytest.approx(0.8, abs=1e-3)
    half = 0.1 * np.sqrt(2 * np.log(0.8 / 0.3))
    assert near(found[0].begin_ns, 10.0037 - half) < 0.01 and near(found[0].end_ns, 10.0037 + half) < 0.01
    assert len(list(peaks(answers(bells, block=block), Rise(), distance_s=0.5))) == 5
    assert len(list(peaks(answers(bells, block=block), Rise(), thresholds={"P": 0.5}))) == 1


def test_thresholds_that_make_no_sense_are_refused():
    assert not times(record([41.2]), thresholds={"P": 0.99})
    with pytest.raises(SeislatentError, match="unknown phase"):
        times(record([]), thresholds={"Pg": 0.5})
    with pytest.raises(SeislatentError, match="above 0"):
        times(record([]), thresholds={"P": 0})
    with pytest.raises(SeislatentError, match="0 to 3600"):
        times(record([]), distance_s=-1.0)


def test_an_arrival_has_its_extent_and_its_uncertainty():
    (one,) = [a for a in arrivals(Rise(), record([41.2])) if a.phase == "P"]
    assert one.begin_ns <= one.time_ns <= one.end_ns < one.begin_ns + 10**9
    assert one.uncertainty_s == 0.1 and 0.3 <= one.probability <= 1
    (pick,) = [p for p in picked(Rise(), record([41.2], rate=40.0)) if p.phase == "P"]
    assert abs(pick.sample / 40 - 41.2) < 0.06 and pick.uncertainty_s == 0.1


def test_times_do_not_drift_with_a_clock_that_runs_fast():
    """Pieces with their own start, each 3 ms later than the samples before say: after 12 of them, 36 ms."""
    pieces = [record([60.0], seconds=120, start_ns=START_NS + k * (120 * 10**9 + 3_000_000), seed=k) for k in range(12)]
    found = times(iter(pieces))
    assert len(found) == 12
    off = [near(ns, 60.0, piece.start_ns) for ns, piece in zip(found, pieces, strict=True)]
    assert max(off) < 0.03 and max(off) - min(off) < 0.01


def test_a_day_comes_in_blocks_of_bounded_size():
    def hours():
        for k in range(4):
            yield record([1000.0], seconds=1800, start_ns=START_NS + k * 1800 * 10**9, seed=k)

    sizes = [len(block.valid) for block in annotation_blocks(Rise(), hours())]
    assert sum(sizes) == 4 * 180_000 and max(sizes) <= 70_000
    assert len(times(hours())) == 4


def test_parts_keep_the_time_of_every_sample():
    for rate in (100.0, 40.0, 62.5, 200.0):
        whole = record([], rate=rate, seconds=30, start_ns=START_NS + 123_456_789)
        for part in parts(whole, 100.0):
            number = part.start_ns * 100 / 1e9
            assert abs(number - part.first) < 1
            assert part.data.shape == part.given.shape and part.given.all()
        (only,) = parts(whole, 100.0) if rate == 100 else [next(iter(parts(whole, 100.0)))]
        assert START_NS + 123_456_789 <= only.start_ns < START_NS + 123_456_789 + 25_000_000


def test_the_picker_s_own_verb_is_this_one():
    torch.manual_seed(0)
    system = PhasePicker(PhasePickerConfig(widths=(4, 4, 4, 4), dilations=(1,), level_s=2.0, samples=4096)).eval()
    assert isinstance(system.pick(record([41.2])), list)
    silent = Waveform(data=np.zeros((3, 3000), np.int32), sampling_rate_hz=100.0, channels=channels())
    assert system.pick(silent) == []
