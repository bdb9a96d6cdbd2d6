"""Dataclass, YAML and command line give one config; what does not fit is named."""

from __future__ import annotations

import json
from dataclasses import MISSING, dataclass, field
from typing import Literal

import pytest

from seislatent import config
from seislatent.errors import SeislatentError, UsageError


@dataclass(frozen=True, kw_only=True)
class Stage:
    steps: int = 3
    """How many steps."""
    rate: float = 1e-3


@dataclass(frozen=True, kw_only=True)
class Settings:
    books: int = 8
    """Codebooks:
    levels of the code."""
    name: str = "x"
    kind: Literal["a", "b"] = "a"
    sizes: tuple[int, ...] = (1, 2)
    pair: tuple[int, int] = (1, 2)
    window_s: float | None = None
    """Length, in s."""
    weights: dict[str, float] = field(default_factory=lambda: {"commit": 1.0, "waveform": 2.0})
    stage: Stage = Stage(steps=5)
    stages: tuple[Stage, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Needy:
    rates: dict[str, float]
    """Learning rates."""


def test_defaults_yaml_and_options_in_that_order(tmp_path):
    path = tmp_path / "settings.yaml"
    path.write_text("books: 4\nwindow_s: 1e1\nsizes: [3, 4]\nstage: {rate: 1e-4}\n")
    made = config.load(Settings, path, {"books": "2", "stage.steps": "7", "name": "8", "pair": "[5, 6]", "kind": "b"})
    assert made == Settings(books=2, window_s=10.0, sizes=(3, 4), stage=Stage(steps=7, rate=1e-4), name="8", pair=(5, 6), kind="b")
    assert type(made.window_s) is float
    assert config.load(Settings, path).stage == Stage(steps=5, rate=1e-4)


def test_what_goes_out_comes_back():
    made = Settings(books=3, sizes=(9,), stages=(Stage(steps=1), Stage(rate=0.5)), weights={"commit": 0.5})
    assert config.load(Settings, json.loads(json.dumps(config.plain(made)))) == made


def test_a_dictionary_is_replaced_by_yaml_and_changed_by_options():
    assert config.load(Settings, {"weights": {"commit": 3}}).weights == {"commit": 3.0}
    assert config.load(Settings, None, {"weights.commit": "3"}).weights == {"commit": 3.0, "waveform": 2.0}
    assert config.load(Settings, None, {"weights.commit": "null"}).weights == {"waveform": 2.0}
    assert config.load(Needy, {"rates": {"a": 1.0, "b": 2.0}}, {"rates.b": "1e-3"}).rates == {"a": 1.0, "b": 1e-3}
    assert config.load(Needy, None, {"rates.b": "1e-3"}).rates == {"b": 1e-3}


@pytest.mark.parametrize(
    ("given", "line"),
    [
        ({"boks": 3}, "Settings: unknown key 'boks': did you mean 'books'?"),
        ({"books": 2.5}, "Settings: books: must be int, not 2.5 (Codebooks: levels of the code.)"),
        ({"books": "two"}, "must be int, not 'two'"),
        ({"kind": "c"}, "must be Literal['a', 'b'], not 'c'"),
        ({"pair": [1]}, "must be tuple[int, int], not [1]"),
        ({"window_s": "long"}, "must be float | None, not 'long'"),
        ({"weights": {"comit": 1}}, "unknown key 'weights.comit': did you mean 'weights.commit'?"),
        ({"weights": {"commit": "much"}}, "weights: must be dict[str, float]"),
        ({"stage": {"step": 3}}, "unknown key 'stage.step': did you mean 'stage.steps'?"),
        ({"stage": 3}, "stage: must hold keys (steps, rate), not 3"),
        ({"stages": [{"step": 3}]}, "did you mean 'stages.steps'?"),
    ],
)
def test_what_does_not_fit_is_told_in_one_line(given, line):
    with pytest.raises(SeislatentError) as told:
        config.load(Settings, given)
    assert line in str(told.value) and "\n" not in str(told.value)
    assert not isinstance(told.value, UsageError)


def test_what_was_typed_is_told_as_typed():
    with pytest.raises(UsageError, match=r"^unknown key '--system\.boks': did you mean '--system\.books'\?$"):
        config.load(Settings, None, {"boks": "3"}, option="--system.")
    with pytest.raises(UsageError, match=r"^--system\.stage\.steps: must be int, not 'x' \(How many steps\.\)$"):
        config.load(Settings, None, {"stage.steps": "x"}, option="--system.")


def test_a_missing_value_is_named():
    with pytest.raises(SeislatentError, match="rates"):
        config.load(Needy)


@pytest.mark.parametrize("content", ["- 1\n- 2\n", "a: [1\n", "42\n"])
def test_a_file_that_is_no_mapping(tmp_path, content):
    path = tmp_path / "x.yaml"
    path.write_text(content)
    with pytest.raises(SeislatentError, match=r"x\.yaml") as told:
        config.load(Settings, path)
    assert "\n" not in str(told.value)


def test_no_file():
    with pytest.raises(SeislatentError, match=r"nowhere\.yaml"):
        config.load(Settings, "nowhere.yaml")


def test_every_key_is_described():
    rows = {row.name: row for row in config.describe(Settings)}
    assert [*rows] == [
        "books", "name", "kind", "sizes", "pair", "window_s", "weights", "stage.steps", "stage.rate", "stages",
    ]  # fmt: skip
    assert rows["books"].help == "Codebooks: levels of the code." and rows["books"].type == "int"
    assert rows["stage.steps"].default == 5 and rows["stage.steps"].help == "How many steps."
    assert config.describe(Needy)[0].default is MISSING
    assert {r.name: r.default for r in config.describe(Settings(books=3))}["books"] == 3
