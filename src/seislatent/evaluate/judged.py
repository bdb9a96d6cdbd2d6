"""What questions share: systems by name and by verb, the command that asks again, numbers with their intervals."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from seislatent.errors import SeislatentError
from seislatent.evaluate.bootstrap import DRAWS, SHARE
from seislatent.metrics.detection import event_weights

VALUES = 5_000_000
"""Weights held at once for an interval."""


def having(systems: Sequence[Any], verb: type | tuple[type, ...], what: str) -> dict[str, Any]:
    """Each system under a name of its own; a model gives its system.

    Raises:
        SeislatentError: no system, one without the verb, or the same name twice.
    """
    found: dict[str, Any] = {}
    for given in systems:
        it = getattr(given, "system", given)
        name = str(getattr(given, "name", type(given).__name__))
        if isinstance(given, str):
            raise SeislatentError(f"{given!r} is a name: give seislatent.load({given!r}), or a baseline")
        if not isinstance(it, verb):
            wanted = " or ".join(v.__name__ for v in (verb if isinstance(verb, tuple) else (verb,)))
            raise SeislatentError(f"{name} is a {type(it).__name__}, no {wanted}: it cannot {what}")
        if any(str(getattr(other, "name", "")) == name for other in systems if other is not given):
            name = f"{name} {getattr(given, 'digest', '')}".strip()
        if name in found:
            raise SeislatentError(f"{name} is given twice: give each system once")
        found[name] = it.eval() if isinstance(it, torch.nn.Module) else it
    if not found:
        raise SeislatentError("no system to judge: give at least one")
    return found


def command(question: str, named: dict[str, Any], data: Any, split: str, out: str | Path | None, **options: Any) -> str:
    """The command that asks this again."""
    if Path(sys.argv[0]).name == "seislatent":
        return shlex.join(["seislatent", *sys.argv[1:]])
    words = ["seislatent", "evaluate", question, "--systems", ",".join(named), "--data", ",".join(places(data)), "--split", split]
    for name, value in options.items():
        words += [f"--{name}", f"{value:g}" if isinstance(value, float) else str(value)] if value is not None else []
    return shlex.join([*words, "--out", str(out or "OUT")])


def places(data: Any) -> list[str]:
    """The folders or files, as given."""
    return [str(data)] if isinstance(data, str | Path) else [str(d) for d in data]


def weights(events: NDArray[Any]) -> Tensor:
    """How often each record counts in each draw of events [draw record]; fewer draws where records are many."""
    times, label = _drawn(events)
    return times[:, label]


def _drawn(events: NDArray[Any]) -> tuple[Tensor, Tensor]:
    """How often each event counts in each draw [draw event], and the event of each record as a number."""
    names, label = np.unique(np.asarray(events), return_inverse=True)
    return _times(len(names), draws_of(len(label))), torch.from_numpy(label.reshape(-1))


@lru_cache(maxsize=4)
def _times(number: int, draws: int) -> Tensor:
    """The draws of `metrics.detection.event_weights`, by event; kept, for every measure of a report asks for the same ones."""
    return event_weights(np.arange(number), draws)


def draws_of(records: int) -> int:
    """How often events are drawn again: 1000 times, beyond 5,000 records less often, 100 times at least."""
    return max(100, min(DRAWS, VALUES // max(records, 1)))


class Told(dict[str, Any]):
    """A number as in report.json that keeps its values in draws of events, so that two systems can be compared draw by draw."""

    drawn: Tensor


def told(value: Any, drawn: Tensor, events: NDArray[Any], std: float | None = None) -> Told:
    """A number as in report.json, with its interval from its values in draws of events.

    `std` where it is a mean over records; None where it is not.
    """
    low, high = ends_of(drawn) if len(np.unique(events)) > 1 else (None, None)
    mean = float(value)
    made = Told(mean=mean if np.isfinite(mean) else None, std=std, low=low, high=high)
    made.drawn = drawn
    return made


def ends_of(drawn: Tensor) -> tuple[float | None, float | None]:
    """The 95 % interval of values in draws, those without one left out; None where fewer than two have one."""
    given = drawn[~drawn.isnan()].double().cpu().numpy()
    if len(given) < 2:
        return None, None
    low, high = np.quantile(given, [0.5 - SHARE / 2, 0.5 + SHARE / 2])
    return float(low), float(high)


def ratio(part: Tensor, whole: Tensor, events: NDArray[Any]) -> Told:
    """Sum over sum of records, such as a share or a precision; None where there is nothing to divide by."""
    part, whole = part.double(), whole.double()
    std = float(part.std(correction=0)) if bool((whole == 1).all()) else None
    times, label = _drawn(events)
    above, below = (times @ torch.zeros(times.shape[1], dtype=torch.float64).index_add(0, label, v) for v in (part, whole))
    return told(part.sum() / whole.sum(), above / below, events, std)
