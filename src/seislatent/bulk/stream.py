"""ObsPy streams in memory: probability traces, picks, classes and features, with the names that users of SeisBench know."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from obspy import Stream, Trace, UTCDateTime

from seislatent.bulk.classify import Answer, ClassifySettings, classify_stream, cut_windows
from seislatent.bulk.pick import PickSettings, annotator_of, pick_rows, table_of
from seislatent.bulk.sensors import Notes, by_sensor, usable
from seislatent.errors import SeislatentError, unknown
from seislatent.systems.base import Embedder
from seislatent.systems.features.annotate import annotation_blocks
from seislatent.systems.features.arrivals import chosen_thresholds

THRESHOLD = "_threshold"


@dataclass(frozen=True, kw_only=True)
class StreamPick:
    """An arrival in a stream."""

    trace_id: str
    """network.station.location of the sensor."""
    start_time: UTCDateTime
    """First sample above the threshold."""
    end_time: UTCDateTime
    """Last sample above it."""
    peak_time: UTCDateTime
    peak_value: float
    """Probability, 0 to 1."""
    phase: str
    channel: str = ""
    uncertainty_s: float = float("nan")
    """Standard deviation of `peak_time`, in s; NaN where the picker was not calibrated."""
    amplitude: float = float("nan")
    """Largest within 4 s after the pick, above 1 Hz, in the unit of the stream."""
    clipped: bool = False

    def __str__(self) -> str:
        return f"{self.trace_id} {self.peak_time} {self.phase} {self.peak_value:.2f}"


class Table(list[Any]):
    """Rows that are dataclasses."""

    def to_dataframe(self) -> pd.DataFrame:
        """A row each, a column per field; times as pandas' timestamps in UTC without zone."""
        rows = [asdict(one) for one in self]
        return pd.DataFrame([{k: v.datetime if isinstance(v, UTCDateTime) else v for k, v in row.items()} for row in rows])


@dataclass(frozen=True, kw_only=True)
class Picks:
    """What a picker found in a stream."""

    picks: Table
    """`StreamPick`, in order of time."""
    creator: str
    """Name and digest of the model."""
    notes: tuple[str, ...] = ()
    """What of the stream was left out."""

    def __repr__(self) -> str:
        return "\n".join([f"{len(self.picks)} picks by {self.creator}", *map(str, self.picks[:20])])


@dataclass(frozen=True, kw_only=True)
class Prediction:
    """What a record, or a window of a long stream, shows."""

    trace_id: str
    start_time: UTCDateTime
    end_time: UTCDateTime
    label: str
    """The most probable, or `unknown`."""
    probability: float
    probabilities: dict[str, float]


@dataclass(frozen=True, kw_only=True, eq=False)
class Features:
    """Vectors of the windows of a stream."""

    vectors: NDArray[np.float32]
    """[window latent]"""
    trace_id: tuple[str, ...]
    start_time: tuple[UTCDateTime, ...]


def settings_of(
    system: Any, thresholds: Mapping[str, Any], *, overlap: float | None, blinding: Any, stacking: str, batch_size: int | None,
    strict: bool, flexible_horizontal_components: bool,
) -> PickSettings:  # fmt: skip
    """Settings of a call in SeisBench's words: `P_threshold=0.3`. Raises SeislatentError for a word that is not known."""
    words = [f"{phase}{THRESHOLD}" for phase in system.phases]
    known = [
        "overlap", "blinding", "stacking", "batch_size", "strict", "flexible_horizontal_components", *words,
    ]  # fmt: skip
    for word in thresholds:
        if word not in words:
            same = [w for w in known if w.lower() == word.lower()]  # what differs in its case alone is meant
            raise SeislatentError(
                f"unknown parameter '{word}': did you mean '{same[0]}'?" if same else unknown("parameter", word, known)
            )
    given = {word.removesuffix(THRESHOLD): value for word, value in thresholds.items() if value is not None}
    return PickSettings(
        thresholds=chosen_thresholds(system, given), overlap=overlap, blinding=blinding, stacking=stacking, batch_size=batch_size,
        strict=strict, flexible=flexible_horizontal_components,
    )  # fmt: skip


def annotated(model: Any, source: Any, settings: PickSettings) -> Stream:
    """Probabilities of every phase as traces: one per sensor, phase and unbroken stretch, its channel `<system>_<phase>`.

    Where there is no answer (gaps and their surroundings), there is no sample.
    """
    system = annotator_of(model).eval()
    traces: list[Trace] = []
    for (network, station, location, _), records in _records(source, settings.flexible, settings.strict, Notes()):
        header = {"network": network, "station": station, "location": location, "sampling_rate": float(system.sampling_rate_hz)}
        held: dict[str, Trace] = {}
        for block in annotation_blocks(
            system, records, overlap=settings.overlap, blinding=settings.blinding, stacking=settings.stacking,
            batch_size=settings.batch_size,
        ):  # fmt: skip
            edges = np.flatnonzero(np.diff(block.valid, prepend=False, append=False)).reshape(-1, 2)
            for low, high in edges.tolist():
                begin = UTCDateTime(ns=block.time_ns(low))
                for phase, row in zip(block.phases, block.probabilities, strict=True):
                    last = held.get(phase)
                    if last is not None and abs((last.stats.endtime + last.stats.delta) - begin) < last.stats.delta / 2:
                        last.data = np.concatenate([last.data, row[low:high]])
                        continue
                    channel = f"{type(system).__name__}_{phase}"
                    held[phase] = Trace(row[low:high].copy(), header | {"channel": channel, "starttime": begin})
                    traces.append(held[phase])
    return Stream(traces)


def picked(model: Any, source: Any, settings: PickSettings) -> Picks:
    """The picks of every sensor of a stream."""
    system, notes = annotator_of(model).eval(), Notes()
    rows = [
        row
        for _, records in _records(source, settings.flexible, settings.strict, notes)
        for row in pick_rows(system, records, settings)
    ]
    picks = Table(
        StreamPick(
            trace_id=f"{row['network']}.{row['station']}.{row['location']}", channel=row["channel"], phase=row["phase"],
            start_time=UTCDateTime(ns=int(row["begin_ns"])), end_time=UTCDateTime(ns=int(row["end_ns"])),
            peak_time=UTCDateTime(ns=int(row["time_ns"])), peak_value=float(row["probability"]),
            uncertainty_s=float(row["uncertainty_s"]), amplitude=float(row["amplitude"]), clipped=bool(row["clipped"]),
        )
        for row in table_of(rows).to_dict("records")
    )  # fmt: skip
    return Picks(picks=picks, creator=f"{model.name}/{model.digest}", notes=tuple(notes))


def predicted(model: Any, source: Any, settings: ClassifySettings) -> Table:
    """Labels of every sensor's records, or of the windows of long ones."""
    return Table(prediction(answer) for answer in classify_stream(model, source, settings).answers)


def prediction(answer: Answer) -> Prediction:
    """An answer with ObsPy's times."""
    return Prediction(
        trace_id=answer.id, start_time=UTCDateTime(ns=answer.start_ns), end_time=UTCDateTime(ns=answer.end_ns),
        label=answer.label, probability=answer.probability, probabilities=answer.probabilities,
    )  # fmt: skip


def embedded(model: Any, source: Any, settings: ClassifySettings) -> Features:
    """Vectors of the windows of every sensor's records, at the length that the embedder is made for."""
    system = model.system
    if not isinstance(system, Embedder):
        raise SeislatentError(f"{model.name} is no embedder: load one, such as features/autoencoder")
    made: Any = system.eval()  # type: ignore[attr-defined]
    vectors, ids, starts = [], [], []
    for _, records in _records(source, settings.flexible, settings.strict, Notes()):
        for title, cuts in cut_windows(made, records, settings):
            with torch.inference_mode():
                x = torch.from_numpy(np.stack([cut[2] for cut in cuts])).nan_to_num(0.0)
                vectors.append(made.embed(x).float().cpu().numpy())
            ids += [title] * len(cuts)
            starts += [UTCDateTime(ns=cut[0]) for cut in cuts]
    if not vectors:
        raise SeislatentError("no samples to embed: give a stream that holds some")
    return Features(vectors=np.concatenate(vectors), trace_id=tuple(ids), start_time=tuple(starts))


def _records(source: Any, flexible: bool, strict: bool, notes: Notes) -> Any:
    """Sensors with their records in order of time."""
    for sensor, group in by_sensor(source).items():
        yield sensor, usable([group], notes, flexible, strict)
