"""The commands of a training run, as they are typed, on a small folder of synthetic earthquakes."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

from seislatent import catalog
from seislatent.data.synthetic import earthquake, with_noise
from seislatent.io.seisbench import write_seisbench

TINY = [
    "--system.width", "4", "--system.lstm_layers", "1", "--system.entries", "16", "--recipe.batch", "4",
    "--recipe.accelerator", "cpu", "--recipe.stage_minutes", "0", "--recipe.validate_every", "2", "--recipe.log_every", "1",
    "--recipe.warmup_steps", "0", "--dataset.frames", "8", "--dataset.validation", "4", "--dataset.synthetic", "0.1",
]  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Records of twelve events at four stations, in SeisBench's layout."""
    rng = np.random.default_rng(0)

    def records():
        for i in range(12):
            it = with_noise(rng, earthquake(rng, 30.0, 50.0), 20.0)
            channels = tuple(replace(c, station=f"S{i % 4}") for c in it.channels)
            yield replace(it, channels=channels, start_ns=1_600_000_000_000_000_000 + i * 10**15)

    return write_seisbench(tmp_path_factory.mktemp("records"), records())


@pytest.fixture(scope="module")
def trained(folder, tmp_path_factory):
    """A run of four steps."""
    from seislatent.cli import main as command

    out = tmp_path_factory.mktemp("runs") / "run"
    train = ["train", "codec/eqcodec_small", "--data", str(folder), *TINY, "--system.books", "2", "--recipe.steps", "4"]
    assert command.main([*train, "--out", str(out)]) == 0
    return train, out


def test_the_run_holds_what_was_asked_for(trained):
    _, out = trained
    model = catalog.load(out / "best.safetensors")
    assert model.config.books == 2 and model.name == "codec/eqcodec_small" and model.about["data"]["frames"] == 8
    assert catalog.preset(out / "preset.yaml").recipe["steps"] == 4


def test_a_run_has_a_folder_of_its_own_and_may_do_without_validation(run, folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    never = ["--recipe.validate_every", "0", "--recipe.monitor", "", "--recipe.steps", "1"]
    code, told, err = run("train", "codec/eqcodec_small", "--data", folder, *TINY, *never, "--json")
    assert code == 0 and told["weights"] == "runs/codec/eqcodec_small/system.safetensors", err


def test_system_and_dataset_must_agree_on_rate_and_frame(run, folder, tmp_path):
    train = ["train", "codec/eqcodec_small", "--data", folder, *TINY, "--out", tmp_path / "x"]
    code, _, err = run(*train, "--system.sampling_rate_hz", "20")
    assert code == 2 and "add --dataset.sampling_rate_hz 20" in err
    code, _, err = run(*train, "--system.strides", "[4, 5]")
    assert code == 2 and "add --dataset.frame 20" in err and not (tmp_path / "x").exists()


def test_the_same_command_goes_on_and_another_is_refused(run, trained):
    train, out = trained
    before = catalog.load(out / "best.safetensors").digest
    code, told, _ = run(*train, "--out", out, "--json")
    assert code == 0 and told["weights"] == str(out / "best.safetensors")
    assert catalog.load(out / "best.safetensors").digest == before
    for words, said in (
        (["--recipe.seed", "5"], "seed"),
        (["--system.latent", "16"], "latent"),
        (["--dataset.mixed", "0.5"], "--overwrite"),
        (["--no-resume"], "--overwrite"),
    ):
        code, _, err = run(*train, *words, "--out", out)
        assert code == 1 and said in err and err.count("\n") == 1, err
    assert catalog.load(out / "best.safetensors").digest == before


def test_another_run_starts_from_its_weights(run, trained, folder, tmp_path):
    train, out = trained
    code, _, err = run(*train, "--init-from", out / "best.safetensors", "--out", tmp_path / "more")
    assert code == 0, err
    code, _, err = run(*train, "--system.books", "3", "--init-from", out / "best.safetensors", "--out", tmp_path / "other")
    assert code == 1 and "settings differ" in err and not (tmp_path / "other").exists()


def test_info_tells_the_run_and_the_records(run, trained, folder):
    _, out = trained
    told = run("info", out, "--json")[1]
    assert told["kind"] == "run" and "best.safetensors" in told["files"] and told["last"]["step"] == 4
    told = run("info", folder, "--json")[1]
    assert told["kind"] == "records" and told["records"] == 12 and told["stations"] == 4
    assert told["sampling_rate_hz"] == {"50.0": 12}
    assert "records: 12" in run("info", folder)[1]


def test_evaluate_writes_a_report(run, trained, folder, tmp_path):
    _, out = trained
    weights, report = out / "best.safetensors", tmp_path / "report"
    words = ["evaluate", "compress", "--systems", weights, "--data", folder, "--split", "all", "--out", report]
    code, _, err = run(*words)
    assert code == 0, err
    assert json.loads((report / "report.json").read_text())["question"] == "compress" and (report / "report.html").exists()
    code, _, err = run(*words)
    assert code == 1 and "overwrite" in err


def test_records_that_are_not_there(run, tmp_path):
    code, _, err = run("train", "codec/eqcodec_small", "--data", tmp_path / "none", "--out", tmp_path / "run")
    assert code == 1 and "none" in err and err.count("\n") == 1 and not (tmp_path / "run").exists()


def test_ctrl_c_saves_the_run_and_is_no_success(folder, tmp_path):
    code = (
        "import os, signal, sys\nfrom seislatent.data.codec_windows import CodecWindows\nfrom seislatent.cli.main import main\n"
        "batch = CodecWindows.batch\n"
        "def last(self, step, rank, world):\n    step == 2 and os.kill(os.getpid(), signal.SIGINT)\n"
        "    return batch(self, step, rank, world)\n"
        "CodecWindows.batch = last\nsys.exit(main(sys.argv[1:]))"
    )
    words = ["train", "codec/eqcodec_small", "--data", str(folder), *TINY, "--recipe.steps", "9", "--out", str(tmp_path / "run")]
    done = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True, timeout=120)
    assert done.returncode == 130 and "Traceback" not in done.stderr and not done.stdout, done.stderr
    assert (tmp_path / "run" / "last.safetensors").exists()
