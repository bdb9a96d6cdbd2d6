"""The figures of the questions compress and reconstruct: curves, histograms, traces with their spectra, the worst cases."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from seislatent.evaluate.baselines import content
from seislatent.evaluate.report import COLOURS, MARKERS, Picture
from seislatent.evaluate.trial import at_rate, whole_frames
from seislatent.systems.codec import stream

LONGEST_S, DETAIL_S = 300.0, 8.0
Pair = tuple[NDArray[np.float64], NDArray[np.float64], float]


def curve(systems: Mapping[str, Any]) -> Picture:
    """Ratio against rate; coders that bring every sample back are upright lines, or stand in the legend alone."""

    def draw(canvas: Figure) -> None:
        axes = canvas.subplots()
        for i, (name, told) in enumerate(systems.items()):
            colour, points = COLOURS[i % len(COLOURS)], told["points"]
            if points[-1]["snr_db"] is None:
                rate = points[-1]["bits_per_sample"]["mean"]
                axes.axvline(rate, color=colour, ls="-.", lw=1, label=f"{name}, lossless at {rate:.2f} bit/sample")
                continue
            y = np.array([p["snr_db"]["mean"] for p in points])
            for key, style, what in (("bits_per_sample", "-", "whole file"), ("payload_bits_per_sample", ":", "payload")):
                x = [p[key]["mean"] for p in points]
                axes.plot(x, y, style, marker=MARKERS[i % len(MARKERS)], ms=5, color=colour, label=f"{name}, {what}")
            if all(p["snr_db"]["low"] is not None for p in points):
                low, high = ([p["snr_db"][end] for p in points] for end in ("low", "high"))
                axes.fill_between([p["bits_per_sample"]["mean"] for p in points], low, high, color=colour, alpha=0.15, lw=0)
            if "unquantised" in told:
                axes.axhline(told["unquantised"]["snr_db"]["mean"], color=colour, ls="--", lw=1, label=f"{name}, not quantised")
        lossy = [told["points"][-1] for told in systems.values() if told["points"][-1]["snr_db"] is not None]
        if lossy:  # a lossless coder far to the right would leave no room for curves
            axes.set_xlim(right=1.1 * max(p["bits_per_sample"]["mean"] for p in lossy))
        axes.set_xlabel("rate, bit per sample at the rate of coding")
        axes.set_ylabel("SNR at the rate of coding, dB (mean over traces)")
        axes.set_xlim(left=0)
        canvas.legend(loc="outside lower center", ncols=min(2, len(axes.get_legend_handles_labels()[0])))

    caption = "Mean SNR over traces against the rate of the whole file and of the payload alone; shaded: 95 % by event."
    height = 4.6 + 0.35 * len(systems)
    return Picture(name="rate_distortion", caption=caption, width_in=8, height_in=height, draw=draw)


def fits(systems: Mapping[str, Any], tallies: Mapping[str, Any], level: Mapping[str, int]) -> list[Picture]:
    """Histograms of the envelope and phase goodness of fit over traces, at one level of each system."""
    values = {name: [tallies[name].values(m, level[name]) for m in ("eg", "pg")] for name in systems}
    if not any(np.isfinite(v).any() for both in values.values() for v in both):
        return []

    def draw(canvas: Figure) -> None:
        panels = canvas.subplots(1, 2, sharey=True)
        edges = np.linspace(0, 10, 21)
        for k, (axis, what) in enumerate(zip(panels, ("envelope goodness of fit, EG", "phase goodness of fit, PG"), strict=True)):
            for limit in (4, 6, 8):
                axis.axvline(limit, color="0.6", lw=0.8, ls=":")
            for i, (name, told) in enumerate(systems.items()):
                here = values[name][k][np.isfinite(values[name][k])]
                rate = next(p for p in told["points"] if p["level"] == level[name])["bits_per_sample"]["mean"]
                share = np.histogram(here, edges)[0] / max(len(here), 1)
                label = f"{name}, level {level[name]}, {rate:.2f} bit/sample"
                axis.stairs(share, edges, color=COLOURS[i % len(COLOURS)], lw=1.6, label=label, fill=False)
            axis.set_xlabel(what)
            axis.set_xlim(0, 10)
        panels[0].set_ylabel("share of traces")
        canvas.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=1)

    caption = "Goodness of fit of traces at each system's middle level. Dotted: poor below 4, fair below 6, good below 8."
    return [Picture(name="goodness_of_fit", caption=caption, width_in=9, height_in=3.4 + 0.25 * len(systems), draw=draw)]


PANELS = (
    ("P picks kept within 0.1 s, share", ("sta_lta_p_kept", "aic_p_kept"), None),
    ("S picks kept within 0.1 s, share", ("sta_lta_s_kept", "aic_s_kept"), None),
    ("peak, decoded over original", ("PGA_ratio", "peak_ratio"), 1.0),
    ("SA, decoded over original", ("SA(0.1)_ratio", "SA(1.0)_ratio"), 1.0),
    ("log-spectral distance, dB", ("lsd_1_2_hz_db", "lsd_10_20_hz_db"), None),
)
"""Title, up to two measures (full and dotted), and the value of no change; of peaks the first measure that exists."""


def utility_curves(systems: Mapping[str, Any]) -> Picture:
    """What becomes of picks, peaks and spectra with the rate."""
    there = {n for told in systems.values() for p in told["points"] for n, v in p.get("utility", {}).items() if v is not None}
    panels = [(title, [n for n in names if n in there], best) for title, names, best in PANELS]
    panels = [(title, names[:1] if "peak" in title else names, best) for title, names, best in panels if names]

    def draw(canvas: Figure) -> None:
        rows = -(-len(panels) // 2) or 1
        axes = canvas.subplots(rows, 2, squeeze=False).ravel()
        for axis, (title, names, best) in zip(axes, panels, strict=False):
            for i, (name, told) in enumerate(systems.items()):
                for k, measure in enumerate(names):
                    found = [(p["bits_per_sample"]["mean"], p.get("utility", {}).get(measure)) for p in told["points"]]
                    kept = [(x, v) for x, v in found if v is not None]
                    x, y = [x for x, _ in kept], [v["mean"] for _, v in kept]
                    look = dict(color=COLOURS[i % len(COLOURS)], ls="-:"[k], marker=MARKERS[i % len(MARKERS)], ms=4)
                    axis.plot(x, y, label=name if k == 0 else None, **look)
                    if k == 0 and kept and all(v["low"] is not None for _, v in kept):
                        axis.fill_between(x, [v["low"] for _, v in kept], [v["high"] for _, v in kept], color=look["color"],
                                          alpha=0.15, lw=0)  # fmt: skip
            if best is not None:
                axis.axhline(best, color="0.5", lw=0.8)
            styles = [f"{n} ({'full' if k == 0 else 'dotted'})" for k, n in enumerate(names)]
            axis.set_title(f"{title}\n{', '.join(styles)}", fontsize=9, loc="left")
            axis.set_xlabel("file, bit per sample")
            axis.set_xlim(left=0)
        for axis in axes[len(panels) :]:
            axis.set_axis_off()
        if panels:
            canvas.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=min(3, len(systems)))

    caption = "What coding does to picks, peak and spectral motion, and spectra, mean over records; shaded: 95 % by event."
    height = 3.0 * max(1, -(-len(panels) // 2)) + 0.6
    return Picture(name="utility", caption=caption, width_in=10, height_in=height, draw=draw)


# -- traces -----------------------------------------------------------------------------------------------------------------------


def decoded(model: Any, tally: Any, records: Any, at: int, level: int) -> Pair:
    """A trace of a tally again: original and decoded samples [time], their mean not removed, and the rate."""
    place = tally.trace_records[at]
    record, row = records[place], tally.trace_rows[at]
    if hasattr(model, "system"):
        waveform = replace(record.select([row]), metadata={})
        codes = stream.encode(model, [waveform])
        rate = codes.head.sampling_rate_hz
        x = at_rate(waveform, rate)
        return x, next(whole_frames(model, codes, level))[: len(x)], rate
    k = tally.file_records.index(place)
    rate, rows = tally.rates_hz[k], [r for i, r in zip(tally.trace_records, tally.trace_rows, strict=True) if i == place]
    given = [content(model, replace(record.select([r]), metadata={}), rate) for r in rows]
    channels = tuple(g.channels[0] for g in given)
    together = replace(given[0], data=np.concatenate([g.data for g in given]), channels=channels)
    back = model.decode(model.encode(together, **tally.asked[k][level - 1])).data
    found = rows.index(row)
    return together.data[found].astype(np.float64), back[found].astype(np.float64), rate


def examples(place: int, name: str, model: Any, tally: Any, records: Any) -> Picture:
    """The traces with the highest, median and lowest SNR at the highest level."""
    level = len(tally.points[0])
    snr = tally.values("snr_db", level)
    order = np.argsort(snr, kind="stable")
    chosen = {"best": order[-1], "median": order[len(order) // 2], "worst": order[0]}

    def draw(canvas: Figure) -> None:
        axes = canvas.subplots(len(chosen), 3, width_ratios=(2, 1.1, 1.1), squeeze=False)
        for row, (word, at) in zip(axes, chosen.items(), strict=True):
            record = records[tally.trace_records[at]]
            title = f"{word}: {_who(record, tally.trace_rows[at])}, {snr[at]:.1f} dB"
            _example(row, title, decoded(model, tally, records, at, level), f"level {level}", record.unit)
        _finish(axes)

    caption = (
        f"{name}: the traces with the best, median and worst SNR at its highest level. Left the first {LONGEST_S:g} s at most,"
        " middle a detail, right amplitude spectra; original, reconstruction and their difference."
    )
    return Picture(name=f"examples_{place + 1}", caption=caption, width_in=11, height_in=8, draw=draw)


def beside(
    systems: Mapping[str, Any], named: Mapping[str, Any], tallies: Mapping[str, Any], level: Mapping[str, int], records: Any
) -> Picture:
    """One trace through all systems: the first one's median among those that all have taken."""
    keys = {name: list(zip(tallies[name].trace_records, tallies[name].trace_rows, strict=True)) for name in systems}
    common = set.intersection(*map(set, keys.values()))
    first = next(iter(systems))
    snr = tallies[first].values("snr_db", level[first])
    order = [at for at in np.argsort(snr, kind="stable").tolist() if keys[first][at] in common]

    def draw(canvas: Figure) -> None:
        axes = canvas.subplots(len(systems), 3, width_ratios=(2, 1.1, 1.1), squeeze=False)
        for row, name in zip(axes, systems, strict=True):
            if not order:
                continue
            at = keys[name].index(keys[first][order[len(order) // 2]])
            tally, k = tallies[name], level[name]
            size = 8 * tally.file_bytes[tally.file_records.index(tally.trace_records[at])][k - 1]
            length = tally.durations_s[tally.file_records.index(tally.trace_records[at])]
            rate = size / length / tally.rates_hz[tally.file_records.index(tally.trace_records[at])]
            record = records[tally.trace_records[at]]
            title = f"{name}, {rate:.2f} bit/sample, {tally.values('snr_db', k)[at]:.1f} dB: {_who(record, tally.trace_rows[at])}"
            _example(row, title, decoded(named[name], tally, records, at, k), f"level {k}", record.unit)
        _finish(axes)

    caption = (
        f"The trace that is the median of {first} at its middle level, through every system at its own. Left the first"
        f" {LONGEST_S:g} s at most, middle a detail, right amplitude spectra; original, reconstruction and their difference."
    )
    return Picture(name="same_trace", caption=caption, width_in=11, height_in=2.6 * len(systems) + 0.4, draw=draw)


def worst(place: int, name: str, model: Any, tally: Any, level: int, records: Any) -> Picture:
    """The ten traces with the least SNR at a level."""
    chosen = tally.worst(level)

    def draw(canvas: Figure) -> None:
        axes = canvas.subplots(-(-len(chosen) // 2), 2, squeeze=False).ravel()
        for axis, at in zip(axes, chosen, strict=False):
            x, y, rate = decoded(model, tally, records, at, level)
            shown = slice(0, min(len(x), round(LONGEST_S * rate)))
            t, mean = np.arange(len(x)) / rate, x.mean()
            axis.plot(t[shown], x[shown] - mean, color=COLOURS[6], lw=0.9, label="original")
            axis.plot(t[shown], y[shown] - mean, color=COLOURS[1], lw=0.6, label=f"level {level}")
            axis.set_xlim(t[shown][0], t[shown][-1])
            point = tally.points[at][level - 1]
            title = f"{_who(records[tally.trace_records[at]], tally.trace_rows[at])}: {point.codec.snr_db:.1f} dB"
            axis.set_title(title, loc="left", fontsize=8, parse_math=False)
            axis.ticklabel_format(axis="y", scilimits=(-3, 4))
        for axis in axes[len(chosen) :]:
            axis.set_axis_off()
        axes[0].legend(loc="upper right", fontsize=7)
        for axis in axes[max(0, len(chosen) - 2) : len(chosen)]:
            axis.set_xlabel("time, s")

    caption = f"{name}: the ten traces with the least SNR at level {level}, from the worst on; original and reconstruction."
    return Picture(name=f"worst_{place + 1}", caption=caption, width_in=11, height_in=1.5 * -(-len(chosen) // 2) + 0.8, draw=draw)


def _who(record: Any, row: int) -> str:
    start = f" {str(np.datetime64(record.start_ns, 'ns'))[:19]}" if record.start_ns else ""
    return f"{record.ids[row]}{start}"


def _finish(axes: NDArray[Any]) -> None:
    if axes[0, 2].lines:
        axes[0, 2].legend(loc="lower left", fontsize=8)
    for axis, label in zip(axes[-1], ("time, s", "time, s", "frequency, Hz"), strict=True):
        axis.set_xlabel(label)


def _example(row: NDArray[Any], title: str, pair: Pair, what: str, told: str | None) -> None:
    x, y, rate = pair
    shown = slice(0, min(len(x), round(LONGEST_S * rate)))
    t, unit = np.arange(len(x)) / rate, told or "as recorded"
    size = min(len(x), round(DETAIL_S * rate))
    first = max(0, min(int(np.argmax(np.abs(x[shown] - x.mean()))) - size // 3, len(x) - size))
    part = slice(first, first + size)
    mean = x.mean()
    for axis, span in ((row[0], shown), (row[1], part)):
        axis.plot(t[span], x[span] - mean, color=COLOURS[6], lw=0.9)
        axis.plot(t[span], y[span] - mean, color=COLOURS[1], lw=0.7)
        axis.set_xlim(t[span][0], t[span][-1])
    row[0].set_ylabel(f"amplitude, {unit}")
    row[0].set_title(title, loc="left", fontsize=9, parse_math=False)
    window = np.hanning(len(x))
    frequency = np.fft.rfftfreq(len(x), 1 / rate)
    top = 0.0
    lines = (
        ("original", x - mean, COLOURS[6], 1.0), (what, y - mean, COLOURS[1], 0.8),
        ("difference", y - x, COLOURS[0], 0.8),
    )  # fmt: skip
    for label, data, colour, width in lines:
        middle, amplitude = _smooth(frequency, np.abs(np.fft.rfft(data * window)) / rate)
        row[2].loglog(middle, amplitude, color=colour, lw=width, label=label)
        top = max(top, float(amplitude.max(initial=0)))
    row[2].set_ylim(top * 1e-5, top * 2)
    row[2].set_ylabel(f"{unit} · s" if told else "amplitude · s")


def _smooth(frequency: NDArray[Any], amplitude: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
    """Root mean square in bands of a twentieth of a decade, so that a spectrum can be read."""
    band = np.floor(20 * np.log10(frequency[1:])).astype(int)
    band -= band.min()
    count = np.bincount(band)
    with np.errstate(invalid="ignore", divide="ignore"):
        power, middle = np.bincount(band, amplitude[1:] ** 2) / count, np.bincount(band, frequency[1:]) / count
    kept = (count > 0) & (power > 0)
    return middle[kept], np.sqrt(power[kept])
