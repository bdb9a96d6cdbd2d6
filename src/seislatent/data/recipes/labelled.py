"""Everyone's own records: waveform files and a labels.csv, or a folder of them for each class.

    folder: labels.csv (file or id, start, label, P, S, event) + waveform files --> windows of one rate and length with their label
    folder: earthquake/, blast/ with waveform files --> the same, a subfolder's name is the label

A line that cannot be used is left out with its reason; its name in the store's list of rejected records is `labels.csv:LINE`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd

from seislatent.data.labelled_files import open_labelled
from seislatent.data.recipe import DataRecipe, Made, Rejected
from seislatent.data.recipes.picking import moving
from seislatent.data.records import Records
from seislatent.errors import SeislatentError, unknown
from seislatent.prepare.excerpt import excerpt, flaw, length_at, mark
from seislatent.prepare.level import level, single_precision
from seislatent.signal.onset import onset
from seislatent.waveform import Waveform


@dataclass(frozen=True, kw_only=True)
class LabelledConfig:
    """Length, rate and components of the windows, and what the labels mean."""

    window_s: float = 30.0
    """Length of a window in seconds."""
    sampling_rate_hz: float = 100.0
    """Of the windows, in Hz."""
    components: str = "ZNE"
    """Components of every record, in this order; 1 and 2 stand for N and E where a sensor is not oriented."""
    before_p_s: float = 5.0
    """Where a line has P and no start, its window begins this many seconds before P."""
    classes: dict[str, str] = field(default_factory=dict)
    """What a label of the file is called in the store, such as {eq: earthquake, bl: explosion}; others are then left out. Where
    nothing is given, labels stay as they are."""
    scale: Literal["record", "component", "none"] = "none"
    """What is divided by one peak, so that samples lie in [-1, 1]: the record, each component, or nothing."""
    whole: bool = False
    """Records are kept as long as they are, `window_s` at most, with the components that move: windows are cut in training.
    `trace_onset_sample` is then P, or where the vertical's variance rises most where there is no P."""


class Labelled(DataRecipe):
    """Windows of labelled records."""

    Config = LabelledConfig
    config: LabelledConfig

    def __init__(self, config: LabelledConfig) -> None:
        super().__init__(config)
        if config.window_s * config.sampling_rate_hz < 2 or config.before_p_s < 0 or not config.components:
            raise SeislatentError("window_s must hold two samples, before_p_s be 0 or more, and components name one or more")
        if config.scale not in ("record", "component", "none"):
            raise SeislatentError(unknown("scale", config.scale, ("record", "component", "none")))

    def open(self, source: Sequence[Path]) -> Records:
        """The lines of every labels.csv (a folder that has one, or the CSV file itself), or of folders of classes, as records."""
        c = self.config
        return open_labelled(source, window_s=c.window_s, before_p_s=c.before_p_s, components=c.components, whole=c.whole)

    def select(self, table: pd.DataFrame) -> pd.Series:
        """Lines that cannot be used, and labels that are not asked for."""
        reason = table["reason"].fillna("").astype(str)
        if not self.config.classes:
            return reason
        return reason.mask((reason == "") & ~table["label"].isin(list(self.config.classes)), "label not asked for")

    def make(self, records: Sequence[Waveform], rngs: Sequence[np.random.Generator]) -> Iterable[Made | Rejected]:
        """The windows of each record; nothing is drawn at random."""
        for record in records:
            try:
                found = [self.whole(record)] if self.config.whole else list(self.windows(record))
            except SeislatentError as error:  # a rate that cannot be resampled, say
                found = [Rejected(name=str(record.metadata.get("trace_name", "")), reason="cannot be cut", detail=str(error))]
            yield from found

    def windows(self, record: Waveform) -> Iterator[Made | Rejected]:
        """Whole windows side by side within what is labelled: one, unless the line says a longer `length`."""
        c, name = self.config, str(record.metadata["trace_name"])
        rate, count = c.sampling_rate_hz, round(c.window_s * c.sampling_rate_hz)
        if record.sampling_rate_hz <= 0:
            yield Rejected(name=name, reason="no numbers")
            return
        ratio = rate / record.sampling_rate_hz
        first, last = (round((mark(record, f"trace_label_{end}_sample") or 0.0) * ratio) for end in ("start", "end"))
        wanted = (last - first) // count
        if wanted < 1:
            yield Rejected(name=name, reason="length below the window", detail=f"{(last - first) / rate:g} of {c.window_s:g} s")
            return
        inside = range(max(0, -(first // count)), min(wanted, (length_at(record, rate) - first) // count))
        if len(inside) < wanted:
            told = f"{wanted - len(inside)} of {wanted} windows reach beyond what there is"
            yield Rejected(name=name, reason="too short", detail=told)
        for k in inside:
            start = first + k * count
            own = f"{name}_{k}" if wanted > 1 else name
            trouble = flaw(record, start, start + count, rate)
            if trouble:
                yield Rejected(name=own, reason=trouble)
                continue
            window = excerpt(record, start, start + count, rate)
            window = level(window, per=c.scale) if c.scale != "none" else window
            label = str(record.metadata["label"])
            about = {"trace_name": own, "label": c.classes.get(label, label)}
            kept = {k: v for k, v in window.metadata.items() if not k.startswith("trace_label_")}
            yield Made(record=replace(single_precision(window), metadata=kept | about))

    def whole(self, record: Waveform) -> Made | Rejected:
        """What is labelled, as one record."""
        c, name = self.config, str(record.metadata["trace_name"])
        live = moving(record) if record.sampling_rate_hz > 0 else None
        if live is None:
            return Rejected(name=name, reason="no component that moves")
        ratio, room = c.sampling_rate_hz / live.sampling_rate_hz, length_at(live, c.sampling_rate_hz)
        first, last = (round((mark(live, f"trace_label_{end}_sample") or 0.0) * ratio) for end in ("start", "end"))
        first, last = max(first, 0), min(last, room)
        trouble = flaw(live, first, last, c.sampling_rate_hz) if last - first >= 2 else "too short"
        if trouble:
            return Rejected(name=name, reason=trouble)
        found = single_precision(excerpt(live, first, last, c.sampling_rate_hz))
        found = level(found, per=c.scale) if c.scale != "none" else found
        p = mark(found, "trace_p_arrival_sample")
        rises = onset(found.data[0], c.sampling_rate_hz) if p is None else p
        label = str(found.metadata["label"])
        about = {"trace_name": name, "label": c.classes.get(label, label), "trace_onset_sample": np.nan if rises is None else rises}
        kept = {k: v for k, v in found.metadata.items() if not k.startswith("trace_label_")}
        return Made(record=replace(found, metadata=kept | about))
