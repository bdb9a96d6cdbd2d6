"""Errors that a user can act on: one line that says what is wrong, where, and what to do."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class SeislatentError(Exception):
    """Bad input, told in one clear line. The command line prints it without a traceback and exits with 1."""


class UsageError(SeislatentError):
    """Options that do not fit together. The command line prints it and exits with 2."""


def unknown(what: str, name: str, known: Iterable[str]) -> str:
    """The line for a name that is not in a table: the nearest known name, or all of them.

    >>> unknown("player", "haed", ["head", "encoder"])
    "unknown player 'haed': did you mean 'head'?"
    """
    names = sorted(map(str, known))
    near = difflib.get_close_matches(str(name), names, 1)
    return f"unknown {what} '{name}'" + (f": did you mean '{near[0]}'?" if near else f"; known: {', '.join(names) or 'none'}")
