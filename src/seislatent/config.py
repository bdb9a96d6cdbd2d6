"""Dataclass, YAML and command line made one thing.

    defaults of a frozen dataclass  <-  a YAML file or a dictionary  <-  options such as {"books": "8", "weights.commit": "0.5"}

What a key means stands once, in the docstring below its field; help texts, `seislatent info` and the docs read it from there.
"""

from __future__ import annotations

import ast
import inspect
import re
import textwrap
from collections.abc import Mapping
from dataclasses import MISSING, Field, asdict, dataclass, field, fields, is_dataclass
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any, TypeVar, get_args, get_type_hints

import jsonargparse

from seislatent.errors import SeislatentError, UsageError, unknown

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Nested:
    """A system inside another one's config: built by the catalog and handed to the constructor under the field's name."""

    system: str
    """A name of the catalog (with `config`); or another preset or a .safetensors file, whose weights are then the start."""
    config: dict[str, Any] = field(default_factory=dict)
    """Keys that differ from the defaults."""


@dataclass(frozen=True, kw_only=True)
class Row:
    """One key of a config."""

    name: str
    """Dotted where configs are nested: `stage.steps`."""
    type: str
    default: Any
    """`dataclasses.MISSING` where a value must be given."""
    help: str
    """The docstring below the field, on one line."""


def load(
    cls: type[T],
    yaml: str | Path | Mapping[str, Any] | None = None,
    overrides: Mapping[str, Any] | None = None,
    *,
    option: str = "",
) -> T:
    """An instance of the dataclass `cls`: its defaults, changed by `yaml` (a file or a dictionary), changed by `overrides`.

    Keys of `overrides` may be dotted, and their values may be strings as typed on a command line (`"8"`, `"[1, 2]"`, `"null"`).
    A dictionary with defaults (weights) is replaced by that of `yaml`, then changed key by key by `overrides`, where null removes a
    key. `option` is the text before a key in messages, such as `--system.`.

    Raises SeislatentError for an unknown key (naming the nearest), a missing one, or a value of the wrong type; UsageError where
    the key came with `overrides`.
    """
    given = read(yaml) if isinstance(yaml, (str, Path)) else dict(yaml or {})
    typed = _undotted(overrides or {})
    place = f"{yaml}: " if isinstance(yaml, (str, Path)) else f"{cls.__name__}: "
    _check(cls, given, place, SeislatentError)
    _check(cls, typed, "", UsageError, option)
    parser = jsonargparse.ArgumentParser(exit_on_error=False, add_help=False)
    parser.add_class_arguments(cls, "it")
    merged = _merged(cls, given, typed)
    try:
        return parser.instantiate(parser.parse_object({"it": merged})).it
    except jsonargparse.ArgumentError as error:
        key, line = _explained(cls, merged, str(error))
        if _at(typed, key) is not MISSING:
            raise UsageError(f"{option}{key}: {line}") from None
        raise SeislatentError(f"{place}{key or cls.__name__}: {line}") from None


def read(path: str | Path) -> dict[str, Any]:
    """A YAML file as a dictionary; numbers such as 1e-4 are numbers. Raises SeislatentError where it is no mapping."""
    try:
        content = jsonargparse.get_loader("yaml")(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise SeislatentError(f"{path}: {error.strerror or error}: give the path of a YAML file") from None
    except Exception as error:  # the YAML library's own, which differs between loaders
        raise SeislatentError(f"{path}: not a YAML file: {' '.join(str(error).split())}") from None
    if not isinstance(content, dict):
        raise SeislatentError(f"{path}: holds {type(content).__name__}, not keys and values: write one 'key: value' per line")
    return content


def plain(config: Any) -> dict[str, Any]:
    """The config as dictionaries, lists, strings and numbers, as it goes into YAML and JSON; `load` takes it back."""

    def simple(value: Any) -> Any:
        if isinstance(value, Mapping):
            return {str(k): simple(v) for k, v in value.items()}
        if isinstance(value, (list, tuple)):
            return [simple(v) for v in value]
        return str(value) if isinstance(value, Path) else value

    return simple(asdict(config))


def describe(what: Any, prefix: str = "") -> list[Row]:
    """Every key of a dataclass, or of a config with the values it has, in reading order; configs inside it as dotted keys."""
    cls = what if isinstance(what, type) else type(what)
    rows: list[Row] = []
    for each in fields(cls):
        value = _default(each) if what is cls else getattr(what, each.name)
        inside = _inside(cls)[each.name]
        if inside[0] is not None and not inside[1]:
            rows += describe(inside[0] if value is MISSING else value, f"{prefix}{each.name}.")
        else:
            kind = each.type if isinstance(each.type, str) else getattr(each.type, "__name__", str(each.type))
            rows.append(Row(name=prefix + each.name, type=kind, default=value, help=_docstrings(cls).get(each.name, "")))
    return rows


def _default(each: Field[Any]) -> Any:
    return each.default_factory() if each.default_factory is not MISSING else each.default


@cache
def _types(cls: type) -> dict[str, Any]:
    return get_type_hints(cls)


@cache
def _docstrings(cls: type) -> dict[str, str]:
    """Field name to the string that stands below it in the source."""
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(cls)))
    except (OSError, TypeError):  # typed into a shell, or shipped without source
        return {}
    body = tree.body[0].body if isinstance(tree.body[0], ast.ClassDef) else []
    return {
        a.target.id: " ".join(inspect.cleandoc(b.value.value).split())
        for a, b in pairwise(body)
        if isinstance(a, ast.AnnAssign) and isinstance(a.target, ast.Name)
        and isinstance(b, ast.Expr) and isinstance(b.value, ast.Constant) and isinstance(b.value.value, str)
    }  # fmt: skip


def _undotted(options: Mapping[str, Any]) -> dict[str, Any]:
    """{"a.b": 1} becomes {"a": {"b": 1}}."""
    out: dict[str, Any] = {}
    for key, value in options.items():
        if isinstance(value, str) and value[:1] in ("[", "{"):
            value = jsonargparse.get_loader("yaml")(value)
        *path, last = str(key).split(".")
        at = out
        for part in path:
            at = at.setdefault(part, {})
            if not isinstance(at, dict):
                raise UsageError(f"'{key}' and '{part}' are both given: give one of them")
        at[last] = {**at[last], **value} if isinstance(value, dict) and isinstance(at.get(last), dict) else value
    return out


def _inside(cls: type) -> dict[str, tuple[Any, bool, set[str] | None]]:
    """Per field: its dataclass if it holds one or several, whether several, and the keys of a dictionary with defaults."""
    out = {}
    for each in fields(cls):
        kind, default = _types(cls)[each.name], _default(each)
        several = next((k for k in get_args(kind) if is_dataclass(k)), None) if not is_dataclass(kind) else None
        keys = set(default) if isinstance(default, dict) and default else None
        out[each.name] = (several or (kind if is_dataclass(kind) else None), several is not None, keys)
    return out


def _check(cls: type, given: Mapping[str, Any], place: str, error: type[SeislatentError], prefix: str = "") -> None:
    parts = _inside(cls)
    for key, value in given.items():
        if key not in parts:
            raise error(place + unknown("key", prefix + str(key), [prefix + name for name in parts]))
        kind, several, keys = parts[key]
        if kind is not None and not several and not isinstance(value, Mapping):
            raise error(f"{place}{prefix}{key}: must hold keys ({', '.join(_inside(kind))}), not {value!r}")
        if kind is not None:
            for item in value if several and isinstance(value, (list, tuple)) else [value]:
                if isinstance(item, Mapping):
                    _check(kind, item, place, error, f"{prefix}{key}.")
        for name in set(value) - keys if keys is not None and isinstance(value, Mapping) else ():
            raise error(place + unknown("key", f"{prefix}{key}.{name}", [f"{prefix}{key}.{k}" for k in keys or ()]))


def _merged(cls: type, given: Mapping[str, Any], typed: Mapping[str, Any]) -> dict[str, Any]:
    out = {**given, **typed}
    for each in fields(cls):
        name, default = each.name, _default(each)
        a, b = given.get(name, {}), typed.get(name, {})
        if name not in out or not (isinstance(a, Mapping) and isinstance(b, Mapping)):
            continue
        kind, several, _ = _inside(cls)[name]
        if kind is not None and not several:
            out[name] = _merged(kind, {**(plain(default) if is_dataclass(default) else {}), **a}, b)
        elif name in typed:
            whole = {**given.get(name, default if isinstance(default, dict) else {}), **b}
            out[name] = {k: v for k, v in whole.items() if k not in b or v not in (None, "null")}
    return out


def _at(tree: Any, dotted: str) -> Any:
    for part in dotted.split("."):
        if not isinstance(tree, Mapping) or part not in tree:
            return MISSING
        tree = tree[part]
    return tree


def _explained(cls: type, merged: Mapping[str, Any], message: str) -> tuple[str, str]:
    """The key that a message of jsonargparse is about, and one clear line."""
    found = re.search(r'"it\.([\w.]+)"', message)
    lines = [line.strip() for line in message.splitlines() if line.strip()]
    if not found:
        return "", " ".join(lines)
    key = found[1]
    if "required" in message:
        return key, "a value is required: give one"
    row = next((r for r in describe(cls) if r.name == key), None)
    value = _at(merged, key)
    inner = next((line for line in lines[1:] if "not accepted" in line), "")
    if row is None or value is MISSING or inner:
        return key, " ".join(lines[1:] or lines)
    return key, f"must be {row.type}, not {value!r}" + (f" ({row.help})" if row.help else "")
