"""`seislatent VERB ...`: finds the verb, reads its options, runs it, and says in one line what went wrong.

A verb is a module of this folder: its docstring is the help, `arguments(parser)` declares the options, `run(args)` calls the
function of the same name and gives what JSON can hold, `text(result)` words it for people. Heavy imports stand inside `run`.
Exit codes: 0 done, 1 bad input, 2 bad usage, 130 interrupted, 141 nobody reads the output any more.
"""

from __future__ import annotations

import argparse
import difflib
import importlib
import json
import math
import os
import re
import sys
import traceback
from collections.abc import Sequence
from types import ModuleType
from typing import Any, NoReturn

from seislatent import __version__
from seislatent.errors import SeislatentError, UsageError, unknown

VERBS = (
    "demo", "list", "info", "download", "prepare", "train", "evaluate", "encode", "decode", "embed", "search", "pick", "classify",
    "experiment",
)  # fmt: skip
DEBUG = "SEISLATENT_DEBUG"


class Parser(argparse.ArgumentParser):
    """One line on bad usage, and the nearest option for one that does not exist."""

    def error(self, message: str) -> NoReturn:
        """Raises UsageError."""
        raise UsageError(f"{message} ({self.prog} --help tells the options)")

    def parse_args(self, args: Any = None, namespace: Any = None) -> Any:  # type: ignore[override]
        """As argparse does, but naming the nearest option."""
        found, left = self.parse_known_args(args, namespace)
        for token in left:
            name = token.split("=")[0]
            near = difflib.get_close_matches(name, self._option_string_actions, 1) if name.startswith("-") else []
            self.error(f"unknown option '{name}'" + (f": did you mean '{near[0]}'?" if near else ""))
        return found


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one verb and returns the exit code."""
    words = list(sys.argv[1:] if argv is None else argv)
    try:
        code = _run(words)
        sys.stdout.flush()
        return code
    except SystemExit as leave:  # --help and --version of argparse
        return int(leave.code or 0)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # what the interpreter flushes at its end goes nowhere
        return 141
    except KeyboardInterrupt:
        print("seislatent: interrupted", file=sys.stderr)
        return 130
    except Exception as error:
        if os.environ.get(DEBUG):
            traceback.print_exc()
        print(f"seislatent: {_line(error)}", file=sys.stderr)
        return 2 if isinstance(error, UsageError) else 1


def _line(error: Exception) -> str:
    message = " ".join(str(error).split())
    if isinstance(error, SeislatentError):
        return message
    if isinstance(error, OSError) and error.filename is not None:
        return f"{error.filename}: {error.strerror}"
    return f"{type(error).__name__}: {message} (a fault of seislatent: please report it with what {DEBUG}=1 shows)"


def _run(words: list[str]) -> int:
    if not words or words[0] in ("-h", "--help", "--version"):
        top().parse_args(words or ["--help"])
    if words[0].startswith("-"):
        raise UsageError(f"the verb comes first: seislatent VERB {words[0]} ...; verbs: {', '.join(VERBS)}")
    if words[0] not in VERBS:
        raise UsageError(unknown("verb", words[0], VERBS))
    verb = importlib.import_module(f"seislatent.cli.{words[0]}")
    args = parser(verb, words[0], words[1:]).parse_args(words[1:])
    result = verb.run(args)
    if os.environ.get("LOCAL_RANK", "0") == "0":  # one of several processes speaks for all
        print(json.dumps(finite(result), indent=2, default=str) if args.json else verb.text(result))
    return 0


def top() -> argparse.ArgumentParser:
    """The parser of `seislatent` alone, whose help lists the verbs."""
    lines = [f"  {name:10}{summary(importlib.import_module(f'seislatent.cli.{name}'))}" for name in VERBS]
    hint = "seislatent VERB --help tells the options of a verb, with units."
    shown = Parser(
        prog="seislatent",
        usage="seislatent VERB [options]",
        description="Latent codes of seismograms.",
        epilog="\n".join(["verbs:", *lines, "", hint, f"{DEBUG}=1 in the environment shows where an error arose."]),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    shown.add_argument("--version", action="version", version=f"seislatent {__version__}")
    return shown


def summary(verb: ModuleType) -> str:
    """First line of the verb's docstring."""
    return (verb.__doc__ or "").strip().splitlines()[0]


def parser(verb: ModuleType, name: str, words: Sequence[str] = ()) -> Parser:
    """The verb's parser. Where it takes keys of a config (`KEYS`), those in `words` become options; the config checks them."""
    asked = bool({"-h", "--help"} & set(words))
    made = Parser(
        prog=f"seislatent {name}",
        description=verb.__doc__,
        epilog=verb.epilog(words) if asked and hasattr(verb, "epilog") else None,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    verb.arguments(made)
    made.add_argument("--json", action="store_true", help="print the result as JSON")
    keys = tuple(f"--{key}." for key in getattr(verb, "KEYS", ()))
    for option in {re.split("=", word, maxsplit=1)[0] for word in words if keys and word.startswith(keys)}:
        made.add_argument(option, dest=option.removeprefix("--"), default=argparse.SUPPRESS, help=argparse.SUPPRESS)
    return made


def finite(value: Any) -> Any:
    """The same with None for NaN and infinity, which JSON does not know."""
    if isinstance(value, dict):
        return {str(k): finite(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [finite(v) for v in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


if __name__ == "__main__":
    sys.exit(main())
