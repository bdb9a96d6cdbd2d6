"""The page of the question `compress`: tables, rate against distortion, best, median and worst trace."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from seislatent.evaluate.beside import NOTE
from seislatent.evaluate.compress_figures import beside, curve, examples, fits, utility_curves, worst
from seislatent.evaluate.report import Picture, Report, Section, Table
from seislatent.evaluate.tally import EXACT_DB

POSTER = (
    (16.1, 125.6, 82.3, 52.6), (4.56, 97.5, 35.2, 37.1), (2.75, 87.1, 22.5, 32.4), (2.11, 79.1, 17.2, 29.8),
    (1.83, 75.3, 14.1, 28.7), (1.66, 69.8, 12.3, 27.6), (1.57, 66.9, 11.2, 27.1), (1.51, 64.8, 10.5, 26.9),
)  # fmt: skip
"""Bhattacharjee and Bharadwaj, "Quantizing Quakes", levels 1 to 8: MSE and its deviation in 1e-3, MAE and its deviation in 1e-2."""


def page(result: dict[str, Any], named: Mapping[str, Any], tallies: Mapping[str, Any], records: Any) -> Report:
    """The report around the numbers of report.json."""
    systems = result["systems"]
    rates = Section(heading="Rate and distortion", parts=[curve(systems)])
    for name, told in systems.items():
        rates.parts += [_levels(name, told)]
        if "mse_window" in told["points"][0]:
            rates.parts.append(_windows(name, told, result["window_s"]))
    rates.parts.append(
        "SNR is 10 log10 of the record's energy (mean removed) over the error's. MSE and MAE are of records scaled to zero mean and"
        " unit variance, each channel by itself, at the codec's rate. Own rate: the decoded file against the record as it was, with"
        " all that lies above half the codec's rate. Brackets: 95 % interval of the mean when whole events are drawn again."
    )
    if result["differences"]:
        rates.parts += [_differences(result["differences"]), NOTE]
    sections = [Section(heading="What was asked", parts=_asked(result)), rates]
    lossy = {name: told for name, told in systems.items() if not exact(told)}
    level = {name: told["points"][(len(told["points"]) - 1) // 2]["level"] for name, told in lossy.items()}
    if lossy:
        sections.append(Section(heading="Goodness of fit", parts=[*fits(lossy, tallies, level), _goodness(lossy)]))
    if any("utility" in p for told in systems.values() for p in told["points"]):
        sections.append(Section(heading="What coding does to picks, peaks and spectra", parts=_utility(lossy)))
    others = Section(heading="By set of records, and indices by level", parts=[_sets(systems)])
    others.parts += [_books(name, told) for name, told in systems.items() if "codebooks" in told]
    sections.append(others)
    if codecs := {name: told for name, told in systems.items() if "codebooks" in told}:
        sections.append(_poster(codecs))
    if len(lossy) > 1:
        sections.append(Section(heading="The same trace", parts=[beside(lossy, named, tallies, level, records)]))
    shown = [examples(i, name, named[name], tallies[name], records) for i, name in enumerate(systems) if name in lossy]
    sections.append(Section(heading="Best, median and worst", parts=[*shown]))
    cases = Section(heading="The worst ten cases")
    for i, (name, told) in enumerate(systems.items()):
        if name in lossy:
            last = told["points"][-1]["level"]
            cases.parts += [worst(i, name, named[name], tallies[name], last, records), _worst(name, told, last)]
    sections.append(cases)
    return Report(result, f"{result['question']}: {', '.join(systems)}", sections)


def exact(told: Mapping[str, Any]) -> bool:
    """Whether every trace came back exactly."""
    return told["points"][-1]["snr_db"] is None


def _asked(result: dict[str, Any]) -> list[str | Table | Picture]:
    skipped = "; ".join(f"{count} ({reason})" for reason, count in result["skipped"].items()) or "none"
    sized = [f"{name} ({told['sized_as']})" for name, told in result["systems"].items() if told.get("sized_as")]
    beside = [f"Asked for files of the size of a codec's, level by level: {', '.join(sized)}."] if sized else []
    for name, told in result["systems"].items():
        if told["traces"] != result["traces"]:
            why = "; ".join(f"{count} ({reason})" for reason, count in told["skipped"].items())
            beside.append(f"{name} judged {told['traces']} traces of {told['records']} records; left out: {why or 'none'}.")
    return [
        f"{result['traces']} traces of {result['records']} records of {result['events']} events, {result['hours']:.2f} hours of one"
        f" channel; split {result['split']} of {', '.join(result['data'])}.",
        f"Traces left out: {skipped}.",
        *beside,
        f"Command: {result['command']}",
    ]


def _number(told: Mapping[str, Any] | None, form: str, spread: bool = False) -> str:
    if told is None:
        return "exact"
    text = format(told["mean"], form)
    text += f" ± {told['std']:{form}}" if spread else ""
    return text + (f" [{told['low']:{form}}, {told['high']:{form}}]" if told["low"] is not None else "")


def _differences(found: Sequence[Mapping[str, Any]]) -> Table:
    rows = []
    for pair in found:
        for point in pair["points"]:
            told = ["-" if point[m] is None else _number(point[m], "+.2f") for m in ("bits_per_sample", "snr_db", "eg", "pg")]
            rows.append([pair["system"], pair["than"], str(point["level"]), *told])
    heads = ["system", "less", "level", "file, bit/sample", "SNR, dB", "EG", "PG"]
    return Table(heads=heads, rows=rows, caption="Differences of pairs of coders on the same traces, level by level")


def _goodness(systems: Mapping[str, Any]) -> Table:
    rows = []
    for name, told in systems.items():
        for p in told["points"]:
            fit = ["-" if p[m] is None else _number(p[m], ".2f", True) for m in ("eg", "pg")]
            rows.append([name, str(p["level"]), f"{p['bits_per_sample']['mean']:.2f}", *fit])
    caption = (
        "Envelope and phase goodness of fit (Kristekova et al. 2009; 10 is a perfect fit, below 4 poor, below 6 fair, below 8"
        " good), each trace by itself, globally normalised, from 0.5 Hz, or five periods a record, to 0.45 of the codec's rate"
    )
    return Table(heads=["system", "level", "file, bit/sample", "EG", "PG"], rows=rows, caption=caption)


def _utility(systems: Mapping[str, Any]) -> list[str | Table | Picture]:
    parts: list[str | Table | Picture] = [utility_curves(systems)]
    for name, told in systems.items():
        shown = {p["level"]: p for p in (told["points"][k] for k in (0, (len(told["points"]) - 1) // 2, -1))}
        rows = []
        for measure in told["points"][0]["utility"]:
            found = [p["utility"][measure] for p in shown.values()]
            if any(f is not None for f in found):
                count = max(f["n"] for f in found if f is not None)
                rows.append([measure, str(count), *("-" if f is None else _number(f, ".3f") for f in found)])
        heads = [f"level {level}, {p['bits_per_sample']['mean']:.2f} bit/sample" for level, p in shown.items()]
        parts.append(Table(heads=["measure", "records", *heads], rows=rows, caption=f"{name}: mean over records"))
    parts.append(
        "Each decoded record against the original, both at the codec's rate. Shift: pick on the decoded record less that on the"
        " original, of records in which both are found; lost: share of original picks without one; kept: share that moved by"
        " 0.1 s at most. Ratios are decoded over original. Distances are between short-time spectra of 4 s, in bands."
    )
    return parts


def _worst(name: str, told: Mapping[str, Any], level: int) -> Table:
    rows = []
    for case in told["worst"]:
        snr = "exact" if case["snr_db"] >= EXACT_DB else f"{case['snr_db']:.2f}"
        rows.append([case["trace"], case["start"] or "-", case["event"], snr, f"{case['eg']:.2f}", f"{case['pg']:.2f}"])
    caption = f"{name}: the traces with the least SNR at level {level}"
    return Table(heads=["trace", "start", "event", "SNR, dB", "EG", "PG"], rows=rows, caption=caption)


def _levels(name: str, told: Mapping[str, Any]) -> Table:
    heads = ["level", "bit/sample", "in the file", "bit/s", "ratio", "MSE", "MAE", "SNR, dB", "own, dB"]
    bare = told.get("unquantised")
    rows = []
    for p in told["points"]:
        row = [str(p["level"]), f"{p['payload_bits_per_sample']['mean']:.2f}", f"{p['bits_per_sample']['mean']:.2f}"]
        row += [f"{p['file_bits_per_second']['mean']:.1f}", f"{p['file_compression_ratio']['mean']:.1f}"]
        row += [f"{p['mse']['mean']:.3g} ± {p['mse']['std']:.2g}", f"{p['mae']['mean']:.3g}"]
        own = p["snr_db_own_rate"]
        rows.append([*row, _number(p["snr_db"], ".2f", True), "exact" if own is None else f"{own['mean']:.2f}"])
    if bare:
        mse, mae = f"{bare['mse']['mean']:.3g} ± {bare['mse']['std']:.2g}", f"{bare['mae']['mean']:.3g}"
        rows.append(["no quantiser", *["-"] * 4, mse, mae, _number(bare["snr_db"], ".2f", True), "-"])
    return Table(heads=heads, rows=rows, caption=f"{name}: mean ± standard deviation over traces; bit/s and ratio of whole files")


def _windows(name: str, told: Mapping[str, Any], window_s: float) -> Table:
    rows = []
    for p in (p for p in told["points"] if "mse_window" in p):
        errors = [f"{p[f'{m}_window']['mean']:.3g} ± {p[f'{m}_window']['std']:.2g}" for m in ("mse", "mae")]
        rows.append([str(p["level"]), *errors, _number(p["snr_db_window"], ".2f", True)])
    caption = f"{name}: windows of {window_s:g} s, each scaled by itself"
    return Table(heads=["level", "MSE", "MAE", "SNR, dB"], rows=rows, caption=caption)


def _sets(systems: Mapping[str, Any]) -> Table:
    rows = []
    for name, told in systems.items():
        level = told["points"][-1]["level"]
        rows += [[s, name, str(level), str(v["traces"]), _number(v["snr_db"][-1], ".2f", True)] for s, v in told["sets"].items()]
    return Table(heads=["set", "system", "level", "traces", "SNR, dB"], rows=rows, caption="By set of records")


def _books(name: str, told: Mapping[str, Any]) -> Table:
    rows = [[str(b["book"]), f"{b['perplexity']:.0f}", f"{100 * b['used_share']:.1f} %"] for b in told["codebooks"]]
    frames = told["codebooks"][0]["frames"]
    caption = f"{name}: use of the indices in {frames} frames"
    return Table(heads=["level", "perplexity", "indices used"], rows=rows, caption=caption)


def _poster(systems: Mapping[str, Any]) -> Section:
    """The poster's columns, the least MSE that its MAE allows, and ours."""
    ours = {n: {p["level"]: p for p in told["points"]} for n, told in systems.items()}
    heads = ["level", "poster's MSE", "poster's MAE", "MSE at least", *(f"{n}: {m}" for n in ours for m in ("MSE", "MAE"))]
    rows = []
    for level, (mse, mse_std, mae, mae_std) in enumerate(POSTER, 1):
        if not any(level in points for points in ours.values()):
            continue
        row = [str(level), f"{mse / 1e3:.5f} ± {mse_std / 1e3:.4f}", f"{mae / 1e2:.3f} ± {mae_std / 1e2:.3f}"]
        row.append(f"{(mae / 1e2) ** 2 + (mae_std / 1e2) ** 2:.3f}")
        for points in ours.values():
            row += [f"{points[level][m]['mean']:.4f}" if level in points else "-" for m in ("mse", "mae")]
        rows.append(row)
    text = (
        "The poster judges its own test set, which is not public, and does not say how records were scaled. Its two columns cannot"
        " be on one scale: in every record the square of the MAE is at most the MSE, so the mean MSE is at least the mean of MAE"
        " squared, which is the square of the MAE's mean plus that of its deviation (fourth column). The poster's MSE is 55 to 59"
        " times less than that at every level: the two columns differ in scale by a factor of 7 or more."
    )
    table = Table(heads=heads, rows=rows, caption="The poster's table, and these records scaled to zero mean and unit variance")
    return Section(heading="Beside the poster", parts=[table, text])
