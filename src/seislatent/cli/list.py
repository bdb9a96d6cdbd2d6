"""List presets, data recipes, ready downloads, baselines and datasets, by the names that the other verbs take."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any

WIDEST = 42


def arguments(parser: argparse.ArgumentParser) -> None:
    """The verb has no options of its own."""


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Calls `catalog.listing`."""
    from seislatent import catalog, stores
    from seislatent.cli import download

    recipes = [{"name": name, "about": stores.preset(name).about} for name in stores.presets()]
    queries = [{"name": name, "about": download.preset(name)["about"]} for name in download.presets()]
    names = {"baselines": sorted(catalog.BASELINES), "datasets": sorted(catalog.DATASETS)}
    return {"presets": [*catalog.listing()], "recipes": recipes, "downloads": queries, **names}


def text(result: dict[str, Any]) -> str:
    """A table of presets, then the other names."""
    rows = [["NAME", "SYSTEM", "WEIGHTS", "ABOUT"], *[[str(v) for v in row.values()] for row in result["presets"]]]
    names = [f"{what}: {', '.join(result[what]) or 'none'}" for what in ("baselines", "datasets")]
    recipes = [["DATA RECIPE", "ABOUT"], *[[row["name"], row["about"]] for row in result["recipes"]]]
    queries = [["DOWNLOAD", "ABOUT"], *[[row["name"], row["about"]] for row in result["downloads"]]]
    return "\n".join([columns(rows), "", columns(recipes), "", columns(queries), "", *names])


def columns(rows: Sequence[Sequence[str]]) -> str:
    """Rows as aligned columns; what is wider than `WIDEST` sticks out."""
    widths = [min(WIDEST, max(map(len, column))) for column in zip(*rows, strict=True)]
    return "\n".join("  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)).rstrip() for row in rows)
