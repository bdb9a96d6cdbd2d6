"""The experiment from grid to report: cells, resuming, workers, scores, bad input."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pandas as pd
import pytest
import torch

from seislatent.cli import main as command
from seislatent.errors import SeislatentError, UsageError
from seislatent.experiments import cells as training
from seislatent.experiments.cells import Task, headed, run
from seislatent.experiments.curve_scores import Paired, averaged, comparisons, ends, pick_measures, scores
from seislatent.experiments.grid import ENCODERS, RIVALS, WAYS, Amount, Arm, Cell, Grid, Learning, expand, paper, small
from seislatent.experiments.learning_curve import chosen, found_encoders, learning_curve
from seislatent.experiments.record_sets import read, source
from seislatent.experiments.running import Trained

QUICK = Learning(epochs=3, patience=2, rate=0.01)
TINY = Grid(arms=(Arm(encoders=("mine",), sizes=(12, 0), synthetic_sizes=(12,), repeats=2),), learning=QUICK)


def arms_of(found, **keys):
    return [c for c in found if all(getattr(c, k) == v for k, v in keys.items())]


# -- the grid ------------------------------------------------------------------------------------------------------------------


def test_the_small_grid_holds_every_comparison_of_the_paper():
    amounts = {"noise": Amount(pool=150, synthetic=False), "explosion": Amount(pool=5000, synthetic=True)}
    found = expand(small(), amounts, [*ENCODERS, *RIVALS])
    assert len(found) == len(set(found))
    real = arms_of(found, set="noise")
    assert {c.n for c in real} == {25, 50, 100, 150}  # 200 is more than there is; 0 is all
    at = {(c.encoder, c.head, c.way) for c in arms_of(real, n=100, repeat=0)}
    assert {(e, "convolution", w) for e in ENCODERS for w in WAYS} <= at
    assert {(e, "convolution", w) for e in RIVALS for w in WAYS[1:]} <= at
    assert ("over68", "dense", "schema 2") in at
    assert {c.n for c in arms_of(found, set="explosion")} == {500, 2000}
    assert arms_of(found, set="explosion", n=2000)[0].batch == 20 and arms_of(real, n=25)[0].batch == 8
    assert {(c.n, c.repeat) for c in found[:7]} == {(25, 0)} and {c.way for c in found[:7]} == {*WAYS}  # one draw, then the next


def test_the_papers_grid_is_everything_five_times():
    found = expand(paper(), {"picking": Amount(pool=100_000, synthetic=True)}, ENCODERS)
    assert {c.n for c in found} == {500, 1500, 5000, 15_000, 25_000, 50_000, 100_000}
    plain = [c for c in found if c.batch != 256]
    assert len(plain) == 6 * 2 * 3 * 7 * 5


def test_grids_refuse_what_they_do_not_know():
    with pytest.raises(UsageError, match="schema 2"):
        Arm(ways=("schema 3",))
    with pytest.raises(UsageError, match="paper"):
        chosen("papers")
    with pytest.raises(SeislatentError, match="no cell"):
        expand(Grid(arms=(Arm(sizes=(500,)),)), {"noise": Amount(pool=20, synthetic=False)}, ["over68"])


# -- records -------------------------------------------------------------------------------------------------------------------


def test_a_pool_and_its_test_share_no_event(quakes):
    it = read(source(f"noise={quakes}"))
    assert len(it.pool) == 32 and len(it.test) == 16 and it.x.shape == (48, 3, 64)
    event = it.table["event"].to_numpy()
    assert not set(event[it.pool]) & set(event[it.test])
    few, more = it.drawn(6, 0, 0), it.drawn(20, 0, 0)
    assert (more[:6] == few).all() and it.target[few].float().mean() == 0.5
    assert set(it.drawn(20, 1, 0)) != set(more)
    train, held = it.divided(more, 0.2, 0, 0)
    assert not set(event[train]) & set(event[held]) and sorted([*train, *held]) == sorted(more)
    assert set(it.target[held].tolist()) == {0, 1}


def test_a_set_may_be_a_part_of_a_store_and_its_snr_is_that_of_its_samples(shots):
    it = read(source(f"explosion:near={shots}?station_code=S1"))
    assert set(it.table["station"]) == {"XX.S1"} and it.source.name == "explosion:near"
    with pytest.raises(SeislatentError, match="station_code"):
        read(source(f"explosion={shots}?station_cod=S1"))
    quake = read(source(f"picking={shots}"))
    of_quakes = quake.table["name"].str.startswith("earthquake").to_numpy()
    assert np.nanmedian(quake.table["snr_db"][of_quakes]) == pytest.approx(26, abs=2)  # twenty times as large


@pytest.mark.parametrize("text", ["noise", "noise=", "quake=X", "noise=X?a", "noise:a/b=X"])
def test_sets_that_are_not_written_so(text):
    with pytest.raises(UsageError):
        source(text)


# -- one cell ------------------------------------------------------------------------------------------------------------------


def encoder_of(weights):
    (it,) = found_encoders(TINY, {"mine": weights})
    return it


def task_of(weights, name, ways=WAYS, **changes):
    cells = tuple(Cell(set=name, encoder="mine", head="convolution", way=w, n=24, batch=8, repeat=0) for w in ways)
    return Task(cells=cells, encoder=encoder_of(weights), learning=Learning(**{"epochs": 40, "rate": 0.01, **changes}), seed=0)


@pytest.mark.parametrize("job", ["noise", "picking"])
def test_a_head_learns_its_job(job, many, weights):
    records = read(source(f"{job}={many}"))
    found = {r.cell.way: r for r in run(task_of_pool(weights, job, records), records)}
    truth = records.target[records.test].numpy()
    for result in found.values():
        if job == "noise":
            assert ((result.answers > 0.5) == truth).mean() > 0.7
        else:
            always = np.abs(np.median(truth) - truth).mean()
            assert np.abs(result.answers - truth).mean() < 0.9 * always
    assert found["schema 2"].about["seconds_before"] == found["schema 1"].about["seconds"]


def task_of_pool(weights, name, records):
    n = len(records.pool)
    cells = tuple(Cell(set=name, encoder="mine", head="convolution", way=w, n=n, batch=8, repeat=0) for w in WAYS)
    return Task(cells=cells, encoder=encoder_of(weights), learning=Learning(epochs=40, rate=0.003), seed=0)


def test_features_computed_once_are_those_of_a_resting_encoder(quakes, weights, monkeypatch):
    records = read(source(f"noise={quakes}"))
    (quick,) = run(task_of(weights, "noise", ("schema 1",), epochs=4), records)
    monkeypatch.setattr(training, "CACHED", 0)
    (slow,) = run(task_of(weights, "noise", ("schema 1",), epochs=4), records)
    assert np.allclose(quick.answers, slow.answers, atol=1e-4)
    assert quick.about["steps"] == slow.about["steps"]


def test_a_frozen_encoder_stays_and_a_fine_tuned_one_moves(quakes, weights):
    records, encoder, learning = read(source(f"noise={quakes}")), encoder_of(weights), Learning(epochs=2)
    rows = records.divided(records.drawn(24, 0, 0), 0.2, 0, 0)
    system = headed(encoder, "convolution", records, learning, 0, fresh=False)
    before = [p.detach().clone() for p in system.footing.encoder.encoder.parameters()]
    cell = task_of(weights, "noise").cells[1]
    done = training.resting(cell, system, records, rows, learning, 0)
    assert all(torch.equal(a, b) for a, b in zip(before, system.footing.encoder.encoder.parameters(), strict=True))
    training.whole(cell, system, records, rows, learning, 0, before=done)
    after = [p.detach() for p in system.footing.encoder.encoder.parameters()]
    moved = max(float((a - b).abs().max()) for a, b in zip(before, after, strict=True))
    assert 0 < moved < 1e-2


# -- scores --------------------------------------------------------------------------------------------------------------------


def test_measures_of_picks_by_hand():
    told = pick_measures(np.array([0.05, -0.3, 1.0, 0.0]))
    assert told["median_s"] == pytest.approx(0.025) and told["mean_absolute_s"] == pytest.approx(0.3375)
    assert told["within_0.1"] == 0.5 and told["within_0.5"] == 0.75
    assert told["std_absolute_s"] == pytest.approx(np.std([0.05, 0.3, 1.0, 0.0]))


def test_an_interval_draws_events_and_repeats():
    events = np.repeat(np.arange(50), 4)
    rng = np.random.default_rng(1)
    by_event = np.repeat(rng.normal(size=50), 4)
    low, high = ends(by_event[None], events)
    assert high - low == pytest.approx(2 * 1.96 * by_event.std() / np.sqrt(50), rel=0.15)  # 50 events, not 200 records
    steady = ends(np.stack([np.full(200, 0.5), np.full(200, 0.1)]), events)
    assert steady == pytest.approx((0.1, 0.5))  # two repeats that differ: either may be drawn twice
    assert ends(by_event[None], np.zeros(200)) == (None, None)


def made_cell(way, repeat, answers, encoder="over68", head="convolution"):
    cell = Cell(set="noise", encoder=encoder, head=head, way=way, n=50, batch=8, repeat=repeat)
    return Trained(cell=cell, answers=np.array(answers, np.float32), about={"epochs": 5, "seconds": 1.0})


def test_comparisons_pair_what_differs_in_one_thing():
    truth = np.array([0, 1] * 20)
    tests = {"noise": pd.DataFrame({"truth": truth.astype(float), "event": np.arange(40)})}
    right, wrong = truth * 0.8 + 0.1, 0.9 - truth * 0.8
    half = np.where(np.arange(40) < 20, right, wrong)
    found = [
        made_cell("baseline", 0, half), made_cell("schema 1", 0, half), made_cell("schema 2", 0, right),
        made_cell("schema 2", 0, wrong, "under68"), made_cell("schema 2", 0, right, "masked"),
        made_cell("schema 2", 0, half, head="dense"),
    ]  # fmt: skip
    table = averaged(scores(found, tests, {"noise": 20.0}))
    assert table.set_index(["encoder", "head", "way"])["accuracy"]["over68", "convolution", "schema 2"] == 1
    asked = {q: {(d.one, d.other): d for d in ds} for q, ds in comparisons(Paired(found, tests, {"noise": 20.0}), table).items()}
    tuned = asked["learnt without labels against from scratch"]["over68, schema 2", "baseline of over68"]
    assert tuned.gain == 0.5 and tuned.verdict == "better" and 0.3 < tuned.low < tuned.high < 0.7
    assert asked["rivals against from scratch"]["masked, schema 2", "baseline of over68"].gain == 0.5
    assert asked["rivals against the autoencoder"]["masked, schema 2", "over68, schema 2"].verdict == "undecided"
    assert asked["fine-tuned against frozen"]["over68, schema 2", "over68, schema 1"].gain == 0.5
    assert asked["overcomplete against undercomplete"]["over68, schema 2", "under68, schema 2"].gain == 1
    assert asked["with the convolution against without"]["over68, schema 2", "over68, schema 2, no convolution"].gain == 0.5


# -- the whole -----------------------------------------------------------------------------------------------------------------


def answers(out):
    return {p.name: p.read_bytes() for p in sorted((out / "cells").glob("*.parquet"))}


def same(one, other):
    """Answers alike; times may differ."""
    import io

    import pyarrow.parquet as pq

    assert one.keys() == other.keys()
    for name in one:
        a, b = (pq.read_table(io.BytesIO(files[name]))["answer"].to_numpy() for files in (one, other))
        assert np.array_equal(a, b), name


@pytest.fixture(scope="module")
def whole(tmp_path_factory, quakes, shots, weights):
    """An experiment through the command line, with one worker."""
    folder = tmp_path_factory.mktemp("whole")
    grid = folder / "grid.yaml"
    learning = "learning: {epochs: 3, patience: 2, rate: 0.01}"
    grid.write_text(f"arms:\n  - {{encoders: [mine], sizes: [12, 0], synthetic_sizes: [12], repeats: 1}}\n{learning}\n")
    words = [
        "experiment", "learning-curve", "--data", f"noise={quakes}", "--data", f"picking={quakes}",
        "--synthetic", f"explosion={shots}", "--encoder", f"mine={weights}", "--grid", str(grid), "--out",
    ]  # fmt: skip
    assert command.main([*words, str(folder / "one")]) == 0
    return folder / "one", words


def test_an_experiment_writes_cells_tables_and_figures(whole):
    out, _ = whole
    table = pd.read_csv(out / "results.csv")
    assert len(table) == len(answers(out)) == 3 * (2 + 2 + 1)
    assert set(table["way"]) == set(WAYS) and table[table["set"] == "noise"]["accuracy"].between(0, 1).all()
    told = json.loads((out / "report.json").read_text())
    assert told["sets"]["noise"]["pool"] == 32 and told["cells"] == 15
    assert "always the median P" in told["without a network"]["picking"]
    assert {"ps ratio", "band energies"} <= told["without a network"]["explosion"].keys()
    for name in ("picking_errors.png", "picking_snr.png", "cost_n.png", "report.html", "results.md"):
        assert (out / name).stat().st_size > 1000, name


@pytest.fixture
def unreported(monkeypatch):
    """Figures take longer than the cells of these tests."""
    monkeypatch.setattr("seislatent.experiments.learning_curve.report", lambda *_: {})


@pytest.mark.slow
def test_two_workers_give_the_same(whole, tmp_path, unreported):
    out, words = whole
    assert command.main([*words, str(tmp_path / "two"), "--workers", "2"]) == 0
    same(answers(out), answers(tmp_path / "two"))


def test_what_is_missing_is_trained_again_and_nothing_else(whole, tmp_path, unreported):
    out, words = whole
    again = tmp_path / "again"
    shutil.copytree(out, again)
    before = {p: p.stat().st_mtime_ns for p in (again / "cells").iterdir()}
    gone = [p for p in sorted(before) if ".schema2." in p.name or ".n12.b8." in p.name][:4]
    for path in gone:
        path.unlink()
    (again / "cells" / f".{gone[0].name}.999").write_bytes(b"half")  # what a killed process leaves
    assert command.main([*words, str(again)]) == 0
    after = {p: p.stat().st_mtime_ns for p in (again / "cells").glob("*.parquet")}
    assert {p for p in before if after[p] != before[p]} == set(gone)
    same(answers(out), answers(again))


def test_a_run_that_is_interrupted_keeps_what_it_has(tmp_path, quakes, weights, monkeypatch):
    def stop(done, total):
        if done:
            raise KeyboardInterrupt

    keys = {"data": [f"noise={quakes}"], "encoders": {"mine": weights}}
    with pytest.raises(KeyboardInterrupt):
        learning_curve(tmp_path / "out", grid=TINY, progress=stop, **keys)
    kept = answers(tmp_path / "out")
    assert 0 < len(kept) < 12
    told = learning_curve(tmp_path / "out", grid=TINY, report_only=True, **keys)
    assert told["cells"] == len(kept) and answers(tmp_path / "out") == kept
    more = Grid(arms=(*TINY.arms, Arm(encoders=("mine",), sizes=(18,), repeats=1)), learning=QUICK)
    monkeypatch.setattr("seislatent.experiments.learning_curve.report", lambda *_: {})
    learning_curve(tmp_path / "out", grid=more, **keys)
    assert len(answers(tmp_path / "out")) == 15 and kept.items() <= answers(tmp_path / "out").items()


def test_bad_input_is_one_line(tmp_path, quakes, weights, make_store):
    def line(error, match, **keys):
        with pytest.raises(error, match=match) as caught:
            learning_curve(tmp_path / "out", **{"grid": TINY, "data": [f"noise={quakes}"], "encoders": {"mine": weights}, **keys})
        assert "\n" not in str(caught.value)

    line(UsageError, "no records", data=[])
    line(SeislatentError, "no record store", data=[f"noise={tmp_path}"])
    line(SeislatentError, "explosion", data=[f"explosion={quakes}"])
    line(UsageError, "two sets", data=[f"noise={quakes}", f"noise={quakes}"])
    line(UsageError, "encoder of the grid", encoders={"mime": weights})
    line(UsageError, "--encoder mine=FILE", encoders={})
    line(
        SeislatentError,
        "540 samples at 20 Hz, and noise has 64",
        encoders={},
        grid=Grid(arms=(Arm(sizes=(12,), ways=("baseline",)),), learning=QUICK),
    )
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").write_text("x")
    with pytest.raises(SeislatentError, match="other files"):
        learning_curve(tmp_path / "full", grid=TINY, data=[f"noise={quakes}"], encoders={"mine": weights})


def test_the_command_line_refuses_in_one_line(capsys):
    assert command.main(["experiment", "learning-curve", "--encoder", "over68", "--out", "x"]) == 2
    assert "NAME=MODEL" in capsys.readouterr().err
    assert command.main(["experiment", "learning-curv", "--out", "x"]) == 2
    assert command.main(["experiment", "learning-curve", "--workers", "0", "--out", "x"]) == 2


def test_an_encoder_that_is_not_given_is_a_baseline_alone(caplog):
    found = found_encoders(small(), {})
    assert {e.name for e in found} == {*ENCODERS, *RIVALS}
    assert {e.name for e in found if not e.weights} == {"over34", "over17", "under34", "under17"}
    assert "under17 is not given" in caplog.text and {e.system for e in found if not e.weights} == {"features/autoencoder"}
