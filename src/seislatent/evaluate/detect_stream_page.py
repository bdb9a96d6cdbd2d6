"""The page of continuous records: what is found, false picks per station-hour, precision over recall."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from matplotlib.figure import Figure

from seislatent.evaluate.beside import NOTE, table
from seislatent.evaluate.detect_page import STYLES, left_out, number
from seislatent.evaluate.report import COLOURS, Picture, Report, Section, Table


def stream_page(result: dict[str, Any]) -> Report:
    """The report around the numbers."""
    labels = ", ".join(f"{count} {phase}" for phase, count in result["labels"].items())
    asked: list[str | Table | Picture] = [
        f"{result['station_hours']:.2f} station-hours: {result['records']} stretches without gaps of {result['stations']} stations,"
        f" in {result['events']} hours that are drawn again; labels in {result['picks']}: {labels}. Split {result['split']} of"
        f" {', '.join(result['data'])}. The first {result['edges_s'][0]:g} s and last {result['edges_s'][1]:g} s of a stretch do"
        " not count.",
        left_out(result),
        "trivial/clock picks every 10 s without looking.",
        f"Command: {result['command']}",
    ]
    sections = [Section(heading="What was asked", parts=asked)]
    for phase in ("P", "S"):
        parts: list[str | Table | Picture] = [_found(result, phase)]
        if result["labels"][phase]:
            parts += [_off(result, phase), _at(result, phase), _curves(result, phase)]
        if result["differences"]:
            parts.append(_compared(result, phase))
        sections.append(Section(heading=phase, parts=parts))
    sections[-1].parts.append(
        "A pick without a label within the tolerance counts as false: in a catalogue that is not complete many are small"
        " earthquakes, for every system alike. Thresholds are of what a picker gives as probability, which of the classical ones is"
        " 1 - 1/ratio. Brackets: 95 % interval when whole hours, with all their stations, are drawn again. " + NOTE
    )
    refused = [
        f"{name} would not take {sum(told['refused'].values())} stretches: {'; '.join(told['refused'])}."
        for name, told in result["systems"].items()
        if told["refused"]
    ]
    sections[0].parts += refused
    return Report(result, f"detect, continuous: {', '.join(result['systems'])}", sections)


def _found(result: Mapping[str, Any], phase: str) -> Table:
    p, measures = phase.lower(), ("precision", "recall", "f1", "false_per_station_hour")
    rows = [
        [name, str(told[f"{p}_picks"]), *(number(told[f"{p}_{m}"], ".2f") for m in measures)]
        for name, told in result["systems"].items()
    ]
    heads = ["system", "picks", "precision", "recall", "F1", "false per station-hour"]
    return Table(heads=heads, rows=rows, caption=f"{phase}: all picks that a system stands by, within {result['tolerance_s']:g} s")


def _compared(result: Mapping[str, Any], phase: str) -> Table:
    heads = {"precision": "precision", "recall": "recall", "f1": "F1", "false_per_station_hour": "false per station-hour"}
    named = {f"{phase.lower()}_{m}": head for m, head in heads.items()}
    return table(result["differences"], named, f"{phase}: differences of pairs, the same hours drawn for both", "+.2f")


def _off(result: Mapping[str, Any], phase: str) -> Table:
    p = phase.lower()
    columns = {
        "within_0.1_s": "within 0.1 s", "within_0.5_s": "within 0.5 s", "matched_median_s": "median, s", "matched_mad_s": "MAD, s",
        "matched_mean_s": "mean, s", "matched_std_s": "std, s",
    }  # fmt: skip
    there = {m: head for m, head in columns.items() if any(f"{p}_{m}" in told for told in result["systems"].values())}
    rows = [[name, *(number(told.get(f"{p}_{m}")) for m in there)] for name, told in result["systems"].items()]
    caption = f"{phase}: picks that meet a label, less the label; shares are of all labels"
    return Table(heads=["system", *there.values()], rows=rows, caption=caption)


def _at(result: Mapping[str, Any], phase: str) -> Table:
    rows = []
    for name, told in result["systems"].items():
        for one in told[f"{phase.lower()}_at_recall"]:
            if one["threshold"] is not None:
                false, right = (number(one[m], ".2f") for m in ("false_per_station_hour", "precision"))
                rows.append([name, f"{one['recall']:g}", f"{one['threshold']:.3f}", right, false])
    heads = ["system", "recall", "threshold", "precision", "false per station-hour"]
    return Table(heads=heads, rows=rows, caption=f"{phase}: the highest threshold that reaches a recall")


def _curves(result: Mapping[str, Any], phase: str) -> Picture:
    def draw(canvas: Figure) -> None:
        left, right = canvas.subplots(1, 2)
        for i, (name, told) in enumerate(result["systems"].items()):
            points = [c for c in told[f"{phase.lower()}_curve"] if c["precision"] is not None]
            recall, precision, false = ([c[m] for c in points] for m in ("recall", "precision", "false_per_station_hour"))
            look: dict[str, Any] = dict(color=COLOURS[i % len(COLOURS)], ls=STYLES[i % len(STYLES)])
            look |= {"marker": "o", "ms": 4} if len(points) < 3 else {}
            left.plot(recall, precision, label=name, **look)
            right.plot(recall, [max(f, 1e-2) for f in false], **look)
        for axis in (left, right):
            axis.set_xlabel("recall")
            axis.set_xlim(0, 1.02)
        left.set_ylabel("precision")
        left.set_ylim(0, 1.02)
        right.set_ylabel("false picks per station-hour")
        right.set_yscale("log")
        canvas.legend(loc="outside lower center", ncols=3)

    caption = f"{phase}: precision, and false picks per station-hour (0.01 where there are fewer), over recall, by threshold."
    return Picture(name=f"thresholds_{phase.lower()}", caption=caption, width_in=9.5, height_in=4.2, draw=draw)
