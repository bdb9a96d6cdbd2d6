"""The question translate, on a small store of pairs."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from seislatent.data.recipe import Made
from seislatent.data.shards import ShardWriter, finish
from seislatent.data.synthetic import earthquake
from seislatent.errors import SeislatentError
from seislatent.evaluate import evaluate
from seislatent.evaluate.baselines.broadband import Hybrid, Stochastic
from seislatent.io.intensity_table import read_intensity_table
from seislatent.signal.filters import Butterworth
from seislatent.systems.base import Translator

RATE, N, RECORDS, EVENTS = 50.0, 640, 10, 4


def pairs(folder, gain=lambda i: True, places=True):
    """A store of pairs as data/pairs makes them, of earthquakes at 50 Hz."""
    rng = np.random.default_rng(3)
    broad, low = (Butterworth(kind="lowpass", corners_hz=f, rate_hz=RATE) for f in (15.0, 1.0))
    with ShardWriter(folder, 0) as writer:
        for i in range(RECORDS):
            size = 5.0 + 0.3 * (i % EVENTS)
            made = earthquake(rng, N / RATE, RATE, magnitude=size, distance_km=20 + 8 * i, depth_km=10, unit="m/s^2")
            x = broad(made.data)
            peak = float(np.abs(x).max())
            about = {
                **made.metadata, "source_id": f"quake{i % EVENTS}", "trace_name": f"trace{i}",
                "split": "test" if i % EVENTS else "train", "trace_peak": peak, "trace_gain_known": gain(i),
                "trace_scale_unit": "m/s^2" if gain(i) else "counts", "trace_sampling_rate_hz": RATE, "trace_npts": N,
            }  # fmt: skip
            if places:
                about |= {"station_latitude_deg": 40.0 + i / 10, "station_longitude_deg": 20.0}
            channels = tuple(replace(c, station=f"S{i:02d}") for c in made.channels)
            record = replace(made, channels=channels, data=(x / peak).astype(np.float32), unit="1", metadata=about)
            writer.add(Made(record=record, others={"low": (low(x) / peak).astype(np.float32)}))
    finish(folder, {"recipe": "data/pairs", "config": {"low_hz": 1.0, "broad_hz": 15.0, "order": 4, "zero_phase": True}})
    return folder


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return pairs(tmp_path_factory.mktemp("pairs") / "store")


class Knowing(nn.Module, Translator):
    """Gives the records themselves back, times a factor; knows them by their low side."""

    name = "knowing"

    def __init__(self, folder, factor=1.0, noise=0.0):
        super().__init__()
        from seislatent.data.store import Store

        held = Store(folder)
        self.low, self.x = (torch.from_numpy(held.read(range(len(held)), array=a)) for a in ("low", "x"))
        self.factor, self.noise = factor, noise

    def translate(self, x, n, generator):
        nearest = torch.cdist(x.flatten(1).float(), self.low.flatten(1)).argmin(1)
        made = self.x[nearest][:, None].repeat(1, n, 1, 1) * self.factor
        return made * torch.exp(self.noise * torch.randn(len(x), n, 1, 1, generator=generator))


@pytest.fixture(scope="module")
def report(store, tmp_path_factory):
    out = tmp_path_factory.mktemp("report") / "out"
    # a factor of two for each draw, or half of it: the spread is known
    return evaluate(
        "translate", [Knowing(store, 2.0, 0.3), Hybrid(), Stochastic()], store, "all", out, draws=3, im_format="openquake"
    )


def test_a_factor_of_two_is_found_in_every_measure(report):
    told = report["systems"]["knowing"]
    for name in ("PGA_g", "PGV_cm_s", "SA(0.5)_g", "SA(1.0)_g", "EAS(2.0)_g_s", "CAV_cm_s", "PGA_Z_g"):
        mean, low, high = (told[f"ln_ratio_{name}"][k] for k in ("mean", "low", "high"))
        assert low - 0.05 <= np.log(2) <= high + 0.05, name
        assert mean == pytest.approx(told["ln_ratio_PGA_g"]["mean"], abs=1e-5)
    assert told["ln_ratio_arias_cm_s"]["mean"] == pytest.approx(2 * told["ln_ratio_PGA_g"]["mean"], abs=1e-5)
    assert told["ln_ratio_D5_95_s"]["mean"] == pytest.approx(0, abs=1e-5)
    row = next(r for r in told["by_measure"] if r["measure"] == "SA(1.0)_g")
    assert row["sigma"] == pytest.approx(0.3, abs=0.12)
    assert told["pg"]["mean"] == pytest.approx(10, abs=1e-3) and told["eg"]["mean"] < 8
    assert told["verdict"]["outcome"] == "failed"


def test_the_records_themselves_pass_every_limit_but_that_of_spread(store):
    told = evaluate("translate", Knowing(store), store, "all", draws=2)["systems"]["knowing"]
    assert told["eg"]["mean"] == pytest.approx(10, abs=1e-3) and told["anderson"]["mean"] == pytest.approx(10, abs=1e-3)
    assert told["abs_ln_ratio_SA"]["mean"] == pytest.approx(0, abs=1e-5)
    assert told["low_frequency_error"]["mean"] < 0.02
    failed = [j["metric"] for j in told["verdict"]["judged"] if j["outcome"] == "failed"]
    assert set(failed) <= {"calibration_SA"}


def test_the_hybrid_keeps_the_low_frequencies_and_the_stochastic_method_does_not(report):
    hybrid, alone = (report["systems"][f"baseline/{name}"] for name in ("hybrid", "stochastic"))
    assert hybrid["low_frequency_error_below"]["mean"] < 0.05 < alone["low_frequency_error_below"]["mean"]
    assert hybrid["anderson"]["mean"] > alone["anderson"]["mean"]
    assert abs(alone["ln_ratio_PGA_g"]["mean"]) < 0.7  # its own kind of records, magnitude and distance told
    assert alone["told"] == [] and "crossover at 1 Hz" in hybrid["told"][-1]


def test_the_report_on_disk(report):
    folder = report.folder
    told = json.loads((folder / "report.json").read_text())
    assert told["question"] == "translate" and told["records"] == RECORDS and told["events"] == EVENTS
    for system in told["systems"].values():
        assert set(system["eg"]) == {"mean", "std", "low", "high"}
        assert len(system["worst"]) == 10 and system["worst"][0]["abs_ln_ratio_SA"] >= system["worst"][-1]["abs_ln_ratio_SA"]
    page = (folder / "report.html").read_text()
    assert "failed" in page and "quake1" in page and "http" not in page.replace("http://www.w3.org", "")
    for name in ("bias", "fits", "calibration", "correlation", "distance", "examples_knowing"):
        assert (folder / f"{name}.png").stat().st_size > 5000, name


def test_the_table_of_measures_beside_it(report):
    table = read_intensity_table(report.folder / "knowing.csv")
    assert len(table) == RECORDS * 4 * 5 and set(table.draw) == {0, 1, 2, 3}
    rows = table[(table.component == "RotD50") & (table.site == "S03")].sort_values("draw")
    assert (rows["PGA_g"].iloc[1:] > rows["PGA_g"].iloc[0]).all()
    fields = (report.folder / "knowing_gmfs.csv").read_text().splitlines()
    assert fields[0].startswith("eid,sid,gmv_PGA") and len(fields) == 1 + RECORDS * 4
    assert (report.folder / "knowing_sites.csv").read_text().startswith("site_id,lon,lat")


def test_against_a_ground_motion_model(report):
    pytest.importorskip("pygmm", reason="ground-motion models are pygmm's")
    told = report["systems"]["knowing"]["against_model"]
    at = told["measures"].index("SA(1.0)_g")
    gap = told["draws"]["bias"][at] - told["record"]["bias"][at]
    assert gap == pytest.approx(report["systems"]["knowing"]["ln_ratio_SA(1.0)_g"]["mean"], abs=0.1)
    assert report["ground_motion_model"]["records"] == RECORDS
    assert "median of BSSA14" in str(report)


def test_the_verdict_is_printed(report):
    lines = [line for line in str(report).splitlines() if "knowing" in line and "failed" in line]
    assert lines


def test_records_in_counts_are_judged_by_ratios_and_said(tmp_path):
    told = evaluate("translate", Stochastic(), pairs(tmp_path / "s", gain=lambda i: i != 5), "all", tmp_path / "out", draws=2)
    assert told["records_in_si"] == RECORDS - 1
    assert "1 records are in counts" in told.page()
    assert len(read_intensity_table(told.folder / "baseline_stochastic.csv")) == (RECORDS - 1) * 3 * 5


def test_what_cannot_be_judged_is_refused(store, tmp_path):
    with pytest.raises(SeislatentError, match="seislatent prepare data/pairs"):
        evaluate("translate", Hybrid(), tmp_path)
    with pytest.raises(SeislatentError, match="does not translate"):
        evaluate("translate", nn.Linear(1, 1), store)
    with pytest.raises(SeislatentError, match="test"):
        evaluate("translate", Hybrid(), store, "tset")
    with pytest.raises(SeislatentError, match="openquake"):
        evaluate("translate", Hybrid(), store, im_format="openquak")
    with pytest.raises(SeislatentError, match="twice"):
        evaluate("translate", [Hybrid(), Hybrid()], store)
    with pytest.raises(SeislatentError, match="0 draws"):
        evaluate("translate", Hybrid(), store, draws=0)

    class Short(Knowing):
        def translate(self, x, n, generator):
            return super().translate(x, n, generator)[..., :-1]

    with pytest.raises(SeislatentError, match="shape"):
        evaluate("translate", Short(store), store, "all")
    with pytest.raises(SeislatentError, match="NaN"):
        evaluate("translate", Knowing(store, float("nan")), store, "all")


def test_silence_is_failed_and_stands_first_among_the_worst(store):
    class Mute(Knowing):
        name = "mute"

        def translate(self, x, n, generator):
            made = super().translate(x, n, generator)
            made[0] = 0
            return made

    told = evaluate("translate", Mute(store), store, "all", draws=2)
    one = told["systems"]["mute"]
    assert one["silent_share"]["mean"] == pytest.approx(2 / RECORDS)  # the first of each batch of eight
    assert {w["record"] for w in one["worst"][:2]} == {"trace0", "trace8"}
    assert "silent_share" not in one["verdict"]["missing"] and one["verdict"]["outcome"] != "passed"
    assert "mute" in told.page()


def test_stores_whose_sides_have_scales_of_their_own_are_refused(tmp_path, store):
    import shutil

    other = tmp_path / "store"
    shutil.copytree(store, other)
    finish(other, {"recipe": "data/pairs", "config": {"rescale_low": True}})
    with pytest.raises(SeislatentError, match="rescale_low"):
        evaluate("translate", Hybrid(), other)


def test_without_pygmm_the_rest_is_judged_and_said(store, monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "pygmm", None)
    told = evaluate("translate", Hybrid(), store, "all", draws=2)
    assert "pip install pygmm" in told["ground_motion_model"]["why_not"]
    assert told["systems"]["baseline/hybrid"]["against_model"] is None
    assert "gap_rms" not in told["systems"]["baseline/hybrid"]["correlations"]["correlation_frequencies"]
    assert "pip install pygmm" in told.page()


def test_one_draw_is_enough_but_for_spread(store):
    told = evaluate("translate", Hybrid(), store, "test", draws=1)["systems"]["baseline/hybrid"]
    assert told["calibration_SA"]["mean"] != told["calibration_SA"]["mean"]
    assert "calibration_SA" in told["verdict"]["missing"]


def test_no_file_is_left_where_judging_fails(store, tmp_path):
    out = tmp_path / "out"
    with pytest.raises(SeislatentError, match="NaN"):
        evaluate("translate", Knowing(store, float("nan")), store, "all", out)
    assert not Path(out).exists()


def test_pairs_of_systems_are_compared_record_by_record(store):
    made = evaluate("translate", [Hybrid(), Stochastic()], store, "all", draws=2)
    (row,) = made["differences"]
    assert (row["system"], row["than"]) == ("baseline/hybrid", "baseline/stochastic")
    one, other = (made["systems"][name] for name in (row["system"], row["than"]))
    for measure in ("eg", "anderson", "abs_ln_ratio_SA", "low_frequency_error"):
        assert row[measure]["mean"] == pytest.approx(one[measure]["mean"] - other[measure]["mean"]), measure
    assert row["low_frequency_error"]["high"] < 0
