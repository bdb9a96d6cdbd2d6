"""The loop: whatever interrupts a run, it goes on to the same weights."""

import json
import os
import signal
import subprocess
import sys

import pytest
import torch
from small_systems import HERE, SYSTEMS, Drawn, make, records

from seislatent.engine import checkpoint
from seislatent.engine.recipe import Recipe
from seislatent.engine.train import train
from seislatent.errors import SeislatentError

LAST = "last.safetensors"


def lines(folder, group):
    entries = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    return [entry for entry in entries if entry["group"] == group]


def assert_same_run(one, other):
    """Bit for bit: weights, buffers, average, optimizers, balancer."""
    (a, about_a), (b, about_b) = checkpoint.read(one / LAST), checkpoint.read(other / LAST)
    assert a.keys() == b.keys() and [k for k in a if not torch.equal(a[k], b[k])] == []
    assert {k.split("/")[0] for k in a} == {"system", "average", "optimizer"}
    for key in ("steps", "balancer", "best", "waits"):
        assert about_a[key] == about_b[key]


def size(system):
    """A metric that uses the weights, and dice of its own."""
    torch.rand(5)
    return {"size": float(sum(p.double().abs().sum() for p in system.parameters()))}


@pytest.mark.parametrize("name", SYSTEMS)
def test_stages_lead_to_the_weights_of_one_run(name, tmp_path):
    """Stages of one step, each from other first weights: all that the next step depends on comes from the file."""
    rules = {"schedule": "cosine", "warmup_steps": 2, "validate_every": 2, "monitor": "size", "seed": 3}
    train(*make(name, **rules), Drawn(), tmp_path / "straight", validate=size)
    for stage in range(6):
        system, recipe = make(name, stage_minutes=1e-9, **rules)
        with torch.no_grad():
            for p in system.parameters():
                p.add_(stage)
        train(system, recipe, Drawn(), tmp_path / "stages", validate=size)
        about = checkpoint.read(tmp_path / "stages" / LAST)[1]
        assert about["steps"] == stage + 1
    assert_same_run(tmp_path / "straight", tmp_path / "stages")
    ends = [entry["event"].split(";")[0] for entry in lines(tmp_path / "stages", "event")]
    assert ends.count("end of this stage") == 5 and ends[-1] == "finished"


@pytest.mark.parametrize("where, saved", [("step", 4), ("save", 3)])
def test_killed_run_goes_on_from_its_last_whole_save(where, saved, tmp_path, environment):
    ran = subprocess.run([sys.executable, HERE / "killed.py", tmp_path / "killed", where], env=environment, timeout=100)
    assert ran.returncode == -signal.SIGKILL
    assert checkpoint.read(tmp_path / "killed" / LAST)[1]["steps"] == saved
    for folder in ("killed", "straight"):
        train(*make("codec", log_every=1), Drawn(), tmp_path / folder)
    assert_same_run(tmp_path / "killed", tmp_path / "straight")
    assert [entry["step"] for entry in lines(tmp_path / "killed", "train")] == [1, 2, 3, 4, 5, 6]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signal_saves_and_leaves(number, tmp_path):
    class Calling(Drawn):
        def batch(self, step, rank, world):
            if step == 2:
                os.kill(os.getpid(), number)
            return super().batch(step, rank, world)

    former = signal.getsignal(number)
    train(*make("codec"), Calling(), tmp_path / "called")
    assert checkpoint.read(tmp_path / "called" / LAST)[1]["steps"] == 3
    assert "stopped by a signal" in lines(tmp_path / "called", "event")[-1]["event"]
    assert signal.getsignal(number) == former
    for folder in ("called", "straight"):
        train(*make("codec"), Drawn(), tmp_path / folder)
    assert signal.getsignal(number) == former  # nor does a run without a signal leave its handler behind
    assert_same_run(tmp_path / "called", tmp_path / "straight")


def test_workers_read_the_same_records_in_order(tmp_path):
    train(*make("autoencoder"), Drawn(), tmp_path / "none")
    train(*make("autoencoder", workers=2), Drawn(), tmp_path / "two")
    assert_same_run(tmp_path / "none", tmp_path / "two")


def test_parts_take_the_shares_of_more_processes(tmp_path):
    asked = []

    class Asked(Drawn):
        def batch(self, step, rank, world):
            asked.append((step, rank, world))
            return super().batch(step, rank, world)

    train(*make("autoencoder", accumulate=2, steps=2), Asked(), tmp_path)
    assert asked == [(0, 0, 2), (0, 1, 2), (1, 0, 2), (1, 1, 2)]


def test_validation_does_not_disturb_training(tmp_path):
    modes, states = [], []

    def validate(system):
        modes.append((system.training, torch.is_grad_enabled()))
        states.append((float(torch.rand(1)), system.embed(records().x)))
        system.train()
        return {"a": 1.0}

    train(*make("codec", validate_every=2), Drawn(), tmp_path / "with", validate=validate)
    train(*make("codec"), Drawn(), tmp_path / "without")
    (a, _), (b, _) = (checkpoint.read(tmp_path / n / LAST) for n in ("with", "without"))
    assert all(torch.equal(a[k], b[k]) for k in b)
    assert modes == 3 * [(False, False)] and len({draw for draw, _ in states}) == 1
    assert [entry["step"] for entry in lines(tmp_path / "with", "validation")] == [2, 4, 6]


@pytest.mark.parametrize(
    "mode, values, best", [("max", [1.0, 3.0, 2.0, float("nan"), 3.0], 2), ("min", [float("nan"), 3, 0.5, 2, 2, 0.7], 3)]
)
def test_early_stopping_and_best_checkpoint(mode, values, best, tmp_path):
    """Patience 3: the run ends three validations after the best, which is the one kept."""
    kept = []

    def validate(system):
        kept.append({k: v.clone() for k, v in system.state_dict().items()})
        return {"snr_db": values[len(kept) - 1], "other": 0.0}

    rules = {"steps": 100, "validate_every": 2, "monitor": "snr_db", "mode": mode, "patience": 3}
    given = {"system": "codec/small", "config": {"width": 6}}
    path = train(*make("codec", **rules), Drawn(), tmp_path, validate=validate, about=given)
    assert path == tmp_path / "best.safetensors" and len(kept) == best + 3
    tensors, about = checkpoint.read(path)
    assert tensors.keys() == kept[0].keys() and all(torch.equal(v, kept[best - 1][k]) for k, v in tensors.items())
    assert about == given | {"steps": 2 * best, "metrics": {"snr_db": values[best - 1], "other": 0.0}}
    last, about = checkpoint.read(tmp_path / "system.safetensors")
    assert about["steps"] == 2 * (best + 3) and all(torch.equal(v, kept[-1][k]) for k, v in last.items())
    assert "stopped early: snr_db did not improve in 3 validations" in lines(tmp_path, "event")[-1]["event"]
    train(*make("codec", **rules), Drawn(), tmp_path, validate=validate)  # again: nothing left to do
    assert len(kept) == best + 3


def test_monitored_metric_must_exist(tmp_path):
    rules = {"validate_every": 1, "monitor": "snr"}
    with pytest.raises(SeislatentError, match=r"nothing to validate on"):
        train(*make("codec", **rules), Drawn(), tmp_path)
    with pytest.raises(SeislatentError, match=r"unknown metric to monitor 'snr': did you mean 'snr_db'"):
        train(*make("codec", **rules), Drawn(), tmp_path, validate=lambda system: {"snr_db": 1.0})


@pytest.mark.parametrize(
    "change, told",
    [
        ({"batch": 64}, "batch was 32, is 64"),
        ({"rates": {"model": 1.0}}, "rates was {'model': 0.003}, is {'model': 1.0}"),
        ({"schedule": "cosine"}, "schedule was 'constant', is 'cosine'"),
        ({"precision": "bf16-mixed"}, "precision was '32-true', is 'bf16-mixed'"),
        ({"weights": {"waveform": 2.0}}, "weights was {'waveform': 1.0}, is {'waveform': 2.0}"),
    ],
)
def test_run_does_not_go_on_otherwise(change, told, tmp_path):
    train(*make("autoencoder", steps=1), Drawn(), tmp_path)
    with pytest.raises(SeislatentError) as error:
        train(*make("autoencoder", steps=1, **change), Drawn(), tmp_path)
    assert told in str(error.value)


def test_what_teaches_nothing_may_change(tmp_path):
    train(*make("autoencoder", steps=2), Drawn(), tmp_path)
    free = {"steps": 3, "stage_minutes": 9.0, "workers": 1, "log_every": 1, "save_every_minutes": 0.0}
    train(*make("autoencoder", **free), Drawn(), tmp_path)
    assert checkpoint.read(tmp_path / LAST)[1]["steps"] == 3
    cosine = make("autoencoder", schedule="cosine", steps=2)[1]
    longer = make("autoencoder", schedule="cosine", steps=3)[1]
    assert longer.differences(vars(cosine) | {"betas": [0.8, 0.99]}) == ["steps was 2, is 3"]


def test_model_is_not_a_run(tmp_path):
    train(*make("autoencoder", steps=1), Drawn(), tmp_path)
    os.replace(tmp_path / "system.safetensors", tmp_path / LAST)
    with pytest.raises(SeislatentError, match=r"holds a model, not a run"):
        train(*make("autoencoder", steps=1), Drawn(), tmp_path)
    os.replace(tmp_path / LAST, tmp_path / "system.safetensors")
    with pytest.raises(SeislatentError, match=r"holds a model but no run to go on with"):
        train(*make("autoencoder", steps=1), Drawn(), tmp_path)


def test_log_holds_means_rates_and_diagnostics(tmp_path, capsys):
    train(*make("codec", log_every=3), Drawn(), tmp_path / "three")
    train(*make("codec", log_every=1), Drawn(), tmp_path / "one")
    each, mean = lines(tmp_path / "one", "train"), lines(tmp_path / "three", "train")[0]
    assert mean["step"] == 3 and mean["waveform"] == pytest.approx(sum(entry["waveform"] for entry in each[:3]) / 3, rel=1e-12)
    assert mean["rate/codec"] == 3e-3 and 0 <= mean["usage"] <= 1 and mean["steps_per_second"] > 0
    assert len(list((tmp_path / "one" / "tensorboard").glob("events*"))) == 1
    told = capsys.readouterr().err
    assert "train 3/6  real " in told and "step 6/6: finished" in told


def test_training_lowers_the_loss(tmp_path):
    train(*make("autoencoder", steps=150, log_every=30), Drawn(), tmp_path)
    waveform = [entry["waveform"] for entry in lines(tmp_path, "train")]
    assert waveform[-1] < 0.5 * waveform[0]


WRONG = [{"steps": 0}, {"rates": {}}, {"patience": 3}, {"monitor": "a"}, {"schedule": "cosin"}, {"mode": "best"}]


@pytest.mark.parametrize("wrong", WRONG)
def test_recipe_that_does_not_hold_together_is_refused(wrong):
    with pytest.raises(SeislatentError):
        Recipe(**({"rates": {"model": 1.0}} | wrong))
