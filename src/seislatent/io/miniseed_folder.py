"""Records as a folder of miniSEED files with a table beside them: the way back from a store to everyone's files."""

from __future__ import annotations

import json
import os
import re
import uuid
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pandas as pd

from seislatent.errors import SeislatentError
from seislatent.io import miniseed
from seislatent.waveform import Waveform


def write_miniseed(records: Iterable[Waveform], folder: str | Path) -> pd.DataFrame:
    """Records as miniSEED, one file each with all its channels, and `metadata.csv` beside them.

    Ids, times and samples are kept; miniSEED 2 holds times to the microsecond, the table to the nanosecond (`start_ns`). What
    miniSEED has no field for stands in the table by SeisBench's names: event, picks, unit, quality, `trace_history` (JSON).

    Args:
        records: any, such as those of a store; taken one by one.
        folder: made where it does not exist; the table appears when all files are complete.

    Returns:
        The table; `trace_file` is missing, and `trace_trouble` says why, for a record that miniSEED cannot hold.

    Raises:
        SeislatentError: the folder holds a table already.
    """
    folder = Path(folder)
    target = folder / "metadata.csv"
    if target.exists():
        raise SeislatentError(f"{target} exists: give another folder")
    folder.mkdir(parents=True, exist_ok=True)
    rows, taken = [], set()
    for i, record in enumerate(records):
        name = re.sub(r"[^\w.+-]", "_", str(record.metadata.get("trace_name") or record.ids[0]))[:150].lstrip(".") or "record"
        name = name if f"{name}.mseed" not in taken else f"{name}_{i:06d}"
        taken.add(f"{name}.mseed")
        row = _row(record) | {"trace_file": f"{name}.mseed"}
        try:
            miniseed.write(record, folder / f"{name}.mseed")
        except SeislatentError as error:
            row |= {"trace_file": None, "trace_trouble": str(error)}
        rows.append(row)
    table = pd.DataFrame(rows)
    beside = folder / f".{target.name}.{uuid.uuid4().hex}"
    try:
        table.to_csv(beside, index=False)
        os.replace(beside, target)
    finally:
        beside.unlink(missing_ok=True)
    return table


def _row(record: Waveform) -> dict[str, object]:
    """What the table says of a record."""
    first = record.channels[0]
    row: dict[str, object] = {k: v for k, v in record.metadata.items() if isinstance(v, str | int | float | bool | np.number)}
    return row | {
        "start_ns": int(record.start_ns), "trace_start_time": record.start_text, "trace_npts": record.data.shape[1],
        "trace_sampling_rate_hz": record.sampling_rate_hz, "trace_unit": record.unit, "trace_ids": ",".join(record.ids),
        "station_network_code": first.network, "station_code": first.station, "station_location_code": first.location,
        "station_latitude_deg": first.latitude_deg, "station_longitude_deg": first.longitude_deg,
        "station_elevation_m": first.elevation_m, "trace_history": json.dumps(record.history),
    }  # fmt: skip
