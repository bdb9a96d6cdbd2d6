"""The page of the question `disentangle`: tables, leaks, maps, latents against N(0, I), swaps."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from seislatent.evaluate.detect_page import left_out, number
from seislatent.evaluate.maps import map_picture, principal_components
from seislatent.evaluate.report import COLOURS, Picture, Report, Section, Table

SHOWN = 5000
"""Codes in a map."""


def page(result: dict[str, Any], judged: Mapping[str, Any], groups: Any) -> Report:
    """The report around the numbers."""
    systems = result["systems"]
    asked: list[str | Table | Picture] = [
        f"{result['records']} records of {result['states']} states ({result['state']}), {result['events']} events, in"
        f" {result['groups']} groups; nuisance: {result['nuisance']}. {result['samples']} samples at"
        f" {result['sampling_rate_hz']:g} Hz, each over its standard deviation. Split {result['split']} of"
        f" {', '.join(result['data'])}.",
        left_out(result),
        f"Command: {result['command']}",
    ]
    parts: list[str | Table | Picture] = [_known(systems)]
    parts += [t for t in (_leaks(systems),) if t.rows]
    parts.append(
        "Invariance: variance of the code within a state, over all of it; 0 is invariant, 1 knows no state. Retrieval: the nearest"
        " code is of the same state (and, of records, of another nuisance where that is a name). Leak: how well a probe reads the"
        " nuisance from the code of a record alone, on states that it has not seen; R² for numbers, balanced accuracy for names,"
        " trivial for a code that says nothing. Brackets: 95 % interval when whole events are drawn again;"
        " of invariance, when states are left out."
    )
    if any(told["leak"] for told in systems.values()):
        parts.append(_leak_picture(systems))
    sections = [Section(heading="What was asked", parts=asked), Section(heading="What the code knows", parts=parts)]
    swapped = {name: one for name, one in judged.items() if one.swaps is not None}
    if swapped:
        shown = [_swap_picture(i, name, one, groups) for i, (name, one) in enumerate(swapped.items())]
        sections.append(Section(heading="Swaps", parts=[_swaps(systems), *shown]))
    normal = {name: one for name, one in judged.items() if one.normality is not None}
    if normal:
        sections.append(Section(heading="Latents against N(0, I)", parts=[_normal(systems), _normal_picture(normal)]))
    maps = [_map(i, name, one, groups, result["state"]) for i, (name, one) in enumerate(judged.items()) if one.codes.shape[1] > 1]
    sections.append(Section(heading="Maps", parts=[*maps]))
    return Report(result, f"disentangle: {', '.join(systems)}", sections)


def _known(systems: Mapping[str, Any]) -> Table:
    rows = []
    for name, told in systems.items():
        found = told["retrieval"] or {"correct": None, "chance": None}
        chance = "-" if found["chance"] is None else f"{found['chance']['mean']:.2f}"
        of = f"{told['codes']} {told['codes_of']}"
        rows.append([name, of, str(told["latents"]), number(told["invariance"]), number(found["correct"], ".2f"), chance])
    heads = ["system", "codes of", "latents", "invariance", "retrieval", "by chance"]
    return Table(heads=heads, rows=rows, caption="What the code knows of the state")


def _leaks(systems: Mapping[str, Any]) -> Table:
    rows = []
    for name, told in systems.items():
        every = {**told["leak"], "state, in nuisance": told.get("state_in_nuisance")}
        for column, v in every.items():
            if v is not None:
                measure = "R²" if v["measure"] == "r2" else "accuracy"
                rows.append([name, column, measure, number(v["linear"], ".2f"), number(v["nearest"], ".2f"), f"{v['trivial']:.2f}"])
    return Table(heads=["system", "read", "as", "linear probe", "nearest codes", "trivial"], rows=rows, caption="Leaks")


def _leak_picture(systems: Mapping[str, Any]) -> Picture:
    columns = [c for c in dict.fromkeys(c for told in systems.values() for c in told["leak"]) if _some(systems, c)]

    def draw(canvas: Figure) -> None:
        axes = canvas.subplots(1, len(columns), squeeze=False)[0]
        for axis, column in zip(axes, columns, strict=True):
            for i, told in enumerate(systems.values()):
                v = told["leak"].get(column)
                if v is None:
                    continue
                for k, probe in enumerate(("linear", "nearest")):
                    x, y = i + 0.3 * (k - 0.5), v[probe]["mean"]
                    axis.bar(x, max(y, 0), 0.28, color=COLOURS[k], label=None if i else f"{probe} probe")
                    if v[probe]["low"] is not None:
                        ends = [[max(y - v[probe]["low"], 0)], [max(v[probe]["high"] - y, 0)]]
                        axis.errorbar(x, y, ends, color=COLOURS[6], lw=0.9, capsize=2)
                axis.plot([i - 0.4, i + 0.4], [max(v["trivial"], 0)] * 2, color=COLOURS[7], lw=1.5, label=None if i else "trivial")
            axis.set_xticks(range(len(systems)), [name.replace("/", "/\n").replace("_", " ") for name in systems], fontsize=8)
            axis.set_ylim(0, 1.05)
            measure = next(v["measure"] for told in systems.values() if (v := told["leak"].get(column)))
            axis.set_ylabel("R² (below 0 drawn as 0)" if measure == "r2" else "balanced accuracy")
            axis.set_title(column, loc="left", parse_math=False)
        canvas.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=3)

    caption = "Leak of the nuisance into the code: what probes read on unseen states; grey lines: a code that says nothing."
    width = min(14.0, max(5.0, len(columns) * (1.2 + 1.1 * len(systems))))
    return Picture(name="leak", caption=caption, width_in=width, height_in=4.2, draw=draw)


def _some(systems: Mapping[str, Any], column: str) -> bool:
    return any(told["leak"].get(column) for told in systems.values())


def _swaps(systems: Mapping[str, Any]) -> Table:
    rows = []
    for name, told in systems.items():
        if told["swap"]:
            swap = told["swap"]
            values = [number(swap[m], ".2f") for m in ("error", "state_donor", "nuisance_donor", "better")]
            rows.append([name, str(swap["swaps"]), *values])
    heads = ["system", "swaps", "error", "of the state's donor", "of the nuisance's", "better than all"]
    caption = "Error energy over the truth's energy: 0 exact, 1 as silence; share of swaps better than silence and both donors"
    return Table(heads=heads, rows=rows, caption=caption)


def _swap_picture(place: int, name: str, one: Any, groups: Any) -> Picture:
    """The swaps with the least, the median and the largest errors."""
    error = one.swaps.errors.error.numpy()
    order = np.argsort(error, kind="stable")
    chosen = {"best": order[0], "median": order[len(order) // 2], "worst": order[-1]}

    def draw(canvas: Figure) -> None:
        axes = canvas.subplots(len(chosen), 1, sharex=True)
        for axis, (word, i) in zip(axes, chosen.items(), strict=True):
            t = np.arange(one.swaps.truth.shape[-1]) / groups.sampling_rate_hz
            lines = (
                (one.swaps.state_donor, "donor of the state", COLOURS[5], 0.8),
                (one.swaps.nuisance_donor, "donor of the nuisance", COLOURS[4], 0.8),
                (one.swaps.truth, "truth", COLOURS[6], 1.4),
                (one.swaps.made, "swapped", COLOURS[1], 1.0),
            )
            for x, label, colour, width in lines:
                axis.plot(t, x[i, 0], color=colour, lw=width, label=label)
            axis.set_title(f"{word}: error {error[i]:.2f}", loc="left", fontsize=9)
            axis.set_xlim(0, t[-1])
        axes[1].set_ylabel("amplitude, standard deviations")
        axes[-1].set_xlabel("time, s")
        canvas.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=4)

    caption = f"{name}: the swaps with the least, median and largest error; first component."
    return Picture(name=f"swaps_{place + 1}", caption=caption, width_in=9.5, height_in=6.5, draw=draw)


def _normal(systems: Mapping[str, Any]) -> Table:
    rows = []
    for name, told in systems.items():
        v = told["normality"]
        if v is not None:
            means = [f"{np.mean(np.abs(v['mean'])):.2f}", f"{np.mean(v['std']):.2f}", f"{np.mean(np.abs(v['skewness'])):.2f}"]
            means += [f"{np.mean(v['kurtosis']):.2f}", f"{np.mean(v['statistic']):.3f}", f"{100 * v['rejected_share']:.0f} %"]
            joint = [f"{v[f'{m}_statistic']:.3f} (p {v[f'{m}_p_value']:.2g})" for m in ("identity", "energy")]
            rows.append([name, f"{v['tested']}", *means, *joint])
    heads = ["system", "tested", "|mean|", "std", "|skew|", "kurtosis", "D", "rejected", "covariance", "energy"]
    caption = (
        "Means over latents; share of them rejected by Kolmogorov and Smirnov's test (Holm, 5 %); tests of all latents together"
    )
    return Table(heads=heads, rows=rows, caption=caption)


def _normal_picture(normal: Mapping[str, Any]) -> Picture:
    def draw(canvas: Figure) -> None:
        left, right = canvas.subplots(1, 2)
        z = np.linspace(-4, 4, 200)
        left.plot(z, np.exp(-z * z / 2) / np.sqrt(2 * np.pi), color=COLOURS[6], lw=1.4, label="N(0, 1)")
        for i, (name, one) in enumerate(normal.items()):
            values = np.clip(one.codes.numpy().ravel(), -4, 4)
            left.hist(values, bins=np.linspace(-4, 4, 41), density=True, histtype="step", color=COLOURS[i % 6], lw=1.2, label=name)
            d = np.sort(one.normality.statistic.numpy())[::-1]
            right.plot(np.arange(1, len(d) + 1), d, "o-", ms=3, color=COLOURS[i % 6])
        left.set_xlabel("latent, all dimensions (beyond 4 in the last bins)")
        left.set_ylabel("density")
        right.set_xlabel("latent, by D")
        right.set_ylabel("D of Kolmogorov and Smirnov")
        right.set_ylim(0, None)
        canvas.legend(loc="outside lower center", ncols=3)

    caption = "All latents together beside N(0, 1), and the statistic of each latent, the largest first."
    return Picture(name="latents", caption=caption, width_in=9.5, height_in=4.2, draw=draw)


def _map(place: int, name: str, one: Any, groups: Any, state: str) -> Picture:
    shown = slice(None, None, max(1, len(one.codes) // SHOWN))
    found = principal_components(one.codes[shown], 2)
    label = np.array(groups.states)[one.state[shown]]
    picture = map_picture(found.scores.numpy(), label, name=f"map_{place + 1}", what=state, shares=found.shares.tolist())
    return Picture(
        name=picture.name,
        caption=f"{name}: {picture.caption}",
        width_in=picture.width_in,
        height_in=picture.height_in,
        draw=picture.draw,
    )
