"""The page of the question `generate`: distances beside their floors, spectra, residuals, spread, copies, examples."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from torch import Tensor

from seislatent.evaluate.generated import RealRecords
from seislatent.evaluate.report import COLOURS, MARKERS, Picture, Report, Section, Table
from seislatent.evaluate.translate_page import by_measure, by_period, calibration, compared, number

ROWS = {
    "frechet_Z": "Fréchet distance of log spectra, Z", "frechet_H1": "H1", "frechet_H2": "H2",
    "frechet_floor_Z": "its floor, real against real, Z", "frechet_floor_H1": "H1", "frechet_floor_H2": "H2",
    "frechet_ratio_Z": "over the floor (1), Z", "frechet_ratio_H1": "H1", "frechet_ratio_H2": "H2",
    "frechet_features": "Fréchet distance of features", "frechet_floor_features": "its floor",
    "mmd_squared": "MMD^2 of log spectra", "mmd_p": "its p-value", "coverage": "coverage", "coverage_expected": "coverage expected",
    "density": "density (1)", "diversity_ratio": "distance among draws over that among records (1)",
    "diversity_of_draws": "distance among draws of one condition", "calibration_SA": "share within 16-84 % of draws (0.68), SA",
    "ln_ratio_PGA_g": "ln ratio of PGA", "ln_ratio_PGV_cm_s": "ln ratio of PGV", "abs_ln_ratio_SA": "mean |ln ratio| of SA",
    "ln_ratio_D5_95_s": "ln ratio of D5-95", "coherence_Z_H1": "coherence Z-H1", "coherence_Z_H2": "coherence Z-H2",
    "coherence_H1_H2": "coherence H1-H2", "memorisation_nearer": "nearer to training than held-out ones (0.5)",
    "memorisation_p": "its p-value", "training_distance": "distance to the nearest training record",
}  # fmt: skip
"""Metrics of the table; what is to be expected in brackets."""
NOTE = (
    "Sets are compared by one draw for each record; distances of halves of equal size stand beside those of real halves without a"
    " common event. Coverage, density, MMD and distances among draws are of log spectra of all components, each band divided by the"
    " deviation of the real records. ln ratio is ln(draw / record) for the record's conditions. Brackets: 95 % interval of the"
    " mean when whole events are drawn again; numbers of whole sets have none."
)


def page(result: Mapping[str, Any], made: Mapping[str, Tensor], real: RealRecords, kept: Mapping[str, Any]) -> Report:
    """The report around the numbers of report.json."""
    systems = result["systems"]
    sections = [
        Section(heading="What was asked", parts=_asked(result)),
        Section(heading="Numbers", parts=[_numbers(result), *compared(result), NOTE]),
        Section(heading="Spectra", parts=[_spectra(kept, result["bands_hz"]), _distances(systems)]),
    ]
    found = {name: one["measured"] for name, one in kept.items() if one["measured"] is not None}
    if found:
        parts: list[str | Table | Picture] = [by_period(found, real.events), calibration(systems)]
        parts += [by_measure(name, told) for name, told in systems.items()]
        sections.append(Section(heading="Intensity measures for the same conditions", parts=parts))
    if any("memory" in one for one in kept.values()):
        sections.append(Section(heading="Copies of training records", parts=[_memory(kept)]))
    sections.append(Section(heading="Examples", parts=[_examples(made, real)]))
    return Report(result, f"generate: {', '.join(systems)}", sections)


def _asked(result: Mapping[str, Any]) -> list[str | Table | Picture]:
    length = result["samples"] / result["sampling_rate_hz"]
    skipped = "; ".join(f"{count} ({reason})" for reason, count in result["skipped"].items()) or "none"
    levels = "In SI units." if result["physical"] else "Each record and draw is divided by its own peak: levels are not judged."
    copies = f"{result['training_records']} training records" if result["training_records"] else "not asked: no training records"
    parts: list[str | Table | Picture] = [
        f"{result['records']} records of {result['events']} events, {length:g} s at {result['sampling_rate_hz']:g} Hz,"
        f" {result['quantity'] or 'quantity not known: no intensity measures'}; {result['draws']} draws for each (seed"
        f" {result['seed']}); split {result['split']} of {', '.join(result['data'])}. Left out: {skipped}. {levels}"
        f" Copies: {copies}."
    ]
    parts += [f"{name}: {'; '.join(told['told'])}." for name, told in result["systems"].items() if told["told"]]
    if result["command"]:
        parts.append(f"Command: {result['command']}")
    return parts


def _numbers(result: Mapping[str, Any]) -> Table:
    systems = result["systems"]
    rows = []
    for metric, words in ROWS.items():
        if any(metric in told for told in systems.values()):
            rows.append([words, *(number(told.get(metric)) for told in systems.values()), number(result["real"].get(metric))])
    return Table(heads=["", *systems, "real records"], rows=rows, caption="Draws against real records")


def _spectra(kept: Mapping[str, Any], bands_hz: Any) -> Picture:
    centres = [float(np.sqrt(low * high)) for low, high in bands_hz]

    def draw(canvas: Figure) -> None:
        axes = canvas.subplots(1, 3, sharey=True)
        sets = {"real": next(iter(kept.values()))["real_spectra"]} | {n: one["spectra"].flatten(0, 1) for n, one in kept.items()}
        for c, (panel, component) in enumerate(zip(axes, ("Z", "H1", "H2"), strict=True)):
            for i, (name, values) in enumerate(sets.items()):
                colour = "0.2" if i == 0 else COLOURS[(i - 1) % len(COLOURS)]
                middle, spread = values[:, c].mean(0).numpy(), values[:, c].std(0).numpy()
                panel.plot(
                    centres, middle, color=colour, marker="o" if i == 0 else MARKERS[(i - 1) % len(MARKERS)], ms=3, label=name
                )
                panel.fill_between(centres, middle - spread, middle + spread, color=colour, alpha=0.15, lw=0)
            panel.set(xscale="log", xlabel="frequency, Hz", title=component)
        axes[0].set_ylabel("ln Fourier amplitude")
        axes[0].legend(fontsize=8)

    caption = "Mean and standard deviation over records of the logarithm of Fourier amplitude in bands."
    return Picture(name="spectra", caption=caption, width_in=11, height_in=3.4, draw=draw)


def _distances(systems: Mapping[str, Any]) -> Picture:
    def draw(canvas: Figure) -> None:
        panel = canvas.subplots()
        for i, (name, told) in enumerate(systems.items()):
            for key, shift, colour, label in (
                ("frechet", 0.0, COLOURS[i % len(COLOURS)], name),
                ("frechet_floor", 0.12, "0.3", "real against real" if i == 0 else None),
            ):
                values = [told[f"{key}_{c}"] for c in ("Z", "H1", "H2")]
                at = np.arange(3) + 0.2 * i + shift
                panel.errorbar(
                    at, [v["mean"] for v in values], [v["std"] for v in values], fmt=MARKERS[i % len(MARKERS)], color=colour, ms=5,
                    label=label,
                )  # fmt: skip
        panel.set_xticks(range(3), ["Z", "H1", "H2"])
        panel.set(ylim=(0, None), ylabel="squared Fréchet distance", xlim=(-0.5, 4))
        panel.legend(loc="upper right", fontsize=8)

    caption = "Fréchet distance of log spectra, draws against real records and real against real, over 20 random halves by event."
    return Picture(name="frechet", caption=caption, width_in=6, height_in=3.2, draw=draw)


def _memory(kept: Mapping[str, Any]) -> Picture:
    def draw(canvas: Figure) -> None:
        panel = canvas.subplots()
        edges = np.linspace(0, 1, 41).tolist()
        for i, (name, one) in enumerate((n, o) for n, o in kept.items() if "memory" in o):
            if i == 0:
                panel.hist(one["memory"].held_out.numpy(), edges, histtype="step", color="0.2", label="held-out records", lw=1.4)
            panel.hist(one["memory"].generated.numpy(), edges, histtype="step", color=COLOURS[i % len(COLOURS)], label=name, lw=1.4)
        panel.set(xlabel="distance to the nearest training record (0: a copy)", ylabel="records")
        panel.legend(loc="upper left", fontsize=8)

    caption = "Distance after the best shift and scale to the nearest training record, of first draws and of held-out records."
    return Picture(name="memorisation", caption=caption, width_in=6.5, height_in=3, draw=draw)


def _examples(made: Mapping[str, Tensor], real: RealRecords) -> Picture:
    rows = np.linspace(0, len(real.x) - 1, min(4, len(real.x))).round().astype(int)

    def draw(canvas: Figure) -> None:
        axes = canvas.subplots(len(rows), 1 + len(made), squeeze=False)
        time = np.arange(real.x.shape[-1]) / real.rate_hz
        for row, k in zip(axes, rows, strict=True):
            sets = [("real", real.x[k], "0.2")] + [(n, x[k, 0], COLOURS[i % len(COLOURS)]) for i, (n, x) in enumerate(made.items())]
            for panel, (name, x, colour) in zip(row, sets, strict=True):
                x = x.numpy() / np.abs(x.numpy()).max()
                for c, part in enumerate(("Z", "H1", "H2")):
                    panel.plot(time, x[c] - 1.8 * c, color=colour, lw=0.4, rasterized=True)
                    panel.text(time[-1] * 1.01, -1.8 * c, part, fontsize=8, va="center")
                panel.set(yticks=[], ylim=(-4.8, 1.2))
                panel.set_title(f"{real.names[k][:40]}" if name == "real" else f"{name}, first draw", loc="left", fontsize=8)
        for panel in axes[-1]:
            panel.set_xlabel("time, s")

    caption = "Four real records and the first draw for the same conditions, each divided by its peak."
    return Picture(name="examples", caption=caption, width_in=11, height_in=1.7 * len(rows) + 0.4, draw=draw)
