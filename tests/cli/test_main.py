"""Grammar, exit codes, one line per fault."""

from __future__ import annotations

import importlib
import os
import signal
import subprocess
import sys

import pytest

from seislatent.cli import main as command
from seislatent.errors import SeislatentError

TRAIN = ["train", "codec/eqcodec", "--data", "x", "--out", "y"]
ENTRY = [sys.executable, "-m", "seislatent"]


@pytest.mark.parametrize("verb", command.VERBS)
def test_every_verb_helps_without_heavy_imports(verb):
    """Help takes no torch and no ObsPy; that keeps it within a second."""
    code = (
        "import sys; from seislatent.cli.main import main; code = main(sys.argv[1:]);"
        "print('heavy:', sorted({'torch', 'obspy', 'pandas', 'matplotlib', 'scipy'} & set(sys.modules)), code)"
    )
    done = subprocess.run([sys.executable, "-c", code, verb, "--help"], capture_output=True, text=True, timeout=60)
    assert done.stdout.splitlines()[-1] == "heavy: [] 0", done.stdout + done.stderr
    assert f"usage: seislatent {verb}" in done.stdout and "--json" in done.stdout


def test_help_lists_the_verbs(run):
    for words in ((), ("--help",)):
        code, out, _ = run(*words)
        assert code == 0
        for verb in command.VERBS:
            assert f"  {verb}" in out
    assert run("--version")[0] == 0


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["liist"], "unknown verb 'liist': did you mean 'list'?"),
        (["--level", "3"], "the verb comes first"),
        (["list", "--jsn"], "unknown option '--jsn': did you mean '--json'?"),
        (["list", "extra"], "unknown option 'extra'"),
        (["encode", "in.mseed"], "the following arguments are required: OUT"),
        (["encode", "a", "b", "--level", "four"], "argument --level: invalid int value: 'four'"),
        (["train", "codec/eqcodec"], "required: --data"),
        ([*TRAIN, "--system.boks", "3"], "did you mean '--system.books'?"),
        ([*TRAIN, "--recipe.steps", "many"], "--recipe.steps: must be int, not 'many'"),
        (["evaluate", "beauty", "--systems", "a", "--data", "b", "--out", "c"], "invalid choice: 'beauty'"),
    ],
)
def test_bad_usage_is_2(run, words, line, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, out, err = run(*words)
    assert code == 2 and line in err and err.count("\n") == 1 and err.startswith("seislatent: ") and not out
    assert not [*tmp_path.iterdir()]


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["info", "codec/eqcodek"], "unknown system 'codec/eqcodek': did you mean 'codec/eqcodec'?"),
        (["info", "nowhere.slat"], "nowhere.slat: no such file"),
        (["train", "codec/eqcodek", "--data", "x", "--out", "y"], "did you mean 'codec/eqcodec'?"),
        (["encode", "a", "b", "--system", "nowhere.safetensors"], "no checkpoint at nowhere.safetensors"),
    ],
)
def test_bad_input_is_1(run, words, line, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, out, err = run(*words)
    assert code == 1 and line in err and err.count("\n") == 1 and not out
    assert not [*tmp_path.iterdir()]


def fake(monkeypatch, error):
    verb = importlib.import_module("seislatent.cli.list")

    def fail(args):
        raise error

    monkeypatch.setattr(verb, "run", fail)


def test_faults_take_one_line_unless_asked(run, monkeypatch):
    fake(monkeypatch, SeislatentError("two\nlines"))
    assert run("list") == (1, "", "seislatent: two lines\n")
    fake(monkeypatch, PermissionError(13, "Permission denied", "/x/y"))
    assert run("list") == (1, "", "seislatent: /x/y: Permission denied\n")
    fake(monkeypatch, ZeroDivisionError("by zero"))
    code, _, err = run("list")
    assert code == 1 and "ZeroDivisionError: by zero" in err and "report" in err and "Traceback" not in err
    monkeypatch.setenv(command.DEBUG, "1")
    assert "Traceback" in run("list")[2]


def test_an_interruption_is_clean(run, monkeypatch):
    fake(monkeypatch, KeyboardInterrupt())
    assert run("list") == (130, "", "seislatent: interrupted\n")


def test_a_reader_that_leaves(tmp_path):
    pipe = '"$@" | head -c 0; echo "${PIPESTATUS[0]}"'
    done = subprocess.run(["bash", "-c", pipe, "-", *ENTRY, "--help"], capture_output=True, text=True, timeout=60)
    assert done.stdout.strip() in ("0", "141") and not done.stderr


def test_ctrl_c_in_earnest():
    code = (
        "import os, signal, sys, threading\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"  # a shell's background jobs begin with it ignored
        "import seislatent.cli.list as verb\nfrom seislatent.cli.main import main\n"
        "verb.run = lambda args: os.kill(os.getpid(), signal.SIGINT) or __import__('time').sleep(5)\n"
        "sys.exit(main(['list']))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, env={**os.environ})
    assert done.returncode == 130 and done.stderr == "seislatent: interrupted\n", signal.Signals(2)


def test_json_knows_no_nan():
    assert command.finite({"a": [float("nan"), 1.0, (float("inf"),)], 2: None}) == {"a": [None, 1.0, [None]], "2": None}


def test_import_is_light():
    code = "import sys, seislatent; print(sorted({'torch', 'numpy', 'obspy', 'pandas'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stdout.strip() == "[]", done.stderr
