"""The first table of docs/losses.md holds what its code gives."""

import re
from pathlib import Path

import pytest

PAGE = Path(__file__).parents[2] / "docs" / "losses.md"


def test_the_table_is_what_the_code_gives():
    text = PAGE.read_text(encoding="utf-8")
    block = re.search(r"## Code of the first table\n+```python\n(.*?)```", text, re.DOTALL)
    found: dict = {}
    exec(compile(block[1], str(PAGE), "exec"), found)
    rows = [line.strip("| ").split(" | ") for line in text.splitlines() if re.match(r"\| `\w+`(, \w+)? \| [-\d.e]+ \|", line)]
    assert [re.sub(r"[`,]", "", name) for name, *_ in rows] == [
        name.replace("stft ", "stft_amplitude_phase ") for name in found["table"]
    ]
    for (_, *printed), computed in zip(rows, found["table"].values(), strict=True):
        for said, value in zip(printed, computed.values(), strict=True):
            assert float(said) == pytest.approx(value, rel=0.06, abs=1e-6)
