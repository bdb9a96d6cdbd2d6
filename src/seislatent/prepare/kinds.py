"""What a record shows: earthquake, explosion or noise, from the words that catalogues and data sets use."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import pandas as pd

WORDS = {
    "noise": ("noise",),
    "explosion": ("explosion", "explosive", "blast", "quarry", "mining", "shot"),
    "earthquake": ("earthquake", "quake", "local", "regional", "teleseism", "induced", "foreshock", "aftershock"),
}
"""Kind by the beginning of a word; the first kind that is found holds ('quarry blast near earthquake' is an explosion)."""

COLUMNS = ("label", "source_type", "trace_category", "source_event_category")
"""Where the kind is said; the first column that tells one holds."""

OF_EARTHQUAKES = ("source_magnitude", "source_origin_time", "trace_p_arrival_sample")
"""What a record has that comes from a catalogue."""

SHORT = {"eq": "earthquake", "le": "earthquake", "ke": "earthquake", "qb": "explosion", "ex": "explosion", "no": "noise"}
"""Whole codes: the usual two letters of network catalogues, and SeisBench's `source_event_category` where it is one of them."""


def kind(text: Any) -> str:
    """earthquake, explosion, noise, or an empty text for words that name none of them.

    >>> kind("earthquake_local"), kind("Quarry Blast"), kind("AN"), kind("noise")
    ('earthquake', 'explosion', '', 'noise')
    """
    if not isinstance(text, str):
        return ""
    if text.strip().lower() in SHORT:
        return SHORT[text.strip().lower()]
    words = re.findall(r"[a-z]+", text.lower())
    return next((name for name, begins in WORDS.items() if any(w.startswith(begins) for w in words)), "")


def kinds(table: pd.DataFrame) -> pd.Series:
    """The kind of every row of a table of records.

    Where no column says it, a record that has a magnitude, an origin or a P arrival is an earthquake: sets of earthquakes alone
    do not repeat it in every row. Any other record has no kind, an empty text.
    """
    found = pd.Series("", index=table.index, dtype=object)
    for column in COLUMNS:
        if column in table:
            each = {text: kind(text) for text in table[column].dropna().unique()}
            told = pd.Series([each.get(text, "") for text in table[column]], index=table.index, dtype=object)
            found = found.where(found != "", told)
    source = [c for c in OF_EARTHQUAKES if c in table]
    has = table[source].notna().any(axis=1) if source else pd.Series(False, index=table.index)
    said = pd.Series(False, index=table.index)
    for column in COLUMNS[:3]:  # another word in one of these (such as 'sonic boom') is a kind that we do not know
        if column in table:
            said |= table[column].astype(object).where(table[column].notna(), "").astype(str).str.strip() != ""
    return found.where((found != "") | said | ~has, "earthquake")


def kind_of(metadata: Mapping[str, Any]) -> str:
    """The kind of one record, as `kinds` tells it."""
    texts = [metadata.get(column) for column in COLUMNS]
    found = next((name for name in map(kind, texts) if name), "")
    said = any(isinstance(text, str) and text.strip() for text in texts[:3])
    return found or ("" if said or all(pd.isna(metadata.get(column)) for column in OF_EARTHQUAKES) else "earthquake")
