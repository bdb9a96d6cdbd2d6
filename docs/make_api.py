"""`python docs/make_api.py` writes docs/api.md from the docstrings."""

from __future__ import annotations

import dataclasses
import importlib
import inspect
import re
from pathlib import Path
from typing import Any

import seislatent as sl
from seislatent import catalog, config

TARGET = Path(__file__).parent / "api.md"
HEAD = """# Python interface

Made from the docstrings by `docs/make_api.py`; the examples run in the tests. The verbs of the command line are the functions
of the same names; `seislatent VERB --help` tells their options.
"""
SECTIONS = {
    "Verbs": [f"seislatent.{verb}" for verb in ("list", "load", "read", "write", "prepare", "evaluate")],
    "Records": ["seislatent.Waveform", "seislatent.waveform.Channel", "seislatent.Codes", "seislatent.model.Model"],
    "Making models": [
        "seislatent.training.train", "seislatent.catalog.build", "seislatent.catalog.save", "seislatent.catalog.preset",
        "seislatent.catalog.Preset", "seislatent.engine.recipe.Recipe",
    ],
    "Training sets": [
        "seislatent.stores.prepare", "seislatent.stores.preset", "seislatent.data.store.Store",
        "seislatent.data.records.open_records",
        "seislatent.data.records.Records", "seislatent.data.recipe.DataRecipe", "seislatent.data.recipe.Made",
        "seislatent.data.recipe.Rejected", "seislatent.data.splits.split", "seislatent.data.splits.leaks",
        "seislatent.data.record_batches.RecordBatches", "seislatent.data.record_batches.RecordBatchesConfig",
        "seislatent.data.gather.gather", "seislatent.io.catalogues.read_events", "seislatent.io.picks.read_picks",
        "seislatent.io.gse_bulletin.write_bulletin", "seislatent.io.seisbench.write_seisbench",
        "seislatent.io.native_hdf5.NativeFile", "seislatent.io.native_hdf5.write_native",
        "seislatent.io.miniseed_folder.write_miniseed", "seislatent.prepare.quality.measure",
        "seislatent.prepare.response.remove_response", "seislatent.data.synthetic.earthquake",
        "seislatent.data.synthetic.explosion", "seislatent.data.coherent.experiment",
    ],
    "Systems": [
        "seislatent.systems.base.System", "seislatent.systems.base.Turn", "seislatent.batch.Batch", "seislatent.systems.base.Codec",
        "seislatent.systems.base.Reconstructor", "seislatent.systems.base.Embedder", "seislatent.systems.base.Sampler",
        "seislatent.systems.base.Translator", "seislatent.systems.base.Tokens",
    ],
    "Errors": ["seislatent.errors.SeislatentError", "seislatent.errors.UsageError"],
}  # fmt: skip


def found(name: str) -> Any:
    """The object of a full name; a folder stands for its function of the same name."""
    place, _, last = name.rpartition(".")
    value = getattr(sl if place == "seislatent" else importlib.import_module(place), last)
    return getattr(value, last) if inspect.ismodule(value) else value


def words(docstring: str | None) -> str:
    """A docstring as Markdown: examples fenced, sections as lists."""
    out: list[str] = []
    blocks = re.split(r"\n\s*\n", inspect.cleandoc(docstring or ""))
    for block in blocks:
        lines = block.splitlines()
        section = re.fullmatch(r"(Args|Raises|Returns|Yields):", lines[0]) if lines else None
        if lines and lines[0].lstrip().startswith(">>>"):
            out.append("```pycon\n" + inspect.cleandoc(block) + "\n```")
        elif section:
            rows = inspect.cleandoc("\n".join(["", *lines[1:]])).splitlines()
            items = [f"- {row}" if not row.startswith(" ") else f"  {row.strip()}" for row in rows]
            out.append("\n".join([f"**{section[1]}**", "", *items]))
        elif lines and all(line.startswith("    ") for line in lines):
            out.append("```text\n" + inspect.cleandoc(block) + "\n```")
        else:
            out.append(block)
    return "\n\n".join(out)


def signature(name: str, value: Any) -> str:
    """`name(arguments) -> result`, as written in the source."""
    try:
        told = str(inspect.signature(value))
    except (ValueError, TypeError):
        told = "(...)"
    told = re.sub(r"(: |-> )'([^']*)'", r"\1\2", told)
    return f"```python\n{name}{re.sub(r'<factory>|<object object at 0x[0-9a-f]+>', '...', told)}\n```"


def table(settings: Any) -> str:
    """The keys of a config."""

    def cell(value: Any) -> str:
        text = "required" if value is dataclasses.MISSING else f"`{value!r}`"
        return text.replace("|", "\\|")

    rows = []
    for row in config.describe(settings):
        kind = row.type.replace("|", "\\|")
        rows.append(f"| `{row.name}` | `{kind}` | {cell(row.default)} | {row.help} |")
    return "\n".join(["| key | type | default | meaning |", "|---|---|---|---|", *rows])


def entry(name: str) -> str:
    """One object: signature, docstring, fields or methods."""
    value = found(name)
    parts = [f"### {name}", words(value.__doc__)]
    if not inspect.isclass(value):
        return "\n\n".join([parts[0], signature(name, value), *parts[1:]])
    if dataclasses.is_dataclass(value):
        parts.append(table(value))
    for method, member in vars(value).items():
        if method.startswith("_") or not inspect.getdoc(member):
            continue
        if isinstance(member, property):
            parts += [f"**`{method}`**: {words(member.__doc__)}"]
        elif inspect.isfunction(member) or isinstance(member, (classmethod, staticmethod)):
            parts += [signature(method, getattr(value, method)), words(inspect.getdoc(member))]
    return "\n\n".join(parts)


def text() -> str:
    """The whole page."""
    parts = [HEAD, words(sl.__doc__)]
    for title, names in SECTIONS.items():
        parts += [f"## {title}", *map(entry, names)]
    parts.append("## Settings of systems")
    for name, cls in catalog.SYSTEMS.items():
        parts += [f"### {name}", words(cls.Config.__doc__), table(cls.Config)]
    return "\n\n".join(part.strip() for part in parts) + "\n"


if __name__ == "__main__":
    TARGET.write_text(text(), encoding="utf-8")
    print(TARGET)
