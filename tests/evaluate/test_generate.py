"""The question generate, on a small set of synthetic records."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from seislatent.data.synthetic import earthquake
from seislatent.errors import SeislatentError
from seislatent.evaluate import evaluate
from seislatent.evaluate.baselines.broadband import Hybrid, Stochastic
from seislatent.evaluate.generated import records_of
from seislatent.io.seisbench import write_seisbench
from seislatent.systems.base import Embedder, Sampler

RATE, N, EVENTS = 50.0, 512, 16


def records(number=2, unit="m/s", seed=5):
    rng = np.random.default_rng(seed)
    made = []
    for i in range(EVENTS * number):
        event = i // number
        one = earthquake(rng, N / RATE, RATE, magnitude=4.0 + 0.1 * event, distance_km=20 + i, depth_km=10, unit="m/s")
        about = {
            **one.metadata, "source_id": f"quake{event:02d}", "trace_name": f"trace{i}",
            "split": "train" if event < EVENTS // 2 else "test",
        }  # fmt: skip
        gain = 1e9 if unit == "counts" else 1.0
        made.append(replace(one, data=(one.data * gain).astype(np.float32), unit=unit, metadata=about))
    return made


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_seisbench(tmp_path_factory.mktemp("records") / "set", records())


class Echo(nn.Module, Sampler):
    """Draws records of a folder, whatever is asked."""

    def __init__(self, folder, split, name, noise=0.0):
        super().__init__()
        self.x, self.name, self.noise = records_of(folder, split, 400, False).x, name, noise

    def sample(self, condition, n, generator):
        assert condition is None
        rows = torch.randperm(len(self.x), generator=generator).repeat(-(-n // len(self.x)))[:n]
        made = self.x[rows] * torch.exp(self.noise * torch.randn(n, 1, 1, generator=generator))
        return made[None]


class Magnitude(nn.Module, Sampler):
    """Noise that grows with the magnitude it is asked for."""

    name, conditions = "noise", ("source_magnitude",)

    def sample(self, condition, n, generator):
        x = torch.randn(len(condition), n, 3, N, generator=generator)
        return x * 10 ** (condition[:, :, None, None] - 8)


class Peaks(nn.Module, Embedder):
    name = "peaks"

    def embed(self, x):
        return x.abs().amax(-1).log()


@pytest.fixture(scope="module")
def report(folder, tmp_path_factory):
    systems = [Stochastic(), Echo(folder, "train", "copies"), Magnitude()]
    out = tmp_path_factory.mktemp("report") / "out"
    return evaluate("generate", systems, folder, "test", out, draws=4, embedder=Peaks())


def test_the_source_of_the_records_is_nearer_than_noise(report):
    told = report["systems"]
    own, noise = told["baseline/stochastic"], told["noise"]
    for component in ("Z", "H1", "H2"):
        assert own[f"frechet_{component}"]["mean"] < 0.3 * noise[f"frechet_{component}"]["mean"]
        assert own[f"frechet_floor_{component}"]["mean"] > 0
    assert own["mmd_p"]["mean"] > 0.02 > noise["mmd_p"]["mean"]
    assert own["coverage"]["mean"] > 0.5 > noise["coverage"]["mean"]
    assert own["calibration_SA"]["mean"] > noise["calibration_SA"]["mean"]
    assert abs(own["ln_ratio_PGA_g"]["mean"]) < 0.6
    assert own["frechet_features"]["mean"] < noise["frechet_features"]["mean"]


def test_copies_of_training_records_are_found(report):
    told = report["systems"]
    assert report["training_records"] == EVENTS
    assert told["copies"]["training_distance"]["mean"] < 1e-3
    assert told["copies"]["memorisation_nearer"]["mean"] == 1 and told["copies"]["memorisation_p"]["mean"] < 0.01
    assert told["baseline/stochastic"]["memorisation_p"]["mean"] > 0.01


def test_a_condition_reaches_the_sampler(folder):
    told = evaluate("generate", Magnitude(), folder, "all", draws=2)
    real = records_of(folder, "all", 400, False)
    assert len(real.x) == told["records"] == 2 * EVENTS and real.physical and real.quantity == "velocity"
    assert told["training_records"] == 0 and "memorisation_p" not in told["systems"]["noise"]


def test_components_that_have_nothing_in_common(report):
    told = report["systems"]["noise"]["coherence_H1_H2"]["mean"]
    assert told < report["real"]["coherence_H1_H2"]["mean"] + 0.2 and 0 <= told <= 0.3
    assert report["systems"]["noise"]["coherence_H1_H2_gap"]["mean"] == pytest.approx(
        told - report["real"]["coherence_H1_H2"]["mean"], abs=1e-6
    )


def test_the_report_of_draws_on_disk(report):
    told = json.loads((report.folder / "report.json").read_text())
    assert told["question"] == "generate" and told["records"] == EVENTS and told["events"] == EVENTS // 2
    assert set(told["systems"]["noise"]["calibration_SA"]) == {"mean", "std", "low", "high"}
    for name in ("spectra", "frechet", "bias", "memorisation", "examples", "calibration"):
        assert (report.folder / f"{name}.png").stat().st_size > 5000, name
    assert "In SI units" in (report.folder / "report.html").read_text()


def test_counts_are_judged_without_their_level(tmp_path):
    where = write_seisbench(tmp_path / "counts", records(1, "counts"))
    told = evaluate("generate", Stochastic(), where, "all", draws=2)
    assert not told["physical"] and told["quantity"] == "velocity"
    assert "levels are not judged" in told.page()
    peak = records_of(where, "all", 400, False).x.abs().amax((1, 2))
    assert peak.tolist() == pytest.approx([1.0] * EVENTS)


def test_records_of_another_kind_and_dead_ones_are_left_out_and_counted(tmp_path):
    made = records(1)
    short, dead = made[0], made[1].data.copy()
    dead[1] = 3.0
    made[0] = replace(short, data=short.data[:, :-7])
    made[1] = replace(made[1], data=dead)
    found = records_of(write_seisbench(tmp_path / "some", made), "all", 400, False)
    assert len(found.x) == EVENTS - 2
    assert found.left_out == {"a dead component": 1, "another rate, length or quantity": 1}


def test_what_cannot_be_drawn_is_refused(folder, tmp_path):
    with pytest.raises(SeislatentError, match="store of pairs"):
        evaluate("generate", Hybrid(), folder)
    with pytest.raises(SeislatentError, match="does not draw"):
        evaluate("generate", nn.Linear(1, 1), folder)
    with pytest.raises(SeislatentError, match="two draws"):
        evaluate("generate", Stochastic(), folder, draws=1)
    with pytest.raises(SeislatentError, match="gives no features"):
        evaluate("generate", Stochastic(), folder, embedder=Stochastic())

    class Other(Magnitude):
        conditions = ("source_colour",)

    with pytest.raises(SeislatentError, match="source_colour"):
        evaluate("generate", Other(), folder)

    class Slow(Magnitude):
        sampling_rate_hz = 20.0

    with pytest.raises(SeislatentError, match="20 Hz"):
        evaluate("generate", Slow(), folder)

    class Silent(Magnitude):
        def sample(self, condition, n, generator):
            return 0 * super().sample(condition, n, generator)

    with pytest.raises(SeislatentError, match="silent"):
        evaluate("generate", Silent(), folder)
