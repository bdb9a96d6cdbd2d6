"""A verdict from a criteria file: limits on the numbers of a report, each with the source it is from.

    name: broadband
    about: one line
    limits:
      - metric: ln_ratio_SA(*)_g     # of systems in report.json; * and ? stand for any characters
        lowest: -0.35
        highest: 0.35
        source: where the limit is from

A limit is passed where the whole 95 % interval of the mean lies within it, failed where the whole of it lies outside, and open
where the interval crosses it. Without an interval (fewer than two events) the mean alone decides, and the verdict says so.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from seislatent import config
from seislatent.errors import SeislatentError, unknown

LIMITS = Path(__file__).parent / "limits"
"""Criteria files that ship in the package, by their names without ending."""
PASSED, FAILED, OPEN = "passed", "failed", "open"


@dataclass(frozen=True, kw_only=True)
class Limit:
    """Where the mean of a metric should lie."""

    metric: str
    """Its name in report.json; * and ? stand for any characters, and every metric that fits is judged."""
    lowest: float | None = None
    highest: float | None = None
    source: str = ""
    """Where the limit is from."""


@dataclass(frozen=True, kw_only=True)
class Criteria:
    """A set of limits."""

    name: str
    about: str = ""
    limits: list[Limit] = field(default_factory=list)


@dataclass(frozen=True, kw_only=True)
class Judged:
    """One metric against one limit."""

    metric: str
    outcome: str
    """passed, failed or open."""
    mean: float
    low: float | None
    high: float | None
    limit: Limit


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What became of one system."""

    outcome: str
    """failed where any limit is failed, passed where all are passed, else open."""
    judged: list[Judged]
    missing: list[str]
    """Limits that no metric of the report fits, or whose value is not known."""

    def plain(self) -> dict[str, Any]:
        """As in report.json."""
        rows = [
            {"metric": j.metric, "limit": j.limit.metric, "outcome": j.outcome, "mean": j.mean, "low": j.low, "high": j.high,
             "lowest": j.limit.lowest, "highest": j.limit.highest, "source": j.limit.source}
            for j in self.judged
        ]  # fmt: skip
        return {"outcome": self.outcome, "judged": rows, "missing": self.missing}


def load(name: str | Path) -> Criteria:
    """Criteria by the name of a file that ships, or from a YAML file.

    Raises:
        SeislatentError: no such file, an unknown key, a limit that is none.
    """
    shipped = {p.stem: p for p in sorted(LIMITS.glob("*.yaml"))}
    path = shipped.get(str(name), Path(name))
    if not str(path).endswith((".yaml", ".yml")):
        raise SeislatentError(unknown("criteria file", str(name), shipped) + "; or give a .yaml file")
    try:
        told = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise SeislatentError(f"{path}: no criteria can be read ({' '.join(str(error).split())[:200]})") from error
    if not isinstance(told, dict) or not isinstance(told.get("limits", []), list):
        raise SeislatentError(f"{path}: criteria are name, about and a list of limits")
    limits = [_limit(one, path, i) for i, one in enumerate(told.pop("limits", []), 1)]
    try:
        made = config.load(Criteria, {"name": path.stem, **told})
    except SeislatentError as error:
        raise SeislatentError(f"{path}: {error}") from error
    if not limits:
        raise SeislatentError(f"{path}: no limit in it: add some under limits")
    return Criteria(name=made.name, about=made.about, limits=limits)


def _limit(told: Any, path: Path, place: int) -> Limit:
    if not isinstance(told, dict) or "metric" not in told:
        raise SeislatentError(f"{path}: limit {place} has no metric")
    try:
        made: Limit = config.load(Limit, told)
    except SeislatentError as error:
        raise SeislatentError(f"{path}: limit {place}: {error}") from error
    ends = [end for end in (made.lowest, made.highest) if end is not None]
    if not ends or not all(map(math.isfinite, ends)) or ends != sorted(ends):
        raise SeislatentError(f"{path}: limit {place} of {made.metric}: give lowest, highest or both, the lower one first")
    return made


def judge(metrics: Mapping[str, Any], criteria: Criteria) -> Verdict:
    """The verdict on one system's part of report.json; what is no metric (no mean) is passed over."""
    known = {name: told for name, told in metrics.items() if isinstance(told, Mapping) and "mean" in told}
    judged, missing = [], []
    for limit in criteria.limits:
        pattern = re.compile(re.escape(limit.metric).replace(r"\*", ".*").replace(r"\?", "."))
        found = [name for name in known if pattern.fullmatch(name)]
        some = [name for name in found if known[name]["mean"] is not None and math.isfinite(known[name]["mean"])]
        judged += [_against(name, known[name], limit) for name in some]
        missing += [name for name in found if name not in some] or ([] if found else [limit.metric])
    outcomes = {j.outcome for j in judged}
    whole = FAILED if FAILED in outcomes else OPEN if OPEN in outcomes or missing or not judged else PASSED
    return Verdict(outcome=whole, judged=judged, missing=missing)


def _against(name: str, told: Mapping[str, Any], limit: Limit) -> Judged:
    mean, low, high = float(told["mean"]), told.get("low"), told.get("high")
    begin, end = (mean, mean) if low is None or high is None else (float(low), float(high))
    least, most = (-math.inf if limit.lowest is None else limit.lowest), (math.inf if limit.highest is None else limit.highest)
    inside = least <= begin and end <= most
    outside = end < least or begin > most
    outcome = PASSED if inside else FAILED if outside else OPEN
    return Judged(metric=name, outcome=outcome, mean=mean, low=low, high=high, limit=limit)
