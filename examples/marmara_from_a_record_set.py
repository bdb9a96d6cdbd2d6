"""The three raw inputs of the Marmara project, made from a record set: waveform files, a catalogue, bulletins.

    python examples/marmara_from_a_record_set.py --data DIR --out RAW
    seislatent prepare data/marmara --data RAW --out STORE

DIR is a folder in SeisBench's layout whose table tells the event of each record (place, magnitude, and either
`source_origin_time` or `source_origin_sample`). RAW then holds, as a network's archive would,

    waveforms/EVENT/NET.STA.LOC.BAND.mseed    one miniSEED file per event and sensor, all components
    catalogue.txt                             the events, as FDSN text
    bulletins/YEAR-MONTH.gse                  GSE2.0: P and S with distance, azimuth and SNR

Where the set has no picks but calculated arrivals (`trace_p_arrival_calc_sample`), these stand in the bulletins, marked as
automatic: synthetic picks, good for trying the pipeline, not for training a picker. A bulletin holds times to 0.1 s.
"""

from __future__ import annotations

import argparse
import shlex
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from obspy.geodetics import gps2dist_azimuth

from seislatent.data.records import open_records
from seislatent.errors import SeislatentError
from seislatent.io import miniseed
from seislatent.io.catalogues import write_events
from seislatent.io.gse_bulletin import write_bulletin
from seislatent.prepare.bands import code_of
from seislatent.prepare.excerpt import mark
from seislatent.prepare.quality import measure_many
from seislatent.waveform import Waveform

TYPES = {"blast": "quarry blast", "explosion": "explosion", "earthquake": "earthquake", "earthquake_local": "earthquake"}
"""Type of event by the record's category."""


def main() -> None:
    """Read the options, make the files, say what to do with them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, type=Path, help="folder in SeisBench's layout")
    parser.add_argument("--out", required=True, type=Path, help="folder to make; it must not exist")
    parser.add_argument("--records", type=int, help="only so many of the first records")
    args = parser.parse_args()
    try:
        told = make(args.data, args.out, args.records)
    except SeislatentError as error:
        sys.exit(str(error))
    print(told)
    print(f"seislatent prepare data/marmara --data {shlex.quote(str(args.out))} --out STORE")


def make(data: Path, out: Path, most: int | None = None) -> str:
    """Write the raw inputs; what was written, in words."""
    if out.exists():
        raise SeislatentError(f"{out} exists: give another folder")
    records = open_records(data)
    count = min(len(records), most or len(records))
    rows, left_out = [], 0
    for i in range(count):
        about = event_of(records[i])
        left_out += about is None
        if about is not None:
            rows.append(about | {"record": i})
    if not rows:
        raise SeislatentError(f"no record of {data} tells its event: place, and origin time or origin sample, are needed")
    events, event_of_record = named(pd.DataFrame(rows))
    picks: list[dict[str, Any]] = []
    synthetic = 0
    for i, name in event_of_record.items():
        record = records[int(i)]
        write_waveform(record, out / "waveforms" / name)
        found = picks_of(record, name)
        synthetic += sum(p["calculated"] for p in found)
        picks += found
    readings = pd.DataFrame(picks).drop_duplicates(["source_id", "station_code", "phase"]).drop(columns="calculated")
    write_events(out / "catalogue.txt", events)
    (out / "bulletins").mkdir()
    months = pd.to_datetime(events["origin_ns"], unit="ns").dt.strftime("%Y-%m")
    for month, some in events.groupby(months):
        mine = readings[readings["source_id"].isin(some["source_id"])]
        write_bulletin(out / "bulletins" / f"{month}.gse", some, mine)
    told = f"{len(event_of_record)} records of {len(events)} events, {len(readings)} readings"
    told += f" ({synthetic} of them calculated, not picked: synthetic)" if synthetic else ""
    return told + (f"; {left_out} records do not tell their event and are left out" if left_out else "")


def event_of(record: Waveform) -> dict[str, Any] | None:
    """The event as the record's table tells it, None where place or time is missing."""
    about = record.metadata
    text, sample = about.get("source_origin_time"), mark(record, "source_origin_sample")
    if isinstance(text, str) and not pd.isna(time := pd.to_datetime(text, utc=True, errors="coerce")):
        origin_ns = int(time.as_unit("ns").value)
    elif sample is not None and record.start_ns:
        origin_ns = record.start_ns + round(sample / record.sampling_rate_hz * 1e9)
    else:
        return None
    place = [about.get("source_latitude_deg"), about.get("source_longitude_deg")]
    if not all(isinstance(v, int | float) for v in place):
        return None
    return {
        "given": str(about.get("source_id", "")), "origin_ns": origin_ns, "source_latitude_deg": place[0],
        "source_longitude_deg": place[1], "source_depth_km": about.get("source_depth_km", np.nan),
        "source_magnitude": about.get("source_magnitude", np.nan),
        "source_magnitude_type": str(about.get("source_magnitude_type", "")),
        "source_type": TYPES.get(str(about.get("trace_category", "")), ""),
    }  # fmt: skip


def named(table: pd.DataFrame) -> tuple[pd.DataFrame, dict[int, str]]:
    """One row per event with an id of its own, and the id by record.

    Records of one place, magnitude and (to 1 s) origin time are one event. Ids are the set's own, where these are ids of events;
    where they are not (where `source_id` is the day, say), the origin times.
    """
    second = (table["origin_ns"] + 500_000_000) // 1_000_000_000
    same = [second, table["source_latitude_deg"], table["source_longitude_deg"], table["source_magnitude"].fillna(-99)]
    number = table.groupby(same, sort=True).ngroup()
    events = table.groupby(number).first()
    own = events["given"].is_unique and events["given"].str.fullmatch(r"[!-~]{1,100}").all()
    times = pd.to_datetime(events["origin_ns"], unit="ns").dt.strftime("%Y%m%d%H%M%S")
    again = times.groupby(times).cumcount()
    times = times + again.map(lambda k: f"_{k}" if k else "")
    events["source_id"] = events["given"] if own else times
    return events.drop(columns=["given", "record"]), dict(zip(table["record"], number.map(events["source_id"]), strict=True))


def write_waveform(record: Waveform, folder: Path) -> None:
    """A sensor's components as one miniSEED file; a second one of the same name gets a number."""
    first = record.channels[0]
    folder.mkdir(parents=True, exist_ok=True)
    stem = ".".join([first.network, first.station, first.location, code_of(record)])
    for k in range(100):
        path = folder / (f"{stem}.mseed" if k == 0 else f"{stem}.{k}.mseed")
        if not path.exists():
            miniseed.write(record, path)
            return
    raise SeislatentError(f"{folder} has a hundred records of {stem}")


def picks_of(record: Waveform, event: str) -> list[dict[str, Any]]:
    """P and S of a record with distance, azimuth and (for P) SNR; calculated ones where there are no others."""
    first, about = record.channels[0], record.metadata
    distance, azimuth = about.get("path_ep_distance_km", np.nan), about.get("path_azimuth_deg", np.nan)
    if first.latitude_deg is not None and first.longitude_deg is not None:
        source = about["source_latitude_deg"], about["source_longitude_deg"]
        metres, towards, _ = gps2dist_azimuth(*source, first.latitude_deg, first.longitude_deg)
        distance, azimuth = metres / 1000, towards
    found = []
    for phase in ("P", "S"):
        picked = mark(record, f"trace_{phase.lower()}_arrival_sample")
        sample = picked if picked is not None else mark(record, f"trace_{phase.lower()}_arrival_calc_sample")
        if sample is None:
            continue
        snr = np.nan
        if phase == "P":
            quality = measure_many(record.data[None], record.sampling_rate_hz, np.array([sample]))
            known = quality.snr[0][np.isfinite(quality.snr[0])]
            snr = float(known.max()) if known.size else np.nan
        found.append({
            "source_id": event, "station_code": first.station, "phase": phase,
            "time_ns": record.start_ns + round(sample / record.sampling_rate_hz * 1e9), "path_ep_distance_km": distance,
            "path_azimuth_deg": azimuth, "snr": snr, "status": "manual" if picked is not None else "automatic",
            "calculated": picked is None,
        })  # fmt: skip
    return found


if __name__ == "__main__":
    main()
