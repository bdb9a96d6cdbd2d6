"""Classes of records and streams: files, folders, SDS trees, stores.

record, or stretch up to `WHOLE_S` --at the classifier's rate--> one answer
longer stretch --windows at multiples of the hop since 1970----> one answer each
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from seislatent.bulk.parts import parted
from seislatent.bulk.sensors import Notes, by_sensor, usable
from seislatent.bulk.sources import Piece, open_source
from seislatent.data.gather import sensor_of
from seislatent.errors import SeislatentError
from seislatent.systems.base import Classifier
from seislatent.systems.features.stretches import Part, parts
from seislatent.waveform import Waveform

WHOLE_S = 300.0
"""Records and stretches up to this length, in s, have one answer."""
WINDOW_S, RATE_HZ = 30.0, 100.0
"""Of a classifier that tells neither length nor rate."""
LEAST_GIVEN = 0.5
"""Windows with a smaller share of samples, in their best component, have no answer."""
UNKNOWN = "unknown"
AT_ONCE = 64
COLUMNS = ("id", "start_ns", "end_ns", "label", "probability", "probabilities")


@dataclass(frozen=True, kw_only=True)
class ClassifySettings:
    """How streams are cut."""

    window_s: float | None = None
    """Length of a window, in s; None: the classifier's own."""
    overlap: float = 0.5
    """Share of a window that the next one has too, below 1."""
    whole_s: float = WHOLE_S
    """What is no longer has one answer, in s."""
    flexible: bool = True
    """Components 1 and 2 stand for N and E."""
    strict: bool = False
    """Only what has all three components."""
    instruments: tuple[str, ...] = ()
    """Band codes, the first choice first; None: every sensor."""


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What a record, or a window of a stream, shows."""

    id: str
    """Name of a store's record, or network.station.location.band of a stream."""
    start_ns: int
    end_ns: int
    label: str
    """The most probable, or `unknown` where the classifier says so."""
    probability: float
    """Of the most probable label, also where it is unknown."""
    probabilities: dict[str, float]
    """Of every label."""


@dataclass(frozen=True, kw_only=True)
class Classified:
    """What became of a source."""

    answers: list[Answer]
    notes: list[str]


def classify(
    model: Any,
    source: str | Path | Sequence[str | Path],
    settings: ClassifySettings | None = None,
    *,
    parts: str | Path | None = None,
    overwrite: bool = False,
    workers: int = 1,
    scheduler: str | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Classified:
    """Answers for everything in a source; arguments as of `bulk.pick.pick`.

    Raises:
        SeislatentError: no classifier; nothing in the source can be classified; the folder of parts holds another run.
    """
    settings = settings or ClassifySettings()
    system = classifier_of(model)
    _hop(system, settings)
    opened = open_source(source, settings.instruments)
    found, notes = parted(
        _work, opened, (system.eval(), settings), [model.digest, asdict(settings)], parts=parts, overwrite=overwrite,
        workers=workers, scheduler=scheduler, progress=progress,
    )  # fmt: skip
    answers = [Answer(**row) for one in found for row in one["rows"]]
    if not answers:
        told = "; ".join(notes[:3])
        raise SeislatentError(f"{opened.name}: nothing in it can be classified{': ' if told else ''}{told}")
    if any(p.begin_ns is not None for p in opened.pieces):
        answers.sort(key=lambda a: (a.start_ns, a.id))
    return Classified(answers=answers, notes=notes)


def classify_stream(model: Any, source: Any, settings: ClassifySettings | None = None) -> Classified:
    """Answers for an ObsPy stream or trace, or for waveforms, in order of time."""
    settings = settings or ClassifySettings()
    system, notes = classifier_of(model), Notes()
    system.eval()
    answers: list[Answer] = []
    for group in by_sensor(source).values():
        answers += answered(system, usable([group], notes, settings.flexible, settings.strict), settings)
    return Classified(answers=sorted(answers, key=lambda a: (a.start_ns, a.id)), notes=notes)


def classifier_of(model: Any) -> Any:
    """The system of a model that classifies. Raises SeislatentError for any other."""
    if not isinstance(model.system, Classifier):
        raise SeislatentError(f"{model.name} is no classifier: load one, such as features/noise")
    return model.system


def _work(shared: tuple[Any, ClassifySettings], part: Any, piece: Piece) -> dict[str, Any]:
    """Answers of one piece."""
    system, settings = shared
    notes, rows = Notes(), []
    context = round((2 * settings.whole_s + 2 * _length(system, settings) / _rate(system)) * 1e9)
    for name, blocks in part.waveforms(piece, context, notes):
        for answer in answered(system, usable(blocks, notes, settings.flexible, settings.strict), settings, name):
            if piece.begin_ns is None or piece.begin_ns <= answer.start_ns < (piece.end_ns or 0):
                rows.append(asdict(answer))
    return {"number": piece.number, "rows": rows, "notes": [*notes, *part.bad()]}


def _rate(system: Any) -> float:
    return float(getattr(system, "sampling_rate_hz", None) or RATE_HZ)


def _length(system: Any, settings: ClassifySettings) -> int:
    """Of a window, in samples."""
    own = getattr(system, "samples", None)
    return round(settings.window_s * _rate(system)) if settings.window_s else int(own or round(WINDOW_S * _rate(system)))


def _hop(system: Any, settings: ClassifySettings) -> int:
    """From one window to the next, in samples. Raises SeislatentError for windows that do not move on."""
    length = _length(system, settings)
    if not (0 <= settings.overlap < 1 and length >= 1 and round(length * (1 - settings.overlap)) >= 1):
        raise SeislatentError(f"windows of {length} samples that overlap by {settings.overlap:g}: give a share of 0 to below 1")
    return round(length * (1 - settings.overlap))


def answered(system: Any, records: Iterable[Waveform], settings: ClassifySettings, name: str = "") -> Iterator[Answer]:
    """Answers for one sensor's records in order of time."""
    for title, cuts in cut_windows(system, records, settings, name):
        yield from _asked(system, title, cuts)


Cut = tuple[int, int, NDArray[np.float32]]
"""Begin and end in ns, and samples [Z N E, time] with NaN where there are none, each row without its mean."""


def cut_windows(
    system: Any, records: Iterable[Waveform], settings: ClassifySettings, name: str = ""
) -> Iterator[tuple[str, list[Cut]]]:  # fmt: skip
    """Windows of one shape, at most `AT_ONCE`, at the system's rate, with the name of their record or sensor."""
    rate, length, hop = _rate(system), _length(system, settings), _hop(system, settings)
    source = iter(records)
    first = next(source, None)
    if first is None:
        return
    title = name or ".".join(sensor_of(first.channels[0]))
    held = itertools.chain([first], source)
    waiting: list[Cut] = []
    for run in _runs(parts(held, rate), max(round(settings.whole_s * rate), length)):
        for item in _windows(run, rate, length, hop, settings.whole_s if not name else float("inf")):
            if waiting and (len(waiting) >= AT_ONCE or waiting[0][2].shape != item[2].shape):
                yield title, waiting
                waiting = []
            waiting.append(item)
    if waiting:
        yield title, waiting


def _runs(found: Iterable[Part], most: int) -> Iterator[list[Part]]:
    """Parts that are less than `most` samples apart together."""
    run: list[Part] = []
    for part in found:
        if run and part.first - (run[-1].first + run[-1].data.shape[1]) >= most:
            yield run
            run = []
        run.append(part)
    if run:
        yield run


def _windows(run: list[Part], rate: float, length: int, hop: int, whole_s: float) -> Iterator[Cut]:
    """The windows of a stretch, or the whole of it."""
    begin, end = run[0].first, run[-1].first + run[-1].data.shape[1]
    x = np.full((3, end - begin), np.nan)
    for part in run:
        at = part.first - begin
        x[:, at : at + part.data.shape[1]] = np.where(part.given, part.data, np.nan)
    firsts = np.array([p.first for p in run])

    def time_ns(sample: int) -> int:
        part = run[max(0, int(np.searchsorted(firsts, sample, side="right")) - 1)]
        return part.start_ns + round((sample - part.first) / rate * 1e9)

    if end - begin <= max(whole_s * rate, length):
        cuts = [(begin, end if whole_s > 0 else begin + length)]
    else:
        numbers = range(-(-(begin - length // 2) // hop), (end - length // 2) // hop + 1)
        cuts = [(k * hop, k * hop + length) for k in numbers]
    for a, b in cuts:
        low, high = max(a, begin), min(b, end)
        if high <= low:
            continue
        cut = np.full((3, b - a), np.nan, np.float32)
        part_of = x[:, low - begin : high - begin]
        cut[:, low - a : high - a] = part_of - _level(part_of)
        if np.isfinite(cut).mean(1).max() >= (LEAST_GIVEN if len(cuts) > 1 else 1e-9):
            yield time_ns(a), time_ns(b), cut


def _level(x: NDArray[np.float64]) -> NDArray[np.float64]:
    """The mean of each row [3 1]; 0 where nothing is given."""
    given = np.isfinite(x)
    return np.asarray(np.where(given, x, 0).sum(1, keepdims=True) / np.maximum(given.sum(1, keepdims=True), 1))


def _asked(system: Any, title: str, waiting: Sequence[Cut]) -> Iterator[Answer]:
    """What the classifier says of windows of one shape."""
    device = next((p.device for p in getattr(system, "parameters", lambda: iter(()))()), torch.device("cpu"))
    x = torch.from_numpy(np.stack([item[2] for item in waiting])).to(device)
    with torch.inference_mode():
        if hasattr(system, "judge"):
            judged = system.judge(x)
            probability, unknown = judged.probabilities, judged.unknown
        else:
            x = x.nan_to_num(0.0)
            probability, unknown = system.classify(x), torch.zeros(len(x), dtype=torch.bool)
    labels = tuple(system.labels)
    for (begin, end, _), row, odd in zip(waiting, probability.float().cpu().numpy(), unknown.cpu().tolist(), strict=True):
        best = int(row.argmax())
        yield Answer(
            id=title, start_ns=begin, end_ns=end, label=UNKNOWN if odd else labels[best], probability=float(row[best]),
            probabilities={label: float(p) for label, p in zip(labels, row, strict=True)},
        )  # fmt: skip
