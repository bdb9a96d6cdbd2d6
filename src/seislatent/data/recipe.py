"""What a data recipe is: from records of a source to the records of a store, in pieces of any size, in any order.

    source --open--> records --make--> Made (a record, and arrays beside it) or Rejected (a reason, counted)

A recipe is one file of `seislatent.data.recipes`, a line of `catalog.RECIPES` and a preset `presets/data/NAME.yaml`. It sees no
store and no process: `seislatent.data.preparing` hands it pieces and writes what it makes, so that the result depends neither on
the number of workers nor on an interruption.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from seislatent.data.records import Records, open_records
from seislatent.waveform import Waveform


@dataclass(frozen=True, kw_only=True, eq=False)
class Made:
    """A record for the store."""

    record: Waveform
    """Its samples become the array `x`; its metadata and history become its row of the table."""
    others: Mapping[str, NDArray[Any]] = field(default_factory=dict)
    """Arrays [channel time] beside it, by the names that the recipe declares in `arrays`."""


@dataclass(frozen=True, kw_only=True)
class Rejected:
    """A record that is left out."""

    name: str
    """Its trace_name."""
    reason: str
    """One of few words, which are counted: 'gap', 'no P pick', 'dead component'."""
    detail: str = ""
    """What is special about this one."""


class DataRecipe(ABC):
    """How the records of one kind of training set are made."""

    Config: ClassVar[type]
    """A frozen dataclass: every choice, with its unit in its name."""
    arrays: ClassVar[tuple[str, ...]] = ()
    """Names of the arrays that every made record has beside its own samples."""
    from_nothing: ClassVar[bool] = False
    """It makes its records without a source, and `open` is given none."""

    def __init__(self, config: Any) -> None:
        self.config = config

    def open(self, source: Sequence[Path]) -> Records:
        """The records of a source, read only when asked for; `metadata` has a row for each."""
        return open_records(source)

    def select(self, table: pd.DataFrame) -> pd.Series:
        """Before anything is read: why a row of the source's table is left out, an empty text where it is not."""
        return pd.Series("", index=table.index, dtype=object)

    @abstractmethod
    def make(self, records: Sequence[Waveform], rngs: Sequence[np.random.Generator]) -> Iterable[Made | Rejected]:
        """What becomes of some records of the source: for each one, any number of records or a reason.

        Args:
            records: as `open` gives them; one step may be done on all that have the same shape at once.
            rngs: one generator per record, seeded by the run's seed and the record's name; nothing else may be random.
        """

    def sift(self, table: pd.DataFrame) -> pd.Series:
        """After all are made: why a row of the store's table is left out after all, an empty text where it is not."""
        return pd.Series("", index=table.index, dtype=object)
