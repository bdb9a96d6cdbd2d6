"""The pages of the question `detect`: tables, residuals, curves, and the worst ten."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from torch import Tensor

from seislatent.evaluate.beside import NOTE, table
from seislatent.evaluate.detect_reliability import NOTE as BELIEVED_NOTE
from seislatent.evaluate.detect_reliability import diagrams, held_table, recall_table
from seislatent.evaluate.report import COLOURS, Picture, Report, Section, Table
from seislatent.metrics.detection import roc

WORST = 10
HOURS_NOTE = (
    "Where classes have hours of their own (quarries blast by day), a system can tell the noise of the day instead of the source:"
    " look at the classes at equal hours before believing a score."
)
RECALL_NOTE = (
    "Fifty stations of one blast are one blast: where recall of records, of events and of days (UTC) differ much, believe the last."
)
STYLES = ("-", "--", "-.", ":")


def number(told: Mapping[str, Any] | None, form: str = ".3f") -> str:
    """A value with its interval; - where there is none."""
    if told is None or told["mean"] is None:
        return "-"
    ends = f" [{told['low']:{form}}, {told['high']:{form}}]" if told["low"] is not None else ""
    return f"{told['mean']:{form}}{ends}"


def left_out(result: Mapping[str, Any]) -> str:
    """Which records were not judged, in a line."""
    return "Records left out: " + ("; ".join(f"{count} ({why})" for why, count in result["skipped"].items()) or "none") + "."


# -- picks ------------------------------------------------------------------------------------------------------------------------


def picks_page(result: dict[str, Any], residual: Mapping[str, Mapping[str, Any]], cases: Mapping[str, Sequence[Any]]) -> Report:
    """The report around the numbers.

    `residual`: by system and phase, in s, NaN where missed. `cases`: by system, its worst: (title, time, vertical, truth, picks).
    """
    asked: list[str | Table | Picture] = [
        f"{result['records']} records of {result['events']} events, each cut to {result['cut_s']:g} s at random around its P;"
        f" {result['s_records']} of the cuts hold S; {result['noise_cuts']} cuts of noise before P. Split {result['split']} of"
        f" {', '.join(result['data'])}.",
        left_out(result),
        "trivial/constant says the mean position of these very arrivals in every cut, without looking.",
        f"Command: {result['command']}",
    ]
    sections = [Section(heading="What was asked", parts=asked)]
    for phase in [p for p in ("P", "S") if any(f"{p.lower()}_f1" in told for told in result["systems"].values())]:
        tables: list[str | Table | Picture] = [_found(result, phase), *_off(result, phase)]
        tables += [_compared(result, phase)] if result["differences"] else []
        tables.append(_residual_picture(phase, {name: r[phase] for name, r in residual.items()}))
        tables.append(_snr(result, phase))
        sections.append(Section(heading=phase, parts=tables))
    sections[-1].parts.append(
        "Residual: most probable pick less label, so positive is late. Mean, median, standard deviation and MAD (median distance"
        " from the median) are of records with a pick, wherever it is; matched ones of those within the tolerance. Shares are of"
        f" all records. Brackets: 95 % interval when whole events are drawn again. {NOTE}"
    )
    worst = [_worst(i, name, some) for i, (name, some) in enumerate(cases.items())]
    sections.append(Section(heading=f"The worst {WORST}", parts=[*worst]))
    return Report(result, f"detect, picks: {', '.join(result['systems'])}", sections)


def _found(result: Mapping[str, Any], phase: str) -> Table:
    columns = {
        "precision": "precision",
        "recall": "recall",
        "f1": "F1",
        "picked": "with a pick",
        "false_in_noise": "picks in noise",
    }
    caption = f"{phase}: what is found, within {result['tolerance_s']:g} s"
    return _table(result, phase, columns, ".2f", caption)


def _off(result: Mapping[str, Any], phase: str) -> list[Table]:
    near = {"within_0.1_s": "within 0.1 s", "within_0.5_s": "within 0.5 s", "median_s": "median, s", "mad_s": "MAD, s"}
    far = {"mean_s": "mean, s", "std_s": "std, s", "matched_mean_s": "matched mean, s", "matched_std_s": "matched std, s"}
    return [
        _table(result, phase, near, ".3f", f"{phase}: how far off, pick less label; shares of all records"),
        _table(result, phase, far, ".3f", f"{phase}: mean and standard deviation of all picks, and of matched ones"),
    ]


def _table(result: Mapping[str, Any], phase: str, columns: Mapping[str, str], form: str, caption: str) -> Table:
    p = phase.lower()
    there = {m: head for m, head in columns.items() if any(f"{p}_{m}" in told for told in result["systems"].values())}
    rows = [[name, *(number(told.get(f"{p}_{m}"), form) for m in there)] for name, told in result["systems"].items()]
    return Table(heads=["system", *there.values()], rows=rows, caption=caption)


def _compared(result: Mapping[str, Any], phase: str) -> Table:
    heads = {"f1": "F1", "within_0.1_s": "within 0.1 s", "within_0.5_s": "within 0.5 s", "mad_s": "MAD, s"}
    heads["false_in_noise"] = "picks in noise"
    named = {f"{phase.lower()}_{m}": head for m, head in heads.items()}
    return table(result["differences"], named, f"{phase}: differences of pairs on the same records, the same events drawn for both")


def _snr(result: Mapping[str, Any], phase: str) -> Table:
    measures = {
        "recall": ".2f", "f1": ".2f", "within_0.1_s": ".2f", "within_0.5_s": ".2f", "median_s": ".3f", "mad_s": ".3f",
        "mean_s": ".3f", "std_s": ".3f",
    }  # fmt: skip
    rows = []
    for name, told in result["systems"].items():
        for b in told["by_snr"][phase]:
            low, high = (f"{v:g}" if v is not None else "" for v in (b["low_db"], b["high_db"]))
            text = f"{low} to {high}" if low and high else f"from {low}" if low else f"below {high}"
            shown = {m: b[m] if "within" in m else {**b[m], "low": None} for m in measures}  # report.json has all intervals
            rows.append([name, text, str(b["records"]), *(number(shown[m], form) for m, form in measures.items())])
    heads = [
        "system",
        "SNR, dB",
        "records",
        "recall",
        "F1",
        "within 0.1 s",
        "within 0.5 s",
        "median, s",
        "MAD, s",
        "mean, s",
        "std, s",
    ]
    of = {"P": "the vertical, 2 s after P over 5 s before it", "S": "the horizontals, 2 s after S over 5 s before P"}[phase]
    return Table(heads=heads, rows=rows, caption=f"{phase} by signal-to-noise ratio ({of}, above 1 Hz)")


def _residual_picture(phase: str, residual: Mapping[str, Any]) -> Picture:
    def draw(canvas: Figure) -> None:
        near, far = canvas.subplots(1, 2)
        edges = np.linspace(-1.025, 1.025, 42)  # a bin about zero
        for i, (name, r) in enumerate(residual.items()):
            colour, style = COLOURS[i % len(COLOURS)], STYLES[i % len(STYLES)]
            r = np.asarray(r)
            share = np.histogram(r[~np.isnan(r)], edges)[0] / max(len(r), 1)
            near.stairs(share, edges, color=colour, ls=style, lw=1.4)
            off = np.sort(np.abs(r[~np.isnan(r)]))
            reached = np.arange(1, len(off) + 1) / max(len(r), 1)
            far.step(np.maximum(off, 1e-3), reached, where="post", color=colour, ls=style, lw=1.4, label=name)
        near.set_xlabel("residual, s (late is positive)")
        near.set_ylabel("share of records per 0.05 s")
        near.set_xlim(-1, 1)
        far.set_xscale("log")
        far.set_xlim(5e-3, 30)
        far.set_ylim(0, 1.02)
        for at in (0.1, 0.5):
            far.axvline(at, color=COLOURS[7], lw=0.8, ls=":")
        far.set_xlabel("distance from the label, s")
        far.set_ylabel("share of records found so near")
        canvas.legend(loc="outside lower center", ncols=3)

    caption = f"{phase}: residuals within 1 s, and the share of all records whose pick lies so near; dotted 0.1 and 0.5 s."
    return Picture(name=f"residuals_{phase.lower()}", caption=caption, width_in=9.5, height_in=4.2, draw=draw)


def _worst(place: int, name: str, cases: Sequence[Any]) -> Picture:
    """The records whose P is missed or farthest off: the vertical, labels and picks."""

    def draw(canvas: Figure) -> None:
        axes = canvas.subplots(-(-len(cases) // 2), 2, squeeze=False)
        for axis in axes.flat[len(cases) :]:
            axis.axis("off")
        for axis, (title, time, z, truth, picks) in zip(axes.flat, cases, strict=False):
            axis.plot(time, z, color=COLOURS[6], lw=0.6)
            for k, phase in enumerate(("P", "S")):
                if phase in truth:
                    axis.axvline(truth[phase], color=COLOURS[k], lw=2.2, alpha=0.45, label=f"{phase}, label")
                for j, (at, _) in enumerate(picks.get(phase, ())):
                    axis.axvline(at, color=COLOURS[k], lw=1.1, ls="--", label=f"{phase}, pick" if not j else None)
            axis.set_title(title, loc="left", fontsize=8, parse_math=False)
            axis.set_xlim(time[0], time[-1])
            axis.set_yticks([])
            axis.tick_params(labelsize=8)
        for axis in axes[-1]:
            axis.set_xlabel("time in the cut, s")
        shown = {text: line for axis in axes.flat for line, text in zip(*axis.get_legend_handles_labels(), strict=True)}
        canvas.legend(shown.values(), shown.keys(), loc="outside lower center", ncols=4)

    caption = f"{name}: the {len(cases)} records whose P is missed, or farthest from its label; vertical, each to its own scale."
    return Picture(name=f"worst_{place + 1}", caption=caption, width_in=10, height_in=1.0 + 1.25 * -(-len(cases) // 2), draw=draw)


# -- classes ----------------------------------------------------------------------------------------------------------------------


def classes_page(
    result: dict[str, Any], probabilities: Mapping[str, Tensor], truth: Tensor, every: list[str], who: Sequence[str]
) -> Report:
    """The report around the numbers."""
    counts = ", ".join(f"{count} {name}" for name, count in result["classes"].items() if count)
    asked: list[str | Table | Picture] = [
        f"{result['records']} records of {result['events']} events"
        + (f" on {result['days']} days" if result["days"] is not None else "")
        + f" by the column {result['label']}: {counts}. Split {result['split']} of {', '.join(result['data'])}.",
        left_out(result),
        "trivial/majority says the shares of the classes in these very records of every record, without looking.",
        f"Command: {result['command']}",
    ]
    short = {
        "accuracy": "accuracy", "balanced_accuracy": "balanced accuracy", "macro_f1": "mean F1", "auc": "AUC",
        "balanced_accuracy_by_event": "balanced accuracy by event", "auc_by_event": "AUC by event",
    }  # fmt: skip
    rows = [[name, *(number(told[n]) for n in short)] for name, told in result["systems"].items()]
    every_class = [Table(heads=["system", *short.values()], rows=rows, caption="All classes")]
    if result["differences"]:
        every_class.append(table(result["differences"], short, "Differences of pairs, the same events drawn for both"))
    one = [
        [name, c, str(v["records"]), *(number(v[m]) for m in ("precision", "recall", "f1", "auc"))]
        for name, told in result["systems"].items()
        for c, v in told["classes"].items()
    ]
    heads = ["system", "class", "records", "precision", "recall", "F1", "AUC"]
    note = (
        "Balanced accuracy: mean of the recalls, 1 over the number of classes by chance. AUC: chance that a record of the class is"
        " given a higher probability than another; of two classes that of the second, of more the mean. By event: each event"
        " counts once in each class, however many records it has. Brackets: 95 % interval when whole events are drawn again. "
        + NOTE
    )
    judged = {name: told for name, told in result["systems"].items() if not name.startswith("trivial/")}
    called = [_confusion(n, told, every) for n, told in result["systems"].items()]
    sections = [
        Section(heading="What was asked", parts=asked),
        Section(heading="Right and wrong", parts=[*every_class, Table(heads=heads, rows=one, caption="By class"), note]),
        Section(heading="Curves", parts=[_curves(result, probabilities, truth, every)]),
        Section(heading="Called what", parts=[*called, recall_table(judged), RECALL_NOTE]),
        Section(heading="Whether probabilities hold", parts=[held_table(judged), diagrams(judged), BELIEVED_NOTE]),
    ]
    if result["hours"] is not None:
        sections.insert(2, Section(heading="Hours of the day", parts=[_hours(result["hours"]), HOURS_NOTE]))
    worst = [_worst_calls(name, probabilities[name], truth, every, who) for name in judged]
    sections.append(Section(heading=f"The worst {WORST}", parts=[*worst]))
    return Report(result, f"detect, classes: {', '.join(result['systems'])}", sections)


def _hours(hours: Mapping[str, Any]) -> Picture:
    def draw(canvas: Figure) -> None:
        axis = canvas.subplots()
        for i, (name, counts) in enumerate(hours["counts"].items()):
            share = np.array(counts) / max(sum(counts), 1)
            axis.stairs(share, np.arange(25), color=COLOURS[i % len(COLOURS)], ls=STYLES[i % len(STYLES)], lw=1.6, label=name)
        axis.set_xlabel(f"hour of the day, {hours['of']}")
        axis.set_ylabel("share of the class")
        axis.set_xlim(0, 24)
        axis.set_xticks(range(0, 25, 3))
        canvas.legend(loc="outside lower center", ncols=4)

    caption = f"When the records of each class begin, {hours['of']}; {hours['records']} records with a time."
    return Picture(name="hours", caption=caption, width_in=7.5, height_in=3.8, draw=draw)


def _confusion(name: str, told: Mapping[str, Any], every: list[str]) -> Table:
    rows = [[truth, *(str(row[c]) for c in every)] for truth, row in told["confusion"].items()]
    return Table(heads=["is", *(f"called {c}" for c in every)], rows=rows, caption=name)


def _curves(result: Mapping[str, Any], probabilities: Mapping[str, Tensor], truth: Tensor, every: list[str]) -> Picture:
    there = sorted((c for c, n in result["classes"].items() if n), key=lambda c: -result["classes"][c])
    shown = sorted(there)[1:] if len(there) == 2 else there[:4]

    def draw(canvas: Figure) -> None:
        axes = canvas.subplots(1, len(shown), squeeze=False)[0]
        for axis, name in zip(axes, shown, strict=True):
            k = every.index(name)
            for i, (system, p) in enumerate(probabilities.items()):
                curve = roc(p[:, k], (truth == k).long())
                colour, style = COLOURS[i % len(COLOURS)], STYLES[i % len(STYLES)]
                axis.plot(curve.false_positive_rate, curve.true_positive_rate, color=colour, ls=style, label=system)
            axis.set_title(f"{name} against the others", loc="left", parse_math=False)
            axis.set_xlabel("others called so, share")
            axis.set_aspect("equal")
        axes[0].set_ylabel("called rightly, share")
        lines, texts = axes[0].get_legend_handles_labels()
        canvas.legend(lines, texts, loc="outside lower center", ncols=2)

    caption = "Receiver's operating characteristic: " + ", ".join(shown) + "."
    return Picture(
        name="roc", caption=caption, width_in=max(5.5, 3.4 * len(shown)), height_in=4.8 if len(shown) == 1 else 4.1, draw=draw
    )


def _worst_calls(name: str, probability: Tensor, truth: Tensor, every: list[str], who: Sequence[str]) -> Table:
    """Records whose true class is given least."""
    own = probability[range(len(truth)), truth]
    rows = []
    for i in own.argsort(stable=True)[:WORST].tolist():
        k = int(probability[i].argmax())
        rows.append([who[i], every[int(truth[i])], f"{float(own[i]):.3f}", every[k], f"{float(probability[i, k]):.3f}"])
    heads = ["record", "is", "probability", "called", "probability"]
    return Table(heads=heads, rows=rows, caption=f"{name}: records whose class is given the least probability")
