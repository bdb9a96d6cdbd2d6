"""The page of the question `compress`: tables, rate against distortion, best, median and worst trace."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from seislatent.evaluate.report import COLOURS, MARKERS, Picture, Report, Section, Table
from seislatent.evaluate.trial import at_rate, whole_frames
from seislatent.systems.codec import stream

POSTER = (
    (16.1, 125.6, 82.3, 52.6), (4.56, 97.5, 35.2, 37.1), (2.75, 87.1, 22.5, 32.4), (2.11, 79.1, 17.2, 29.8),
    (1.83, 75.3, 14.1, 28.7), (1.66, 69.8, 12.3, 27.6), (1.57, 66.9, 11.2, 27.1), (1.51, 64.8, 10.5, 26.9),
)  # fmt: skip
"""Bhattacharjee and Bharadwaj, "Quantizing Quakes", levels 1 to 8: MSE and its deviation in 1e-3, MAE and its deviation in 1e-2."""
LONGEST_S, DETAIL_S = 300.0, 8.0


def page(result: dict[str, Any], named: Mapping[str, Any], tallies: Mapping[str, Any], records: Any) -> Report:
    """The report around the numbers of report.json."""
    sections = [Section(heading="What was asked", parts=_asked(result))]
    curve = _curve(result["systems"])
    sections.append(Section(heading="Rate and distortion", parts=[curve]))
    for name, told in result["systems"].items():
        sections[1].parts += [_levels(name, told)]
        if "mse_window" in told["points"][0]:
            sections[1].parts.append(_windows(name, told, result["window_s"]))
    sections[1].parts.append(
        "SNR is 10 log10 of the record's energy (mean removed) over the error's. MSE and MAE are of records scaled to zero mean and"
        " unit variance, each channel by itself, at the codec's rate. Own rate: the decoded file against the record as it was, with"
        " all that lies above half the codec's rate. Brackets: 95 % interval of the mean when whole events are drawn again."
    )
    sections.append(Section(heading="By set of records, and indices by level", parts=[_sets(result["systems"])]))
    sections[2].parts += [_books(name, told) for name, told in result["systems"].items() if "codebooks" in told]
    sections.append(_poster(result["systems"]))
    examples = [_examples(i, name, named[name], tallies[name], records) for i, name in enumerate(result["systems"])]
    sections.append(Section(heading="Best, median and worst", parts=[*examples]))
    return Report(result, f"{result['question']}: {', '.join(result['systems'])}", sections)


def _asked(result: dict[str, Any]) -> list[str | Table | Picture]:
    skipped = "; ".join(f"{count} ({reason})" for reason, count in result["skipped"].items()) or "none"
    return [
        f"{result['traces']} traces of {result['records']} records of {result['events']} events, {result['hours']:.2f} hours of one"
        f" channel; split {result['split']} of {', '.join(result['data'])}.",
        f"Traces left out: {skipped}.",
        f"Command: {result['command']}",
    ]


def _number(told: Mapping[str, Any] | None, form: str, spread: bool = False) -> str:
    if told is None:
        return "-"
    text = format(told["mean"], form)
    text += f" ± {told['std']:{form}}" if spread else ""
    return text + (f" [{told['low']:.1f}, {told['high']:.1f}]" if told["low"] is not None else "")


def _levels(name: str, told: Mapping[str, Any]) -> Table:
    heads = ["level", "bit/s", "file, bit/s", "ratio", "MSE", "MAE", "SNR, dB", "own rate, dB"]
    bare = told.get("unquantised")
    rows = []
    for p in told["points"]:
        row = [str(p["level"]), f"{p['bits_per_second']['mean']:.0f}", f"{p['file_bits_per_second']['mean']:.1f}"]
        row += [f"{p['compression_ratio']['mean']:.1f}", f"{p['mse']['mean']:.3g} ± {p['mse']['std']:.2g}"]
        row += [f"{p['mae']['mean']:.3g} ± {p['mae']['std']:.2g}"]
        rows.append([*row, _number(p["snr_db"], ".2f", True), f"{p['snr_db_own_rate']['mean']:.2f}"])
    if bare:
        mse, mae = (f"{bare[m]['mean']:.3g} ± {bare[m]['std']:.2g}" for m in ("mse", "mae"))
        rows.append(["no quantiser", "-", "-", "-", mse, mae, _number(bare["snr_db"], ".2f", True), "-"])
    return Table(heads=heads, rows=rows, caption=f"{name}: mean ± standard deviation over traces")


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


def _curve(systems: Mapping[str, Any]) -> Picture:
    def draw(canvas: Figure) -> None:
        axes = canvas.subplots()
        for i, (name, told) in enumerate(systems.items()):
            colour, points = COLOURS[i % len(COLOURS)], told["points"]
            y = np.array([p["snr_db"]["mean"] for p in points])
            for key, style, what in (("bits_per_second", "-", "codes"), ("file_bits_per_second", ":", "whole file")):
                x = [p[key]["mean"] for p in points]
                axes.plot(x, y, style, marker=MARKERS[i % len(MARKERS)], ms=5, color=colour, label=f"{name}, {what}")
            if all(p["snr_db"]["low"] is not None for p in points):
                low, high = ([p["snr_db"][end] for p in points] for end in ("low", "high"))
                axes.fill_between([p["bits_per_second"]["mean"] for p in points], low, high, color=colour, alpha=0.15, lw=0)
            if "unquantised" in told:
                axes.axhline(told["unquantised"]["snr_db"]["mean"], color=colour, ls="--", lw=1, label=f"{name}, not quantised")
        axes.set_xlabel("rate per channel, bit/s")
        axes.set_ylabel("SNR at the codec's rate, dB (mean over traces)")
        axes.set_xlim(left=0)
        canvas.legend(loc="outside lower center", ncols=min(2, len(axes.get_legend_handles_labels()[0])))

    caption = "Rate and distortion: mean SNR over traces against the rate of the codes alone and of the whole file; 95 % by event."
    height = 4.6 + 0.3 * len(systems)
    return Picture(name="rate_distortion", caption=caption, width_in=8, height_in=height, draw=draw)


def _examples(place: int, name: str, model: Any, tally: Any, records: Any) -> Picture:
    """The traces with the highest, median and lowest SNR at the highest level."""
    snr = np.array([e[-1].snr_db for e in tally.codec])
    order = np.argsort(snr, kind="stable")
    chosen = {"best": order[-1], "median": order[len(order) // 2], "worst": order[0]}

    def draw(canvas: Figure) -> None:
        axes = canvas.subplots(len(chosen), 3, width_ratios=(2, 1.1, 1.1), squeeze=False)
        for row, (word, trace) in zip(axes, chosen.items(), strict=True):
            _example(row, word, float(snr[trace]), model, records[tally.trace_records[trace]].select([tally.trace_rows[trace]]))
        axes[0, 2].legend(loc="lower left", fontsize=8)
        for axis, label in zip(axes[-1], ("time, s", "time, s", "frequency, Hz"), strict=True):
            axis.set_xlabel(label)

    caption = (
        f"{name}: the traces with the best, median and worst SNR at its highest level. Left the first {LONGEST_S:g} s at most,"
        " middle a detail, right amplitude spectra; original, reconstruction and their difference."
    )
    return Picture(name=f"examples_{place + 1}", caption=caption, width_in=11, height_in=8, draw=draw)


def _example(row: NDArray[Any], word: str, snr_db: float, model: Any, waveform: Any) -> None:
    codes = stream.encode(model, waveform)
    rate = codes.head.sampling_rate_hz
    x = at_rate(waveform, rate)
    y = next(whole_frames(model, codes, codes.level))[: len(x)]
    shown = slice(0, min(len(x), round(LONGEST_S * rate)))
    t, unit = np.arange(len(x)) / rate, waveform.unit or "as recorded"
    size = min(len(x), round(DETAIL_S * rate))
    first = max(0, min(int(np.argmax(np.abs(x[shown] - x.mean()))) - size // 3, len(x) - size))
    part = slice(first, first + size)
    mean = x.mean()
    for axis, span in ((row[0], shown), (row[1], part)):
        axis.plot(t[span], x[span] - mean, color=COLOURS[6], lw=0.9)
        axis.plot(t[span], y[span] - mean, color=COLOURS[1], lw=0.7)
        axis.set_xlim(t[span][0], t[span][-1])
    row[0].set_ylabel(f"amplitude, {unit}")
    who = f"{waveform.ids[0]} {str(np.datetime64(waveform.start_ns, 'ns'))[:19]}" if waveform.start_ns else waveform.ids[0]
    row[0].set_title(f"{word}: {who}, {snr_db:.1f} dB", loc="left", fontsize=9, parse_math=False)
    window = np.hanning(len(x))
    frequency = np.fft.rfftfreq(len(x), 1 / rate)
    top = 0.0
    lines = (
        ("original", x - mean, COLOURS[6], 1.0), (f"level {codes.level}", y - mean, COLOURS[1], 0.8),
        ("difference", y - x, COLOURS[0], 0.8),
    )  # fmt: skip
    for label, data, colour, width in lines:
        middle, amplitude = _smooth(frequency, np.abs(np.fft.rfft(data * window)) / rate)
        row[2].loglog(middle, amplitude, color=colour, lw=width, label=label)
        top = max(top, float(amplitude.max(initial=0)))
    row[2].set_ylim(top * 1e-5, top * 2)
    row[2].set_ylabel(f"{unit} · s" if waveform.unit else "amplitude · s")


def _smooth(frequency: NDArray[Any], amplitude: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
    """Root mean square in bands of a twentieth of a decade, so that a spectrum can be read."""
    band = np.floor(20 * np.log10(frequency[1:])).astype(int)
    band -= band.min()
    count = np.bincount(band)
    with np.errstate(invalid="ignore", divide="ignore"):
        power, middle = np.bincount(band, amplitude[1:] ** 2) / count, np.bincount(band, frequency[1:]) / count
    kept = (count > 0) & (power > 0)
    return middle[kept], np.sqrt(power[kept])
