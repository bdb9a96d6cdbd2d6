"""Classical coders beside a codec: the same traces, the same rate, files of the same size; and by themselves."""

from __future__ import annotations

import json
import math
import pickle
from dataclasses import replace

import numpy as np
import pytest
from knowncodec import KnownModel, square

from seislatent import catalog
from seislatent.cli import main as command
from seislatent.errors import SeislatentError
from seislatent.evaluate import evaluate
from seislatent.evaluate.baselines import Mdct, content, exact, follows, try_baseline
from seislatent.evaluate.trial import try_record
from seislatent.io.seisbench import write_seisbench

pytest.importorskip("zstandard", reason="the lossless coder of these tests: pip install zstandard")


def noisy(seed, rate=80.0, rows=2, **about):
    """Squares with noise between them, in counts, at twice the codec's rate."""
    record = square(frames=60, rate=rate, rows=rows, amplitude=300, **about)
    rng = np.random.default_rng(seed)
    return record.with_data(np.round(record.data + rng.normal(0, 30, record.data.shape)).astype(np.int32), did="noise")


@pytest.fixture
def counts(tmp_path):
    """Three records of whole numbers, one trace of which is dead."""
    records = [noisy(i, event=f"e{i}", start=(i + 1) * 10**18) for i in range(3)]
    records[1].data[1] = 5
    return write_seisbench(tmp_path / "counts", records)


@pytest.fixture
def beside(known, counts):
    return evaluate("compress", [catalog.baseline("baseline/mdct"), known, catalog.baseline("baseline/zstd")], counts)


def test_files_are_of_the_codecs_size_and_traces_the_same(beside):
    codec, mdct = beside["systems"]["codec/known"], beside["systems"]["baseline/mdct"]
    assert (beside["traces"], beside["records"]) == (5, 3) and beside["skipped"] == {"silent (all samples equal)": 1}
    assert mdct["traces"] == 5 and mdct["records"] == 3 and mdct["sampling_rate_hz"] == 40
    assert mdct["sized_as"] == "codec/known" and "sized_as" not in codec and "weights" not in mdct
    assert [p["level"] for p in mdct["points"]] == [1, 2]
    for ours, theirs in zip(codec["points"], mdct["points"], strict=True):
        assert theirs["bits_per_sample"]["mean"] == pytest.approx(ours["bits_per_sample"]["mean"], rel=0.03)
        assert theirs["payload_bits_per_sample"]["mean"] < theirs["bits_per_sample"]["mean"]
        assert theirs["bits_per_second"]["mean"] == pytest.approx(40 * theirs["payload_bits_per_sample"]["mean"])
    assert mdct["points"][1]["snr_db"]["mean"] > mdct["points"][0]["snr_db"]["mean"] + 1


def test_pairs_of_coders_are_compared_trace_by_trace(beside):
    (pair,) = beside["differences"]  # zstd has one level and is compared with none
    assert (pair["system"], pair["than"]) == ("baseline/mdct", "codec/known")
    codec, mdct = beside["systems"]["codec/known"]["points"], beside["systems"]["baseline/mdct"]["points"]
    for point, ours, theirs in zip(pair["points"], mdct, codec, strict=True):
        for measure in ("snr_db", "eg", "bits_per_sample"):
            told = point[measure]
            assert told["mean"] == pytest.approx(ours[measure]["mean"] - theirs[measure]["mean"])
            assert told["low"] <= told["mean"] <= told["high"]
    two = evaluate("compress", [catalog.baseline("baseline/zstd"), catalog.baseline("baseline/steim1")], beside["data"])
    (point,) = two["differences"][0]["points"]
    assert point["snr_db"] is None and point["bits_per_sample"]["mean"] != 0


def test_lossless_coders_have_a_ratio_and_null_decibels(beside):
    zstd = beside["systems"]["baseline/zstd"]
    (point,) = zstd["points"]
    assert point["snr_db"] is None and zstd["sets"]["counts"]["snr_db"] == [None] and zstd["sized_as"] is None
    assert point["mse"]["mean"] == 0 and point["eg"]["mean"] == 10 and point["pg"]["mean"] == 10
    assert point["file_compression_ratio"]["mean"] > 1.2
    # above 20 Hz is lost by resampling, not by the coder
    assert 10 < point["snr_db_own_rate"]["mean"] < 30
    text = str(beside)
    assert "exact" in text and "nan" not in text


def test_alone_at_its_own_qualities_and_rate(counts):
    report = evaluate("compress", [Mdct(qualities=(10.0, 20.0)), catalog.baseline("baseline/zstd")], counts, "all")
    mdct = report["systems"]["baseline/mdct"]
    assert mdct["sized_as"] is None and mdct["sampling_rate_hz"] == 80
    for aimed, point in zip((10, 20), mdct["points"], strict=True):
        assert point["snr_db"]["mean"] == pytest.approx(aimed, abs=0.3)
        assert point["snr_db_own_rate"] == point["snr_db"]
    assert report["systems"]["baseline/zstd"]["points"][0]["snr_db_own_rate"] is None


def test_what_a_coder_does_not_take_is_told(known, tmp_path):
    floats = [noisy(i, event=f"e{i}", start=(i + 1) * 10**18) for i in range(2)]
    floats[0] = floats[0].with_data(floats[0].data * np.float32(0.001), did="scaled")
    folder = write_seisbench(tmp_path / "mixed", floats)
    report = evaluate("compress", [known, catalog.baseline("baseline/steim2")], folder)
    steim = report["systems"]["baseline/steim2"]
    assert report["traces"] == 4 and steim["traces"] == 2
    assert list(steim["skipped"].values()) == [2] and "whole numbers" in next(iter(steim["skipped"]))


def test_codecs_of_several_kinds_judge_the_same_traces(known, tmp_path):
    class Fussy(KnownModel):
        pass

    other = Fussy(name="codec/other")
    # a trace that one takes and the other does not: 1 s of 40 samples is the least, which a longer frame raises
    other.system.frame = 80
    records = [noisy(0, event="a"), replace(noisy(1, event="b", start=2 * 10**18), data=noisy(1).data[:, :100])]
    folder = write_seisbench(tmp_path / "two", records)
    report = evaluate("compress", [known, other], folder, "all")
    kept = {name: told["traces"] for name, told in report["systems"].items()}
    assert len(set(kept.values())) == 1


def test_reconstruct_and_levels(known, counts):
    report = evaluate("reconstruct", [known, Mdct()], counts)
    assert [p["level"] for p in report["systems"]["baseline/mdct"]["points"]] == [2]
    with pytest.raises(SeislatentError, match="baseline/zstd has levels 1 to 1"):
        evaluate("reconstruct", [known, catalog.baseline("baseline/zstd")], counts, level=2)
    with pytest.raises(SeislatentError, match="given twice"):
        evaluate("compress", [Mdct(), Mdct()], counts)


@pytest.mark.parametrize("name", ["mdct", "zfp", "sz3", "steim1", "steim2", "flac", "blosc2", "zstd"])
def test_coders_can_be_handed_to_processes(name):
    coder = catalog.baseline(f"baseline/{name}")
    again = pickle.loads(pickle.dumps(coder))
    record, quality = noisy(0, rows=1), coder.qualities[-1]
    try:
        data = coder.encode(record, quality)
    except SeislatentError as error:
        pytest.skip(str(error))  # a package of the extra `bench` is missing
    assert again.encode(record, quality) == data and again.name == f"baseline/{name}"


def test_a_coder_that_cannot_go_so_low_is_asked_for_0_db():
    record = noisy(0, rows=1, rate=40.0)
    trial = try_baseline(Mdct(), record, sizes=[50, 2000])
    assert trial.asked[0] == {"snr_db": 0.0} and set(trial.asked[1]) == {"bits_per_sample"}
    assert abs(trial.points[0][0].codec.snr_db) < 1 and trial.file_bytes[1] <= 2000


def test_content_is_whole_for_lossless_coders_only():
    record = noisy(0, rows=1)
    zstd = catalog.baseline("baseline/zstd")
    assert exact(zstd) and not follows(zstd) and follows(Mdct()) and not exact(Mdct())
    assert content(zstd, record, 40.0).data.dtype == np.int32 and content(Mdct(), record, 40.0).data.dtype == np.float64
    floats = record.with_data(record.data.astype(np.float32), did="float")
    assert content(zstd, floats, 40.0).data.dtype == np.int32
    assert content(zstd, floats.with_data(floats.data * 0.3, did="scaled"), 40.0).data.dtype == np.float32


def test_figures_show_what_was_judged(known, counts):
    """A trace drawn again is the trace that was measured."""
    from seislatent.data.records import open_records
    from seislatent.evaluate.compress_figures import decoded
    from seislatent.evaluate.tally import Tally
    from seislatent.evaluate.trial import errors

    records, mdct, ours, theirs = open_records(counts), Mdct(), Tally(), Tally()
    for i in range(len(records)):
        rows = (trial := try_record(known, records[i])).rows
        ours.add(i, trial)
        classical = try_baseline(mdct, records[i].select(rows), None, 40.0, trial.file_bytes)
        classical.rows = rows
        theirs.add(i, classical)
    for model, tally in ((known, ours), (mdct, theirs)):
        for at in range(len(tally.points)):
            for level in (1, 2):
                x, y, rate = decoded(model, tally, records, at, level)
                assert rate == 40 and errors(y, x) == tally.points[at][level - 1].codec


def test_the_verb_takes_baselines_and_utility(counts, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(catalog, "load", lambda name: KnownModel(name=name))
    out = tmp_path / "out"
    words = ["evaluate", "compress", "--systems", "codec/a,baseline/mdct,baseline/zstd", "--data", str(counts), "--out", str(out)]
    assert command.main([*words, "--utility", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert [*told["systems"]] == ["codec/a", "baseline/mdct", "baseline/zstd"]
    for system in told["systems"].values():
        assert system["points"][-1]["utility"]["peak_ratio"]["n"] == 3
    exactly = told["systems"]["baseline/zstd"]["points"][0]["utility"]
    assert exactly["peak_ratio"]["mean"] == 1 and exactly["lsd_2_5_hz_db"]["mean"] == 0
    figures = {p.stem for p in out.iterdir() if p.suffix == ".png"}
    traces = {"same_trace", "examples_1", "examples_2", "worst_1", "worst_2"}
    assert figures == {"rate_distortion", "goodness_of_fit", "utility"} | traces
    assert all(math.isfinite(w["snr_db"]) for w in told["systems"]["codec/a"]["worst"])
