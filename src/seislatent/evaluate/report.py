"""What an evaluation hands back: numbers, tables and figures as one page, one JSON file, and text for the terminal.

    sections of text, tables, figures --Report--> report.html (self-contained), report.json, NAME.png, NAME.svg, str()

Every string is escaped, every image stands in the page, and nothing is fetched from anywhere.
"""

from __future__ import annotations

import base64
import html
import io
import json
import math
import os
import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.figure import Figure
from rich.console import Console
from rich.table import Table as RichTable

from seislatent import __version__
from seislatent.errors import SeislatentError

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#7F7F7F")
"""Okabe and Ito (2008): told apart by colour-blind readers and in grey."""
MARKERS = "osD^vP*X"
TEXT_WIDTH, DPI = 120, 130
STYLE: dict[str, Any] = {
    "font.size": 10, "font.family": "DejaVu Sans", "axes.spines.top": False, "axes.spines.right": False, "axes.grid": True,
    "grid.alpha": 0.3, "grid.linewidth": 0.5, "lines.linewidth": 1.2, "axes.titlesize": 10, "legend.frameon": False,
    "legend.fontsize": 9, "svg.hashsalt": "seislatent", "svg.fonttype": "none", "figure.dpi": 100,
}  # fmt: skip
PAGE = """
:root { color-scheme: light dark; --ink: #1b1b1b; --paper: #ffffff; --line: #c8c8c8; --soft: #555555; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6e6e6; --paper: #16181b; --line: #444a50; --soft: #a9b0b6; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 62rem; padding: 1rem; color: var(--ink); background: var(--paper);
  font: 16px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, sans-serif; overflow-wrap: anywhere; }
h1 { font-size: 1.6rem; line-height: 1.25; } h2 { font-size: 1.25rem; margin-top: 2rem; }
.table { overflow-x: auto; }
table { border-collapse: collapse; font-size: .9rem; font-variant-numeric: tabular-nums; margin: .5rem 0; }
caption, figcaption { text-align: left; color: var(--soft); font-size: .9rem; padding: .3rem 0; }
th, td { padding: .25rem .6rem; border-bottom: 1px solid var(--line); text-align: right; vertical-align: bottom;
  overflow-wrap: normal; }
th:first-child, td:first-child { text-align: left; }
figure { margin: 1rem 0; break-inside: avoid; } img { max-width: 100%; height: auto; background: #fff; border-radius: 4px; }
footer { margin-top: 2rem; color: var(--soft); font-size: .85rem; }
@media screen { td { white-space: nowrap; } }
@media print { :root { --ink: #000; --paper: #fff; --line: #999; --soft: #333; } body { max-width: none; font-size: 10pt; }
  h2, caption { break-after: avoid; } .table { overflow: visible; } table { font-size: 8pt;
  break-inside: avoid; } th, td { padding: .15rem .3rem; } }
"""


@dataclass(frozen=True, kw_only=True)
class Table:
    """Rows of text under heads that name their units."""

    heads: Sequence[str]
    rows: Sequence[Sequence[str]]
    caption: str = ""


@dataclass(frozen=True, kw_only=True)
class Picture:
    """A figure, drawn when its bytes are first asked for; the same bytes each time."""

    name: str
    """Of its files, without ending."""
    caption: str
    """What it shows; also said to those who cannot see it."""
    width_in: float
    height_in: float
    draw: Callable[[Figure], None]
    """Fills an empty figure in the house's style, whose parts are laid out so that no text is cut."""

    @cached_property
    def _files(self) -> dict[str, bytes]:
        settings: dict[Any, Any] = {**matplotlib.rcParamsDefault, **STYLE}
        with matplotlib.rc_context(settings):
            canvas = Figure(figsize=(self.width_in, self.height_in), layout="constrained")
            self.draw(canvas)
            png, svg = io.BytesIO(), io.BytesIO()
            canvas.savefig(png, format="png", dpi=DPI, metadata={"Software": None})
            canvas.savefig(svg, format="svg", metadata={"Date": None, "Creator": None})
        return {"png": png.getvalue(), "svg": svg.getvalue()}

    @property
    def png(self) -> bytes:
        """As pixels."""
        return self._files["png"]

    @property
    def svg(self) -> bytes:
        """As lines."""
        return self._files["svg"]


@dataclass(kw_only=True)
class Section:
    """A heading and what stands below it, in order; text is a paragraph."""

    heading: str
    parts: list[str | Table | Picture] = field(default_factory=list)


class Report(dict[str, Any]):
    """The contents of report.json as a dictionary, with a page around them.

    >>> report = Report({"question": "none"}, "A title", [Section(heading="One", parts=["Text."])])
    >>> report["question"]
    'none'
    """

    def __init__(self, result: Mapping[str, Any], title: str, sections: Sequence[Section]):
        super().__init__(result)
        self.title, self.sections = title, list(sections)
        self.folder: Path | None = None
        """Where `write` has put it."""

    # -- as text --------------------------------------------------------------------------------------------------------------

    def __str__(self) -> str:
        """Tables, and where the page is."""
        target = io.StringIO()
        console = Console(file=target, width=TEXT_WIDTH, highlight=False, markup=False, color_system=None)
        console.print(self.title)
        for section in self.sections:
            for table in (p for p in section.parts if isinstance(p, Table)):
                shown = RichTable(title=table.caption or section.heading, title_justify="left", title_style="")
                for i, head in enumerate(table.heads):
                    shown.add_column(head, justify="left" if i == 0 else "right")
                for row in table.rows:
                    shown.add_row(*row)
                console.print(shown)
        if self.folder is not None:
            console.print(f"report: {self.folder / 'report.html'}", soft_wrap=True)
        return target.getvalue().rstrip()

    # -- as a page ------------------------------------------------------------------------------------------------------------

    def _repr_html_(self) -> str:
        """The page's body, for a notebook."""
        return f"<h1>{html.escape(self.title)}</h1>" + "".join(map(_section, self.sections))

    def page(self) -> str:
        """The whole page: images inlined, no resource from elsewhere."""
        return (
            '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
            '<meta name="viewport" content="width=device-width, initial-scale=1">'
            f"<title>{html.escape(self.title)}</title><style>{PAGE}</style></head><body><main>"
            f"{self._repr_html_()}</main><footer>seislatent {__version__}</footer></body></html>\n"
        )

    @property
    def pictures(self) -> list[Picture]:
        """Every figure of the page."""
        return [p for s in self.sections for p in s.parts if isinstance(p, Picture)]

    def write(self, out: str | Path, overwrite: bool = False, others: Path | None = None) -> Path:
        """report.json, report.html, the figures, and the files of the folder `others`, into the folder `out`.

        Raises:
            SeislatentError: a file of one of these names is there and may not be replaced.
        """
        out = Path(out)
        with tempfile.TemporaryDirectory(prefix=f".{out.name}.", dir=_parent(out)) as temporary:
            made = Path(temporary)
            if others is not None:
                shutil.copytree(others, made, dirs_exist_ok=True)
            text = json.dumps(plain(self), indent=2, allow_nan=False)
            (made / "report.json").write_text(text + "\n", encoding="utf-8")
            (made / "report.html").write_text(self.page(), encoding="utf-8")
            for picture in self.pictures:
                (made / f"{picture.name}.png").write_bytes(picture.png)
                (made / f"{picture.name}.svg").write_bytes(picture.svg)
            names = sorted(p.name for p in made.iterdir())
            may_write(out, overwrite, names)
            out.mkdir(parents=True, exist_ok=True)
            for name in names:
                os.replace(made / name, out / name)
        self.folder = out
        return out


def may_write(out: str | Path, overwrite: bool, names: Sequence[str] = ("report.json", "report.html")) -> None:
    """Refuse a folder that holds one of these files, or a path that is no folder, before any work is done.

    Raises:
        SeislatentError: naming the file that is in the way.
    """
    out = Path(out)
    if out.exists() and not out.is_dir():
        raise SeislatentError(f"{out} is a file: give a folder to write the report into")
    for name in names:
        if (out / name).is_dir():
            raise SeislatentError(f"{out / name} is a folder, where a file is to be written: give another folder with --out")
        if (out / name).exists() and not overwrite:
            raise SeislatentError(f"{out / name} exists: give another folder, or overwrite it (overwrite=True, --overwrite)")


def _parent(out: Path) -> Path:
    """The folder that `out` lies in, made where it is missing: what is moved must not cross file systems."""
    try:
        out.absolute().parent.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError) as error:
        raise SeislatentError(f"{out.parent} is no folder: give another one with --out") from error
    return out.absolute().parent


def plain(value: Any) -> Any:
    """The same with None for NaN and infinity, which JSON does not know."""
    if isinstance(value, Mapping):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [plain(v) for v in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _section(section: Section) -> str:
    return f"<section><h2>{html.escape(section.heading)}</h2>" + "".join(map(_part, section.parts)) + "</section>"


def _part(part: str | Table | Picture) -> str:
    if isinstance(part, str):
        return f"<p>{html.escape(part)}</p>"
    if isinstance(part, Picture):
        data = base64.b64encode(part.png).decode("ascii")
        alt = html.escape(part.caption)
        return f'<figure><img src="data:image/png;base64,{data}" alt="{alt}"><figcaption>{alt}</figcaption></figure>'
    caption = f"<caption>{html.escape(part.caption)}</caption>" if part.caption else ""
    heads = "".join(f'<th scope="col">{html.escape(h)}</th>' for h in part.heads)
    rows = "".join("<tr>" + "".join(f"<td>{html.escape(c)}</td>" for c in row) + "</tr>" for row in part.rows)
    return f'<div class="table"><table>{caption}<thead><tr>{heads}</tr></thead><tbody>{rows}</tbody></table></div>'
