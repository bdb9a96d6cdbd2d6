"""The example for one's own discriminator runs as it stands, on few records."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

EXAMPLE = Path(__file__).parents[2] / "examples" / "own_discriminator.py"


@pytest.fixture
def example():
    spec = importlib.util.spec_from_file_location("own_discriminator", EXAMPLE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_example_runs(example, tmp_path, capsys):
    example.main(["--made-up", "--records", "48", "--steps", "10", "--out", str(tmp_path / "run")])
    told = capsys.readouterr().out
    assert "48 records in" in told and "balanced accuracy" in told and "blast: called" in told and "Prediction(" in told
    assert (tmp_path / "run" / "best.safetensors").exists() and (tmp_path / "run" / "report" / "report.html").exists()


def test_it_wants_a_folder_or_to_make_one(example, capsys):
    with pytest.raises(SystemExit):
        example.main(["--out", "x"])
    assert "give a folder, or --made-up" in capsys.readouterr().err
