"""What seislatent does, shown on one real record: offline, in under a minute.

    record inside ObsPy --each of SECTIONS--> a section of the report, and files beside it

The record: vertical component of NZ.CRLZ (Cashmere cavern, Christchurch, New Zealand), 2009-09-04 15:06:40 UTC, 328 s at 100 Hz. It
ships with ObsPy among the records of its response tests. Chosen because it holds a whole earthquake (noise, body waves, surface
waves), is long enough for two segments of the code and the join between them, and has to be resampled.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from seislatent import __version__
from seislatent.errors import SeislatentError
from seislatent.evaluate.report import COLOURS, Picture, Report, Section, Table, may_write
from seislatent.evaluate.trial import SAMPLE_BITS, Trial, at_rate, try_record, whole_frames
from seislatent.io.files import read
from seislatent.io.slat import Codes
from seislatent.systems.codec import stream
from seislatent.waveform import Waveform

RECORD = "signal/tests/data/CRLZ.HHZ.10.NZ.SAC"
"""Below the package obspy."""
CODEC = "codec/eqcodec_small"
DETAIL_S = 12.0
"""Length of the detail beside each trace, in seconds."""


@dataclass(kw_only=True)
class Stage:
    """What a section works with."""

    record: Waveform
    load: Callable[[str], Any]
    """`catalog.load`: a model by its name."""
    folder: Path
    """Files that a section leaves here stand beside the report."""
    result: dict[str, Any] = field(default_factory=dict)
    """What a section adds here stands in report.json."""


def record(path: str | Path | None = None) -> Waveform:
    """The demo's record, or that of another file.

    Raises:
        SeislatentError: ObsPy was installed without its test records.
    """
    if path is not None:
        return read(path)[0]
    with as_file(files("obspy").joinpath(RECORD)) as found:
        if not found.is_file():
            raise SeislatentError(f"obspy is installed without {RECORD}: install it with pip, whose wheel holds this record")
        return read(found)[0]


def demo(out: str | Path, load: Callable[[str], Any], *, overwrite: bool = False) -> Report:
    """Every section on the demo's record; the report and the files of the sections stand in the folder `out`.

    Args:
        out: folder to write.
        load: gives a model by its name (`seislatent.load`).
        overwrite: replace what an earlier demo left there.

    Raises:
        SeislatentError: `out` holds a report that may not be replaced; the record or the weights are missing.
    """
    may_write(out, overwrite)
    with tempfile.TemporaryDirectory() as folder:
        stage = Stage(record=record(), load=load, folder=Path(folder))
        about = _about(stage.record)
        sections = [Section(heading="The record", parts=[about]), *(section(stage) for section in SECTIONS)]
        result = {"question": "demo", "record": about, "version": __version__, **stage.result}
        report = Report(result, "seislatent on one real record", sections)
        report.write(out, overwrite, others=stage.folder)
    return report


def _about(waveform: Waveform) -> str:
    start = np.datetime64(waveform.start_ns, "ns").astype("datetime64[s]")
    return (
        f"{waveform.ids[0]} from {start} UTC: {waveform.duration_s:.0f} s at {waveform.sampling_rate_hz:g} Hz, an earthquake."
        " The record ships with ObsPy."
    )


# -- the codec --------------------------------------------------------------------------------------------------------------------


def codec(stage: Stage) -> Section:
    """The record through the packaged codec at every level: the poster's table and figure, the code file, what it decodes to."""
    model = stage.load(CODEC)
    codes = stream.encode(model, stage.record)
    path = codes.write(stage.folder / "record.slat")
    stream.decode_file(model, path, stage.folder / "decoded.mseed")
    trial = try_record(model, stage.record)
    rows = table(codes, trial)
    stage.result["codec"] = {"system": model.name, "weights": model.digest, "points": rows}
    height, last = 1.05 * (codes.level + 1) + 0.6, rows[-1]
    picture = Picture(
        name="reconstructions", caption=_caption(codes), width_in=10, height_in=height,
        draw=lambda canvas: _reconstructions(canvas, model, codes, stage.record, rows),
    )  # fmt: skip
    return Section(
        heading="A codec: the record as whole numbers, a few a second",
        parts=[
            f"{model.name} spends {codes.level} indices of {codes.head.bits} bits a second, more where it is loud. Level k keeps k:"
            f" the file record.slat, cut short, decodes at a lower level. decoded.mseed is level {codes.level}, back at"
            f" {stage.record.sampling_rate_hz:g} Hz.",
            _shown(rows),
            f"Against {SAMPLE_BITS}-bit samples at {codes.head.sampling_rate_hz:g} Hz the codes are"
            f" {last['compression_ratio']:.0f} times smaller at level {codes.level}, and the whole file, with header, amplitudes"
            " and checksums,"
            f" {last['file_compression_ratio']:.1f} times. A record of minutes pays most for that."
            f" MSE and MAE are of the record scaled to zero mean and unit variance, at {codes.head.sampling_rate_hz:g} Hz.",
            picture,
        ],
    )


def table(codes: Codes, trial: Trial) -> list[dict[str, float]]:
    """One row of numbers per level, the units in the names."""
    if not trial.points:
        raise SeislatentError(f"the record cannot be coded: {'; '.join(trial.skipped)}")
    raw, per_second = SAMPLE_BITS * codes.head.sampling_rate_hz, codes.head.sampling_rate_hz / codes.head.frame
    rows = []
    for point, size in zip(trial.points[0], trial.file_bytes, strict=True):
        bits, file_rate = point.level * codes.head.bits, size * 8 / trial.seconds
        rows.append({
            "level": point.level, "bits_per_frame": bits, "bits_per_second": bits * per_second,
            "compression_ratio": raw / (bits * per_second), "file_bytes": size, "file_bits_per_second": file_rate,
            "file_compression_ratio": raw / file_rate, "mse": point.codec.mse, "mae": point.codec.mae, "snr_db": point.codec.snr_db,
            "snr_db_own_rate": point.own.snr_db,
        })  # fmt: skip
    return rows


def _shown(rows: list[dict[str, float]]) -> Table:
    columns = {
        "level": ("level", ".0f"), "bit/frame": ("bits_per_frame", ".0f"), "bit/s": ("bits_per_second", ".0f"),
        "ratio": ("compression_ratio", ".2f"), "file, bytes": ("file_bytes", ".0f"), "file, bit/s": ("file_bits_per_second", ".1f"),
        "file, ratio": ("file_compression_ratio", ".2f"), "MSE": ("mse", ".4f"), "MAE": ("mae", ".4f"),
        "SNR, dB": ("snr_db", ".2f"),
    }  # fmt: skip
    shown = [[format(row[key], form) for key, form in columns.values()] for row in rows]
    return Table(heads=[*columns], rows=shown, caption="Levels of the code on this record")


def _caption(codes: Codes) -> str:
    rate = codes.bits_per_second
    return (
        f"Top: the record at {codes.head.sampling_rate_hz:g} Hz. Below: its reconstructions from {rate:.0f} to"
        f" {rate / codes.level:.0f} bit/s (levels {codes.level} to 1). Left the whole record, right a detail, the original in grey."
    )


def _reconstructions(canvas: Figure, model: Any, codes: Codes, waveform: Waveform, rows: list[dict[str, float]]) -> None:
    rate = codes.head.sampling_rate_hz
    x = at_rate(waveform, rate)
    t = np.arange(len(x)) / rate
    first = detail(x, round(DETAIL_S * rate))
    part = slice(first, first + round(DETAIL_S * rate))
    mean, top = x.mean(), float(np.abs(x - x.mean()).max()) * 1.1
    axes = canvas.subplots(codes.level + 1, 2, sharex="col", sharey="col", width_ratios=(2.2, 1), squeeze=False)
    raw = SAMPLE_BITS * rate
    for row, level in enumerate([0, *range(codes.level, 0, -1)]):
        y = next(whole_frames(model, codes, level))[: len(x)] if level else x
        left, right = axes[row]
        colour = COLOURS[0] if level else COLOURS[6]
        left.plot(t, y - mean, color=colour, lw=0.6)
        if level:
            right.plot(t[part], x[part] - mean, color="0.7", lw=1.6)
        right.plot(t[part], y[part] - mean, color=colour, lw=0.9)
        told = rows[level - 1]
        name = "level {level:.0f}: {bits_per_second:g} bit/s, {compression_ratio:.1f} times smaller, {snr_db:.1f} dB".format(**told)
        left.set_title(name if level else f"original: {raw:g} bit/s", loc="left", fontsize=9, pad=2)
    axes[0, 0].set_ylim(-top, top)
    axes[0, 1].set_ylim(*(np.array([-1.25, 1.25]) * float(np.abs(x[part] - mean).max())))
    axes[-1, 0].set_xlabel("time, s")
    axes[-1, 1].set_xlabel("time, s")
    axes[-1, 0].set_xlim(0, t[-1])
    axes[-1, 1].set_xlim(t[part][0], t[part][-1])
    canvas.supylabel(f"amplitude, {waveform.unit or 'as recorded'}", fontsize=10)


def detail(x: np.ndarray, size: int) -> int:
    """Where the part of `size` samples with the most high-frequency energy starts."""
    energy = np.cumsum(np.append(0.0, np.diff(x, prepend=x[0]) ** 2))
    return int(np.argmax(energy[size:] - energy[:-size])) if len(x) > size else 0


SECTIONS: list[Callable[[Stage], Section]] = [codec]
"""What the demo shows, in this order. A capability adds its function here; all of them together have 60 s on two cores."""
