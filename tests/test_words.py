"""What README and docs say is run: Python blocks, `seislatent` commands, the examples of the docstrings, links.

Blocks of one page run one after another in one folder that holds `day.mseed`. A block that takes minutes has the comment
`<!-- slow -->` on the line above it, which no reader sees, and runs with `-m slow`.
"""

from __future__ import annotations

import doctest
import importlib.util
import re
import shlex
import sys
import types
from pathlib import Path

import obspy
import pytest

from seislatent import catalog
from seislatent.cli import main as command

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", *sorted(DOCS.rglob("*.md"))]
FENCE = re.compile(r"(?P<slow><!-- slow -->\n+)?^```(?P<kind>\w+)[^\n]*\n(?P<code>.*?)^```$", re.MULTILINE | re.DOTALL)


def names(paths):
    return [p.relative_to(ROOT).as_posix() for p in paths]


def blocks(page: Path, slow: bool) -> list[tuple[str, str]]:
    """Kind and code of the blocks that can run."""
    found = FENCE.finditer(page.read_text(encoding="utf-8"))
    return [(b["kind"], b["code"]) for b in found if b["kind"] in ("python", "bash", "sh") and (slow or not b["slow"])]


def commands(code: str) -> list[list[str]]:
    """The `seislatent` commands among the lines of a shell block, but for those with a placeholder such as DIR."""
    lines = code.replace("\\\n", " ").splitlines()
    found = [shlex.split(line, comments=True)[1:] for line in lines if line.startswith("seislatent ")]
    return [words for words in found if not any(re.fullmatch(r"[A-Z_]{2,}\b.*", word) for word in words)]


def play(page: Path, slow: bool, folder: Path, monkeypatch) -> None:
    """Run a page's blocks in `folder`, as a reader would."""
    monkeypatch.chdir(folder)
    obspy.read().write("day.mseed", format="MSEED")
    module = types.ModuleType("page")
    monkeypatch.setitem(sys.modules, "page", module)
    for kind, code in blocks(page, slow):
        if kind == "python":
            exec(compile(code, str(page), "exec"), vars(module))
        else:
            for words in commands(code):
                assert command.main(words) == 0, f"{page.name}: seislatent {' '.join(words)}"


def runnable(slow: bool) -> list[Path]:
    return [p for p in PAGES if p.name != "api.md" and len(blocks(p, slow)) > (len(blocks(p, False)) if slow else 0)]


@pytest.mark.parametrize("page", runnable(False), ids=names(runnable(False)))
def test_pages_run(page, tmp_path, monkeypatch):
    play(page, False, tmp_path, monkeypatch)


@pytest.mark.slow
@pytest.mark.parametrize("page", runnable(True), ids=names(runnable(True)))
def test_pages_run_with_their_slow_blocks(page, tmp_path, monkeypatch):
    play(page, True, tmp_path, monkeypatch)


def make_api():
    spec = importlib.util.spec_from_file_location("make_api", DOCS / "make_api.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_api_page_is_fresh():
    assert (DOCS / "api.md").read_text(encoding="utf-8") == make_api().text(), "run: python docs/make_api.py"


def test_the_examples_of_the_api_page_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    text = (DOCS / "api.md").read_text(encoding="utf-8").replace("```", "")  # a fence would count as expected output
    test = doctest.DocTestParser().get_doctest(text, {}, "api.md", str(DOCS / "api.md"), 0)
    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE)
    told: list[str] = []
    runner.run(test, out=told.append)
    assert test.examples and not runner.failures, "".join(told)


@pytest.mark.parametrize("page", PAGES, ids=names(PAGES))
def test_links_lead_somewhere(page):
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", text):
        if not re.match(r"[a-z]+:", target):
            assert (page.parent / target).exists(), f"{page.name}: {target}"


def test_every_page_is_in_the_navigation():
    listed = set(re.findall(r":\s+([\w/.-]+\.md)$", (ROOT / "mkdocs.yml").read_text(encoding="utf-8"), re.MULTILINE))
    assert listed == {p.relative_to(DOCS).as_posix() for p in DOCS.rglob("*.md")}


def test_house_words():
    assert len((ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8").splitlines()) <= 60
    assert "Apache License" in (ROOT / "LICENSE").read_text(encoding="utf-8")
    version = catalog.__version__
    assert f"[{version}]" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert f"version: {version}" in (ROOT / "CITATION.cff").read_text(encoding="utf-8")
