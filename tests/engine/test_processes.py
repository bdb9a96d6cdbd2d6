"""Two gloo processes with unequal shares are one process with all records."""

import subprocess
import sys

import pytest
import torch
from small_systems import HERE, SYSTEMS, Shares, five_steps, make, state

from seislatent.engine import checkpoint
from seislatent.engine.train import train


@pytest.fixture(scope="module")
def results(tmp_path_factory, environment):
    folder = tmp_path_factory.mktemp("two")
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    command = [sys.executable, *launcher, HERE / "two_processes.py", folder]
    ran = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=100)
    assert ran.returncode == 0, ran.stderr[-3000:]
    return folder


@pytest.mark.parametrize("name", SYSTEMS)
def test_two_processes_equal_one(name, results, fabric):
    engine, log = five_steps(name, fabric)
    (zero, log_zero), (one, _) = (checkpoint.read(results / f"{name}.{rank}") for rank in (0, 1))
    assert all(torch.equal(zero[k], one[k]) for k in zero)
    for key, value in state(engine).items():
        torch.testing.assert_close(zero[key], value, rtol=0, atol=1e-12, msg=lambda text, key=key: f"{key}: {text}")
    assert log_zero == pytest.approx(log, rel=1e-10, abs=1e-12)


def test_training_starts_and_resumes_its_own_processes(tmp_path, environment):
    ran = subprocess.run(
        [sys.executable, HERE / "two_devices.py", tmp_path / "two"], env=environment, capture_output=True, text=True, timeout=100
    )
    assert ran.returncode == 0, ran.stderr[-3000:]
    system, recipe = make("codec", torch.float64, steps=6, validate_every=2, monitor="height")
    train(system, recipe, Shares(torch.float64), tmp_path / "one", validate=lambda system: {"height": 1.0})
    (two, about), (one, _) = (checkpoint.read(tmp_path / n / "last.safetensors") for n in ("two", "one"))
    assert about["steps"] == 6
    for key, value in one.items():
        torch.testing.assert_close(two[key], value, rtol=0, atol=1e-12, msg=lambda text, key=key: f"{key}: {text}")
