"""The house keeps its walls: imports run downhill, files stay short, no pickle is read, systems do not know each other."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SOURCES = sorted((ROOT / "src" / "seislatent").rglob("*.py"))
OURS = SOURCES + sorted(p for folder in ("tests", "docs", "benchmarks") for p in (ROOT / folder).rglob("*.py"))
NAMES_NOT_USED = {"utils", "util", "helpers", "helper", "misc", "manager", "common", "new", "final"}

FORBIDDEN = {"torch.load", "pd.read_pickle", "pandas.read_pickle", "eval", "exec", "yaml.load"}


def ids(paths):
    return [p.relative_to(ROOT).as_posix() for p in paths]


def imports(path):
    """Full names of what a file imports, at its top or inside functions, but for types only."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            node.body = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports in full names"
            yield from (f"{node.module}.{name.name}" for name in node.names)


def test_tests_have_names_of_their_own():
    """Two test modules of one name cannot be collected in one run."""
    found = [p.name for p in (ROOT / "tests").rglob("*.py") if p.name != "conftest.py"]
    assert len(found) == len(set(found)), sorted(n for n in found if found.count(n) > 1)


def test_the_import_contract_holds():
    done = subprocess.run(
        [sys.executable, "-c", "from importlinter.cli import lint_imports_command as lint; lint(['--no-cache'])"],
        cwd=ROOT, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-2000:]


@pytest.mark.parametrize("path", OURS, ids=ids(OURS))
def test_files_are_short_and_well_named(path):
    assert len(path.read_text(encoding="utf-8").splitlines()) <= (420 if path in SOURCES else 500)
    assert not NAMES_NOT_USED & set(path.relative_to(ROOT).with_suffix("").parts)


@pytest.mark.parametrize("path", SOURCES, ids=ids(SOURCES))
def test_functions_and_constructors_are_short(path):
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.FunctionDef):
            assert (node.end_lineno or 0) - node.lineno < 60, f"{path.name}: {node.name} is long"
            if node.name == "__init__":
                assert len(node.args.args) + len(node.args.kwonlyargs) <= 13, f"{path.name}: a constructor with many arguments"


@pytest.mark.parametrize("path", SOURCES, ids=ids(SOURCES))
def test_no_pickle_is_read(path):
    found = [*imports(path)]
    assert not [name for name in found if name.split(".")[0] in ("pickle", "cPickle", "dill", "joblib", "cloudpickle", "shelve")]
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call):
            name = ast.unparse(node.func)
            assert name not in FORBIDDEN, f"{path}: {name}"
            allows = [k.value for k in node.keywords if k.arg == "allow_pickle"]
            assert all(isinstance(v, ast.Constant) and v.value is False for v in allows), f"{path}: {name} allows pickle"


def test_only_our_reader_asks_obspy_to_read():
    """ObsPy's own detection of formats executes pickles."""
    for path in SOURCES:
        assert not [n for n in imports(path) if n in ("obspy.read", "obspy.core.read", "obspy.core.stream.read")], path
        calls = [ast.unparse(n.func) for n in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if isinstance(n, ast.Call)]
        assert not {"obspy.read", "obspy.core.read"} & set(calls), path


def test_a_system_imports_no_other():
    systems = {}
    for path in (ROOT / "src" / "seislatent" / "systems").glob("*/*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ClassDef) and any(ast.unparse(b) == "System" for b in node.bases):
                systems[".".join(path.relative_to(ROOT / "src").with_suffix("").parts)] = path
    assert systems
    for name, path in systems.items():
        for other in set(systems) - {name}:
            assert not [i for i in imports(path) if i.startswith(other)], f"{name} imports {other}"
