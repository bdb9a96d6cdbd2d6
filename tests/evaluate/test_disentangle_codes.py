"""The question `disentangle`: codes whose worth is known by construction, and the coherent experiment with its truths."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

import seislatent as sl
from seislatent import catalog
from seislatent.cli import main as command
from seislatent.data.coherent import experiment, rebuilt, waveforms
from seislatent.errors import SeislatentError
from seislatent.evaluate.disentangle import LinearStack, PhaseWeightedStack, RawWaveform
from seislatent.io.seisbench import write_seisbench
from seislatent.systems.base import Disentangler, Embedder
from seislatent.waveform import Channel, Waveform

HALF, STATES, STATIONS = 40, 6, 8
BASELINES = {
    f"baseline/{cls.name.split('/')[1]}": f"seislatent.evaluate.disentangle.{cls.__name__}"
    for cls in (RawWaveform, LinearStack, PhaseWeightedStack)
}


def unit(rng):
    x = rng.normal(size=HALF)
    return (x - x.mean()) / x.std()


@pytest.fixture(scope="module")
def halves(tmp_path_factory):
    """Every state at every station: the first half of a record is the state's, the second the station's, plus a number."""
    rng = np.random.default_rng(0)
    states, stations = [unit(rng) for _ in range(STATES)], [unit(rng) for _ in range(STATIONS)]
    records = []
    for s, first in enumerate(states):
        for n, second in enumerate(stations):
            metadata = {"source_id": f"s{s}", "trace_name": f"{s}-{n}", "distance_km": 10.0 + n**2, "split": "test"}
            channel = Channel(network="XX", station=f"N{n}", code="HHZ", component="Z")
            data = np.concatenate([first, second])[None]
            metadata["station_code"] = channel.station
            records.append(
                Waveform(data=data, sampling_rate_hz=20.0, channels=(channel,), start_ns=(s + 1) * 10**16, metadata=metadata)
            )
    return write_seisbench(tmp_path_factory.mktemp("halves") / "records", records)


class Oracle(Disentangler):
    """Coherent is the first half, averaged over the group; nuisance the second."""

    name = "oracle"

    def codes(self, x, group):
        _, where = group.unique(return_inverse=True)
        mean = torch.stack([x[where == k, 0, :HALF].mean(0) for k in range(int(where.max()) + 1)])
        return mean[where], x[:, 0, HALF:]

    def redatum(self, coherent, nuisance):
        return torch.cat([coherent, nuisance], 1)[:, None]


class Wrong(Oracle):
    """The same, the other way round."""

    name = "wrong"

    def codes(self, x, group):
        coherent, nuisance = super().codes(x, group)
        return nuisance, coherent

    def redatum(self, coherent, nuisance):
        return torch.cat([nuisance, coherent], 1)[:, None]


class Half(Embedder):
    def __init__(self, name, part):
        self.name, self.part = name, part

    def embed(self, x):
        return x[:, 0, self.part]


def test_oracle_is_perfect(halves):
    report = sl.evaluate("disentangle", Oracle(), halves, group=4, nuisance="station_code,distance_km")
    assert (report["records"], report["states"], report["groups"], report["skipped"]) == (48, 6, 12, {})
    told = report["systems"]["oracle"]
    assert (told["codes_of"], told["codes"], told["latents"]) == ("groups", 12, HALF)
    assert told["invariance"]["mean"] == pytest.approx(0, abs=1e-6)
    assert told["retrieval"]["correct"]["mean"] == 1 and told["retrieval"]["chance"]["mean"] == pytest.approx(1 / 11)
    leak = told["leak"]
    assert leak["station_code"]["measure"] == "balanced_accuracy" and leak["distance_km"]["measure"] == "r2"
    assert leak["station_code"]["trivial"] == pytest.approx(1 / STATIONS, abs=0.01)
    for probe in ("linear", "nearest"):
        assert leak["station_code"][probe]["mean"] < 0.3 and leak["distance_km"][probe]["mean"] < 0.3
        assert told["state_in_nuisance"][probe]["mean"] < 0.4
    swap = told["swap"]
    assert swap["swaps"] == 48 and swap["error"]["mean"] == pytest.approx(0, abs=1e-6) and swap["better"]["mean"] == 1
    # halves of equal energy, one of them right: a donor errs by half of |a - b|^2 / |a|^2, about 1
    assert 0.6 < swap["state_donor"]["mean"] < 1.4 and 0.6 < swap["nuisance_donor"]["mean"] < 1.4


def test_wrong_code_is_found_out(halves):
    told = sl.evaluate("disentangle", Wrong(), halves, group=4)["systems"]["wrong"]
    assert told["invariance"]["mean"] is None or told["invariance"]["mean"] > 0.9
    assert told["leak"]["station_code"]["linear"]["mean"] == 1
    assert told["swap"]["better"]["mean"] == 0 and told["swap"]["error"]["mean"] > 1


def test_codes_of_records(halves):
    report = sl.evaluate("disentangle", [Half("state", slice(0, HALF)), Half("nuisance", slice(HALF, None)), RawWaveform()], halves)
    good, bad, raw = (report["systems"][n] for n in ("state", "nuisance", "baseline/raw_waveform"))
    assert good["codes_of"] == "records" and good["swap"] is None and "state_in_nuisance" not in good
    assert good["invariance"]["mean"] == pytest.approx(0, abs=1e-6) and bad["invariance"]["mean"] == pytest.approx(1)
    assert good["invariance"]["low"] <= good["invariance"]["mean"] + 1e-9 and good["invariance"]["high"] < 1e-6
    assert (
        0.3 < raw["invariance"]["mean"] < 0.7 and raw["invariance"]["low"] < raw["invariance"]["mean"] < raw["invariance"]["high"]
    )
    # candidates are of other stations, so the station's half cannot be right by being the same
    assert good["retrieval"]["correct"]["mean"] == 1 and bad["retrieval"]["correct"]["mean"] == 0
    assert bad["leak"]["station_code"]["linear"]["mean"] == 1 > 0.3 > good["leak"]["station_code"]["linear"]["mean"]


def test_latents_against_normal(halves):
    class Drawn(Embedder):
        name = "drawn"
        scale = 1.0

        def embed(self, x):
            return self.scale * torch.randn(len(x), 5, generator=torch.Generator().manual_seed(4))

    class Wide(Drawn):
        name = "wide"
        scale = 5.0

    told = sl.evaluate("disentangle", [Drawn(), Wide()], halves)["systems"]
    good, bad = told["drawn"]["normality"], told["wide"]["normality"]
    assert good["rejected_share"] == 0 and bad["rejected_share"] == 1 and good["tested"] == 48 and good["independent"] == "codes"
    assert len(good["statistic"]) == 5 and bad["energy_p_value"] < 0.011 < good["energy_p_value"]
    assert np.mean(bad["std"]) == pytest.approx(5, rel=0.2)


def crossed(folder, paths, **how):
    """Every path under both sources of the coherent experiment: the truth of every swap is a record."""
    made = experiment(3, paths, **how)
    other = replace(made, source=1 - made.source)
    other = replace(other, records=rebuilt(other).astype(np.float32))
    records = []
    for one in (made, other):
        for i, w in enumerate(waveforms(one)):
            w.metadata.update(path=f"p{i}", trace_name=f"{i}-{one.source[i]}")
            records.append(w)
    return write_seisbench(folder, records)


def test_coherent_experiment(tmp_path, monkeypatch):
    """Stacks of groups know the source, and better than single records do."""
    where = crossed(tmp_path / "crossed", 40)
    monkeypatch.setattr(catalog, "BASELINES", {**catalog.BASELINES, **BASELINES})
    out = tmp_path / "out"
    words = ["evaluate", "disentangle", "--systems", ",".join(BASELINES), "--data", str(where), "--split", "all"]
    assert command.main([*words, "--nuisance", "path,trace_shift_s", "--group", "10", "--out", str(out)]) == 0
    told = json.loads((out / "report.json").read_text(encoding="utf-8"))
    assert (told["question"], told["states"], told["groups"]) == ("disentangle", 2, 8)
    raw, linear, weighted = (told["systems"][n] for n in BASELINES)
    assert linear["invariance"]["mean"] < 0.6 < raw["invariance"]["mean"]
    assert linear["retrieval"]["correct"]["mean"] == weighted["retrieval"]["correct"]["mean"] == 1
    assert raw["normality"] is None and linear["swap"]["swaps"] == 80
    assert {"report.html", "leak.png", "map_1.png", "map_3.svg", "swaps_1.png", "swaps_2.png"} <= {p.name for p in out.iterdir()}


def test_stack_gives_back_what_it_split():
    x = torch.randn(12, 2, 100, generator=torch.Generator().manual_seed(0))
    for system in (LinearStack(), PhaseWeightedStack()):
        coherent, nuisance = system.codes(x, torch.arange(12) // 4)
        assert torch.allclose(system.redatum(coherent, nuisance), x, atol=1e-5)
        assert torch.equal(coherent[0], coherent[3]) and not torch.equal(coherent[0], coherent[4])


def test_left_out_and_one_layout(halves, tmp_path):
    channel = Channel(network="XX", station="N0", code="HHZ", component="Z")
    rng = np.random.default_rng(1)
    records = []
    for i, (state, n) in enumerate([("a", 100), ("a", 100), ("b", 100), ("b", 100), ("c", 100), ("a", 90), (None, 100)]):
        metadata = {"trace_name": f"t{i}", "station_code": f"N{i}", "split": "test"} | ({"source_id": state} if state else {})
        x = rng.normal(size=(1, n))
        records.append(Waveform(data=x, sampling_rate_hz=10.0, channels=(channel,), start_ns=(i + 1) * 10**16, metadata=metadata))
    records.append(records[0].with_data(np.zeros((1, 100)), did="silence"))
    report = sl.evaluate("disentangle", RawWaveform(), write_seisbench(tmp_path / "few", records))
    assert report["records"] == 4 and report["skipped"] == {
        "alone in its state": 1, "another rate, length or components than most": 1, "nothing in source_id": 1, "silent": 1
    }  # fmt: skip


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        (dict(state="sauce_id"), "did you mean 'source_id'"),
        (dict(nuisance="stationcode"), "did you mean 'station_code'"),
        (dict(state="trace_name"), "give two or more"),
        (dict(group=1), "2 or more"),
        (dict(systems=object()), "no Disentangler or Embedder"),
        (dict(cut_s=3.0), "unknown option 'cut_s'"),
    ],
)
def test_disentangle_refuses(halves, asked, message):
    with pytest.raises(SeislatentError, match=message):
        sl.evaluate(**{"question": "disentangle", "systems": RawWaveform(), "data": halves} | asked)


def test_codes_that_are_none(halves):
    class Broken(Embedder):
        name = "broken"

        def embed(self, x):
            return torch.full((len(x), 3), float("nan"))

    class Same(Embedder):
        name = "same"

        def embed(self, x):
            return torch.ones(len(x), 3)

    with pytest.raises(SeislatentError, match="broken gives codes"):
        sl.evaluate("disentangle", Broken(), halves)
    told = sl.evaluate("disentangle", Same(), halves)["systems"]["same"]
    assert told["invariance"] is None and told["retrieval"]["correct"]["mean"] == 0
