"""Kinds: the words of catalogues and sets, one record and whole tables alike."""

import warnings

import numpy as np
import pandas as pd
import pytest

from seislatent.prepare.kinds import kind, kind_of, kinds


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("earthquake_local", "earthquake"), ("noise", "noise"), ("Quarry Blast", "explosion"), ("mining explosion", "explosion"),
        ("quarry blast near an earthquake", "explosion"), ("sonic boom", ""), ("", ""), (None, ""), (3.0, ""), ("qb", "explosion"),
    ],
)  # fmt: skip
def test_words(text, wanted):
    assert kind(text) == wanted


def test_a_table_and_its_rows_agree():
    table = pd.DataFrame(
        {
            "trace_category": ["earthquake", "noise", None, None, None, "sonic boom", "local"],
            "source_type": [None, None, "explosion", None, None, None, "quarry blast"],
            "source_event_category": [np.nan] * 7,
            "source_magnitude": [1.0, np.nan, 2.0, 3.0, np.nan, 1.0, 2.0],
        }
    )
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = list(kinds(table))
    assert found == ["earthquake", "noise", "explosion", "earthquake", "", "", "explosion"]
    assert found == [kind_of(row) for row in table.to_dict("records")]
    assert [k == "earthquake" for k in kinds(table[["source_magnitude"]])] == list(table["source_magnitude"].notna())
