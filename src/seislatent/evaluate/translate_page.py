"""The page of the question `translate`: verdict, numbers, figures by period, with distance and against models, worst cases."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter
from numpy.typing import NDArray

from seislatent.evaluate.beside import table
from seislatent.evaluate.measured import Measured
from seislatent.evaluate.report import COLOURS, MARKERS, Picture, Report, Section, Table
from seislatent.evaluate.residuals import Against, distance_km, mean_of, spread

FIRST = {
    "eg": "EG, envelope fit, 0 to 10", "pg": "PG, phase fit, 0 to 10", "anderson": "Anderson, 0 to 10",
    "abs_ln_ratio_SA": "mean |ln ratio| of SA", "abs_ln_ratio_EAS": "mean |ln ratio| of EAS", "ln_ratio_PGA_g": "ln ratio of PGA",
    "ln_ratio_PGV_cm_s": "ln ratio of PGV", "ln_ratio_arias_cm_s": "ln ratio of Arias intensity",
    "ln_ratio_D5_95_s": "ln ratio of D5-95", "low_frequency_error": "low-frequency error, share of RMS",
    "low_frequency_error_below": "the same below half the corner", "low_frequency_snr_db": "low-frequency SNR, dB",
    "calibration_SA": "share within 16-84 % of draws (0.68), SA",
    "silent_share": "share of silent traces among draws",
    "correlation_periods_rms": "RMS gap of inter-period correlation", "correlation_frequencies_rms": "RMS gap, inter-frequency",
}  # fmt: skip
"""Metrics of the first table."""
SHOWN = (
    "PGA_g", "PGV_cm_s", "PGD_cm", "arias_cm_s", "CAV_cm_s", "D5_75_s", "D5_95_s", "SA(0.05)_g", "SA(0.1)_g", "SA(0.2)_g",
    "SA(0.5)_g", "SA(1.0)_g", "SA(2.0)_g", "SA(5.0)_g", "SA(10.0)_g",
)  # fmt: skip
"""Measures of the table; report.json holds all."""
DISTANCE_OF = ("PGA_g", "SA(0.3)_g", "SA(1.0)_g", "SA(3.0)_g")
REFERENCE_S = 1.0


def page(result: Mapping[str, Any], tallies: Mapping[str, Any], records: Any, against: Against) -> Report:
    """The report around the numbers of report.json."""
    systems = result["systems"]
    found = {name: Measured.joined(tally.parts) for name, tally in tallies.items()}
    sections = [
        Section(heading="What was asked", parts=_asked(result)),
        Section(heading="Verdict", parts=[verdicts(systems), *_limits(systems)]),
        Section(heading="Numbers", parts=[_numbers(result), *compared(result), NOTE, _fits(tallies, result["band_hz"])]),
        Section(heading="By measure", parts=[by_period(found, records.events), *(by_measure(n, t) for n, t in systems.items())]),
    ]
    if result["draws"] > 1:
        sections.append(Section(heading="Spread of the draws, correlation", parts=[calibration(systems), _correlation(systems)]))
    if against.ln_median is not None:
        sections.append(Section(heading="Against a ground-motion model", parts=_against(systems, found, records.events, against)))
    if np.isfinite(distance_km(records.table)).sum() >= 3:
        sections.append(Section(heading="With distance", parts=[_distances(found, records.table)]))
    sections.append(Section(heading="Worst cases", parts=[_worst(name, told) for name, told in systems.items()]))
    sections[-1].parts += [_example(i, name, tallies[name], records) for i, name in enumerate(systems)]
    return Report(result, f"translate: {', '.join(systems)}", sections)


NOTE = (
    "Each number is the mean over records of the mean over draws; brackets are the 95 % interval of that mean when whole events are"
    " drawn again. ln ratio is ln(draw / record): positive where draws are too large. SA is RotD50 at 5 % damping. The"
    " low-frequency error is the root mean square of the low-passed draw less the low-frequency side, over the latter's, without"
    " the ends; the record itself shows what the low-pass alone leaves. The"
    " share within draws is of periods up to that of the corner. Means count every record alike; the bias by measure, below, weighs"
    " events."
)


def compared(result: Mapping[str, Any]) -> list[Table]:
    """Pairs of systems; none where one alone is judged."""
    caption = "Differences of pairs of systems on the same records, with the same events drawn for both"
    return [table(result["differences"], FIRST, caption, "+.2f")] if result["differences"] else []


def _asked(result: Mapping[str, Any]) -> list[str | Table | Picture]:
    low, high = result["band_hz"]
    parts: list[str | Table | Picture] = [
        f"{result['records']} records of {result['events']} events, {result['draws']} draws of each (seed {result['seed']}); split"
        f" {result['split']} of {', '.join(result['data'])}. Fits from {low:.3g} to {high:.3g} Hz. Before integration:"
        f" {result['baseline_correction']}.",
    ]
    loose = result["records"] - result["records_in_si"]
    if loose:
        parts.append(
            f"{loose} records are in counts or tell no unit: of these only ratios are judged, and they are in no table of"
            " intensity measures."
        )
    model = result["ground_motion_model"]
    parts.append(
        f"Ground-motion model {model['model']}: {model['why_not'] or str(model['records']) + ' records'}."
        + (f" Assumed: {'; '.join(model['assumed'])}." if model["assumed"] else "")
    )
    parts += [f"{name}: {'; '.join(told['told'])}." for name, told in result["systems"].items() if told["told"]]
    if result["intensity_measures"]:
        parts.append(f"Intensity measures beside this page: {'; '.join(result['intensity_measures'])}.")
    if result["command"]:
        parts.append(f"Command: {result['command']}")
    return parts


def _limits(systems: Mapping[str, Any]) -> list[str | Table | Picture]:
    tables = [limits(name, told) for name, told in systems.items()]
    return [table for table, _ in tables] + [tables[0][1]]


def verdicts(systems: Mapping[str, Any]) -> Table:
    """A row per system."""
    rows = []
    for name, told in systems.items():
        verdict = told["verdict"]
        counts = [str(sum(j["outcome"] == o for j in verdict["judged"])) for o in ("passed", "open", "failed")]
        rows.append([name, verdict["outcome"], *counts, ", ".join(verdict["missing"]) or "none"])
    return Table(heads=["system", "verdict", "limits passed", "open", "failed", "not known"], rows=rows, caption="Verdict")


def limits(name: str, told: Mapping[str, Any]) -> list[str | Table | Picture]:
    """One row per limit, and where the limits are from; report.json holds every metric."""
    rows, sources = [], []
    groups: dict[tuple[Any, ...], list[Mapping[str, Any]]] = {}
    for one in told["verdict"]["judged"]:
        groups.setdefault((one["limit"], one["lowest"], one["highest"], one["source"]), []).append(one)
    for (pattern, lowest, highest, source), judged in groups.items():
        ends = f"{'' if lowest is None else format(lowest, 'g')} to {'' if highest is None else format(highest, 'g')}".strip()
        counts = [sum(j["outcome"] == o for j in judged) for o in ("passed", "open", "failed")]
        middle = (0.0 if lowest is None else lowest) / 2 + (0.0 if highest is None else highest) / 2
        far = max(judged, key=lambda j: abs(j["mean"] - middle) if None not in (lowest, highest) else 0.0)
        rows.append([pattern, ends, *map(str, counts), number(far) + (f" ({far['metric']})" if len(judged) > 1 else "")])
        sources.append(f"{pattern}: {source.strip()}")
    heads = ["limit on", "from", "passed", "open", "failed", "mean, farthest off"]
    return [Table(heads=heads, rows=rows, caption=f"{name}: limits"), " ".join(sources)]


def number(told: Mapping[str, Any] | None, form: str = ".3g") -> str:
    """A mean with its interval."""
    if told is None or told["mean"] is None or not math.isfinite(told["mean"]):
        return "-"
    text = format(told["mean"], form)
    return text + (f" [{told['low']:{form}}, {told['high']:{form}}]" if told.get("low") is not None else "")


def _numbers(result: Mapping[str, Any]) -> Table:
    systems = result["systems"]
    rows = []
    for metric, words in FIRST.items():
        if any(metric in told for told in systems.values()):
            rows.append([words, *(number(told.get(metric)) for told in systems.values()), number(result["floor"].get(metric))])
    return Table(heads=["", *systems, "the record itself"], rows=rows, caption="Means over records")


def by_measure(name: str, told: Mapping[str, Any]) -> Table:
    """Bias and spread of the main measures."""
    heads = ["measure", "bias", "its error", "sigma", "tau (events)", "phi", "inside 16-84 %", "slope, ln R"]
    keys = ("bias", "bias_error", "sigma", "tau", "phi", "inside", "slope_with_ln_distance")
    rows = [
        [row["measure"], *("-" if not math.isfinite(row[k]) else f"{row[k]:.2f}" for k in keys)]
        for row in told["by_measure"]
        if row["measure"] in SHOWN
    ]
    return Table(heads=heads, rows=rows, caption=f"{name}: ln(draw / record); slope with ln of distance")


def _worst(name: str, told: Mapping[str, Any]) -> Table:
    rows = [
        [w["record"], w["event"], f"{w['abs_ln_ratio_SA']:.2f}", f"{w['ln_ratio_PGA_g']:.2f}"]
        + [f"{w[k]:.1f}" for k in ("eg", "pg", "anderson") if k in w]
        for w in told["worst"]
    ]
    heads = ["record", "event", "mean |ln ratio| of SA", "ln ratio of PGA", "EG", "PG", "Anderson"]
    return Table(heads=heads, rows=rows, caption=f"{name}: the ten records farthest off")


# -- figures ----------------------------------------------------------------------------------------------------------------------


def by_period(found: Mapping[str, Measured], events: NDArray[Any]) -> Picture:
    """Bias of SA by period, of EAS by frequency, and of other measures."""

    def draw(canvas: Figure) -> None:
        axes = canvas.subplots(1, 3, width_ratios=[1.2, 1.2, 1])
        for i, (name, one) in enumerate(found.items()):
            made = spread(one.residuals, events)
            for panel, start in ((axes[0], "SA("), (axes[1], "EAS(")):
                places = [k for k, n in enumerate(one.names) if n.startswith(start)]
                x = [float(one.names[k][len(start) : one.names[k].index(")")]) for k in places]
                _band(panel, x, {key: value[places] for key, value in made.items()}, i, name)
            others = [k for k, n in enumerate(one.names) if not n.startswith(("SA(", "EAS("))]
            at = np.arange(len(others)) + 0.25 * (i - (len(found) - 1) / 2)
            axes[2].errorbar(
                made["bias"][others], at, xerr=made["sigma"][others], fmt=MARKERS[i % len(MARKERS)], color=_colour(i), ms=4, lw=1
            )
            axes[2].set_yticks(np.arange(len(others)), [one.names[k] for k in others])
        for panel, text in ((axes[0], "period, s"), (axes[1], "frequency, Hz")):
            panel.set(xscale="log", xlabel=text)
            panel.axhline(0, color="0.3", lw=0.8)
        axes[2].axvline(0, color="0.3", lw=0.8)
        axes[2].invert_yaxis()
        axes[0].set_ylabel("ln(draw / record)")
        axes[0].set_title("SA, RotD50", loc="left")
        axes[1].set_title("EAS", loc="left")
        axes[2].set_title("others, ± sigma", loc="left")
        axes[0].legend(loc="best")

    caption = "Bias over events (line), its standard error (dark band) and sigma of single draws (light band)."
    return Picture(name="bias", caption=caption, width_in=11, height_in=4, draw=draw)


def _band(panel: Axes, x: list[float], made: Mapping[str, NDArray[np.float64]], i: int, name: str) -> None:
    bias = made["bias"]
    panel.plot(x, bias, color=_colour(i), marker=MARKERS[i % len(MARKERS)], ms=3, label=name)
    for key, alpha in (("sigma", 0.10), ("bias_error", 0.3)):
        panel.fill_between(x, bias - made[key], bias + made[key], color=_colour(i), alpha=alpha, lw=0)


def _fits(tallies: Mapping[str, Any], band_hz: list[float]) -> Picture:
    def draw(canvas: Figure) -> None:
        axes = canvas.subplots(1, 4)
        edges = np.linspace(0, 10, 21)
        for i, (name, tally) in enumerate(tallies.items()):
            for panel, key in zip(axes[:3], ("eg", "pg", "anderson"), strict=True):
                panel.hist(tally.of(key), edges, histtype="step", color=_colour(i), label=name, lw=1.4)
            scores = [float(mean_of(tally.of(f"anderson_C{k}"), 0)) for k in range(1, 11)]
            axes[3].plot(range(1, 11), scores, color=_colour(i), marker=MARKERS[i % len(MARKERS)], ms=4, label=name)
        for panel, text in zip(axes[:3], ("EG", "PG", "Anderson"), strict=True):
            panel.set(xlabel=text, xlim=(0, 10))
            for limit in (4, 6, 8):
                panel.axvline(limit, color="0.6", lw=0.7, ls=":")
        axes[0].set_ylabel("records")
        axes[3].legend(loc="upper left", fontsize=8)
        axes[3].set(xlabel="Anderson's criterion C1 to C10", ylim=(0, 10), xticks=range(1, 11))

    caption = (
        f"Goodness of fit of draws against records, {band_hz[0]:.2g} to {band_hz[1]:.3g} Hz, mean over draws, components;"
        " dotted: poor, fair, good, excellent."
    )
    return Picture(name="fits", caption=caption, width_in=11, height_in=3, draw=draw)


def calibration(systems: Mapping[str, Any]) -> Picture:
    """Share of records within the 16-84 % band of their draws, by period."""

    def draw(canvas: Figure) -> None:
        panel = canvas.subplots()
        for i, (name, told) in enumerate(systems.items()):
            rows = [r for r in told["by_measure"] if r["measure"].startswith("SA(")]
            x = [float(r["measure"][3:-3]) for r in rows]
            panel.plot(x, [r["inside"] for r in rows], color=_colour(i), marker=MARKERS[i % len(MARKERS)], ms=4, label=name)
        panel.axhline(0.68, color="0.3", lw=0.9)
        panel.set(xscale="log", ylim=(0, 1), xlabel="period, s", ylabel="share of records inside")
        panel.legend(loc="best")

    caption = "Share of records whose SA lies within the 16-84 % band of its draws; 0.68 (line) where the spread is right."
    return Picture(name="calibration", caption=caption, width_in=6.5, height_in=3, draw=draw)


def _correlation(systems: Mapping[str, Any]) -> Picture:
    def draw(canvas: Figure) -> None:
        axes = canvas.subplots(1, 2)
        kinds = (("correlation_periods", "period, s"), ("correlation_frequencies", "frequency, Hz"))
        for panel, (key, text) in zip(axes, kinds, strict=True):
            drawn_published = False
            for i, (name, told) in enumerate(systems.items()):
                one = told["correlations"].get(key)
                if one is None:
                    continue
                places = np.array(one["places"])
                k = int(np.abs(np.log(places / REFERENCE_S)).argmin())
                if not drawn_published and (published := _published(key, places)) is not None:
                    panel.plot(places, published[k], color="0.2", ls="--", label=one["model"])
                    drawn_published = True
                panel.plot(places, np.array(one["found"])[k], color=_colour(i), marker=MARKERS[i % len(MARKERS)], ms=4, label=name)
                panel.set_title(f"with {places[k]:g}: {one['basis']}", loc="left", fontsize=8)
            panel.set(xscale="log", xlabel=text, ylabel="correlation", ylim=(-0.6, 1.05))
            panel.axhline(0, color="0.3", lw=0.8)
            panel.legend(loc="lower left", fontsize=8)

    caption = "Correlation of residuals with those at one period (left) and frequency (right), beside published models (dashed)."
    return Picture(name="correlation", caption=caption, width_in=10, height_in=3.6, draw=draw)


def _published(key: str, places: NDArray[np.float64]) -> NDArray[np.float64] | None:
    from seislatent.evaluate.correlations import between_frequencies, between_periods

    nothing = np.zeros((1, len(places)))
    made = (between_periods if key == "correlation_periods" else between_frequencies)(nothing, places.tolist(), "")
    return None if made.published is None else made.published.numpy()


def _against(
    systems: Mapping[str, Any], found: Mapping[str, Measured], events: NDArray[Any], against: Against
) -> list[str | Table | Picture]:
    """Bias, tau and phi of records and of draws against a ground-motion model."""
    first = next(iter(systems.values()))["against_model"]
    sets = {"records": first["record"]} | {name: told["against_model"]["draws"] for name, told in systems.items()}
    rows = []
    for measure in (m for m in SHOWN if m in first["measures"]):
        k = first["measures"].index(measure)
        for name, made in sets.items():
            values = (made[key][k] for key in ("bias", "bias_error", "tau", "phi"))
            rows.append([measure, name, *("-" if not math.isfinite(v) else f"{v:.2f}" for v in values)])
    heads = ["measure", "of", "bias", "its error", "tau (events)", "phi"]
    caption = f"ln(measured / median of {against.model}), {against.records} records"
    return [Table(heads=heads, rows=rows, caption=caption), _model(found, events, against)]


def _model(found: Mapping[str, Measured], events: NDArray[Any], against: Against) -> Picture:
    def draw(canvas: Figure) -> None:
        panels = canvas.subplots(1, 2)
        places = [k for k, n in enumerate(against.measures) if n.startswith("SA(")]
        x = [float(against.measures[k][3:-3]) for k in places]
        first = against.residuals(next(iter(found.values())))[..., places]
        sets = {"records": first[:, :1]} | {n: against.residuals(one)[..., places][:, 1:] for n, one in found.items()}
        for i, (name, residual) in enumerate(sets.items()):
            made = spread(np.ascontiguousarray(residual), events)
            colour = "0.2" if i == 0 else _colour(i - 1)
            panels[0].plot(
                x, made["bias"], color=colour, marker="o" if i == 0 else MARKERS[(i - 1) % len(MARKERS)], ms=3, label=name
            )
            for key, style in (("tau", "--"), ("phi", "-")):
                panels[1].plot(x, made[key], color=colour, ls=style, label=f"{name}, {key}")
        panels[0].axhline(0, color="0.3", lw=0.8)
        panels[0].set(xscale="log", xlabel="period, s", ylabel=f"mean ln(SA / {against.model})")
        panels[1].set(xscale="log", xlabel="period, s", ylabel="tau, phi, natural log", ylim=(0, None))
        panels[0].legend(fontsize=8)
        panels[1].legend(fontsize=8, loc="upper left", bbox_to_anchor=(1, 1))

    caption = f"Bias against {against.model} over events, and its spread between (tau) and within events (phi)."
    return Picture(name="model", caption=caption, width_in=11, height_in=3.6, draw=draw)


def _distances(found: Mapping[str, Measured], about: Any) -> Picture:
    distance = distance_km(about)

    def draw(canvas: Figure) -> None:
        shown = [n for n in DISTANCE_OF if all(n in one.names for one in found.values())]
        axes = np.atleast_1d(canvas.subplots(1, len(shown), sharey=True))
        for panel, measure in zip(axes, shown, strict=True):
            for i, (name, one) in enumerate(found.items()):
                residual = one.residuals[..., one.names.index(measure)].mean(1)
                panel.plot(distance, residual, MARKERS[i % len(MARKERS)], color=_colour(i), ms=3, alpha=0.6, label=name)
            panel.axhline(0, color="0.3", lw=0.8)
            panel.set(xscale="log", xlabel="distance, km", title=measure)
            panel.xaxis.set_major_locator(LogLocator(subs=(1.0, 3.0)))
            panel.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
            panel.xaxis.set_minor_formatter(NullFormatter())
        axes[0].set_ylabel("ln(draw / record)")
        axes[0].legend(fontsize=8)

    return Picture(name="distance", caption="Residuals, mean over draws, with distance.", width_in=11, height_in=3.2, draw=draw)


def _example(i: int, name: str, tally: Any, records: Any) -> Picture:
    rate = records.rate_hz
    order = sorted(tally.draws, key=lambda k: tally.draws[k][2])

    def draw(canvas: Figure) -> None:
        axes = canvas.subplots(len(order), 3, squeeze=False, width_ratios=[1.4, 1.4, 1])
        for row, k in zip(axes, order, strict=True):
            truth, made, away = tally.draws[k]
            time = np.arange(truth.shape[-1]) / rate
            top = max(float(np.abs(truth[1:]).max()), float(np.abs(made[1:]).max()), 1e-30)
            for panel, x, colour in ((row[0], truth, "0.2"), (row[1], made, _colour(i))):
                for c, part in enumerate("Z12"):
                    panel.plot(time, x[c] - 1.6 * top * c, color=colour, lw=0.5, rasterized=True)
                    panel.text(1.01 * time[-1], -1.6 * top * c, part, fontsize=8, va="center")
                panel.set(ylim=(-4.4 * top, 1.2 * top), yticks=[])
            word = "best" if k == order[0] and len(order) > 1 else "far off"
            trace = str(records.table["trace_name"].iloc[k]) if "trace_name" in records.table else str(k)
            row[0].set_title(f"{word}: {trace[:44]}", loc="left", fontsize=8)
            row[1].set_title(f"draw, mean |ln ratio| of SA {away:.2f}", loc="left", fontsize=8)
            f = np.fft.rfftfreq(truth.shape[-1], 1 / rate)
            for x, colour in ((truth, "0.2"), (made, _colour(i))):
                amplitude = np.sqrt((np.abs(np.fft.rfft(x[1:])) ** 2).mean(0)) / rate
                row[2].loglog(f[1:], amplitude[1:], color=colour, lw=0.6, rasterized=True)
            row[2].set_xlim(0.1, rate / 2)
        axes[-1, 0].set_xlabel("time, s (record)")
        axes[-1, 1].set_xlabel("time, s (first draw)")
        axes[-1, 2].set_xlabel("frequency, Hz (horizontals)")

    caption = f"{name}: the best record and the worst ones, with their first draw; waveforms and Fourier amplitudes."
    height = 1.9 * max(1, len(order)) + 0.4
    return Picture(
        name=f"examples_{name.replace('/', '_').replace(' ', '_')}", caption=caption, width_in=11, height_in=height, draw=draw
    )


def _colour(i: int) -> str:
    return COLOURS[i % len(COLOURS)]
