"""Any data recipe, with the quality of every component of the source's records in the store's table."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

from seislatent.data.recipe import DataRecipe, Made, Rejected
from seislatent.data.records import Records
from seislatent.prepare.quality import measure
from seislatent.waveform import Waveform


class Measured(DataRecipe):
    """Measures each record as it was read (`seislatent.prepare.quality`), then does what the recipe inside does."""

    def __init__(self, inner: DataRecipe) -> None:
        super().__init__(inner.config)
        self.inner = inner

    def open(self, source: Sequence[Path]) -> Records:
        """As the recipe inside."""
        return self.inner.open(source)

    def select(self, table: pd.DataFrame) -> pd.Series:
        """As the recipe inside."""
        return self.inner.select(table)

    def make(self, records: Sequence[Waveform], rngs: Sequence[np.random.Generator]) -> Iterable[Made | Rejected]:
        """As the recipe inside, of records that carry their quality; what is no number, or holds no sample, has none."""
        return self.inner.make([_measured(record) for record in records], rngs)

    def sift(self, table: pd.DataFrame) -> pd.Series:
        """As the recipe inside."""
        return self.inner.sift(table)


def _measured(record: Waveform) -> Waveform:
    if record.data.dtype.kind not in "biuf" or not record.data.size:
        return record
    return replace(record, metadata=record.metadata | measure(record))
