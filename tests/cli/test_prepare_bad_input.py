"""Everything that is wrong with archives, in one archive: the good records are made, and each other is counted with its reason."""

from __future__ import annotations

import errno
import io

import numpy as np
import pandas as pd
import pytest
from obspy import Stream, Trace, UTCDateTime

from seislatent.data.shards import ShardWriter
from seislatent.data.store import Store

P_S = 6.0


def three(origin, name, dtype=np.int32):
    """100 s from 30 s before the origin at 100 Hz, P 6 s after it."""
    rng = np.random.default_rng(len(name) * 1000 + ord(name[0]))
    traces = Stream()
    for component in "ZNE":
        ground = rng.normal(0, 30, 10_000)
        ground[3600:] += 2000 * np.exp(-np.arange(6400) / 900) * rng.normal(size=6400)
        header = {"network": "XX", "station": "AAA", "channel": f"HH{component}", "sampling_rate": 100.0}
        traces += Trace(ground.astype(dtype), header | {"starttime": origin - 30})
    return traces


def gap(t, o):
    return Stream([t[0].slice(o - 30, o + 5), t[0].slice(o + 8, o + 90), t[1], t[2]])


def overlap(t, o):
    again = t[0].slice(o + 5, o + 90).copy()
    again.data = again.data + 1000
    return Stream([t[0].slice(o - 30, o + 10), again, t[1], t[2]])


def changed(what):
    """A change of the second trace."""

    def change(t, o):
        what(t[1], o)
        return t

    return change


def corrupt(t, o):
    held = io.BytesIO()
    t.write(held, format="MSEED")
    data = bytearray(held.getvalue())
    data[4096:9000] = np.random.default_rng(0).integers(0, 256, 4904, dtype=np.uint8).tobytes()
    return bytes(data)


def rate(t, o):
    t.data, t.stats.sampling_rate = t.data[::2].copy(), 50.0


FAULTS = {
    "gap": gap, "overlap": overlap, "one": lambda t, o: Stream([x.slice(o + P_S, o + P_S) for x in t]),
    "rate": changed(rate), "length": changed(lambda t, o: setattr(t, "data", t.data[:9500])),
    "start": changed(lambda t, o: t.trim(o - 25)), "missing": lambda t, o: t[:2], "corrupt": corrupt,
    "unknown": changed(lambda t, o: setattr(t.stats, "channel", "HHQ")), "junk": lambda t, o: b"no waveform" * 100,
    "empty": lambda t, o: b"", "outside": lambda t, o: Stream([x.slice(o + 20, o + 90) for x in t]),
}  # fmt: skip
REASONS = {
    "gap": "gap", "nan": "gap", "corrupt": "gap", "overlap": "overlap disagrees", "one": "too short",
    "rate": "different sampling rates", "missing": "missing component", "unknown": "missing component",
    "junk": "no waveform", "empty": "no waveform", "outside": "pick outside the record",
}  # fmt: skip
TIMES = {"old": UTCDateTime(1965, 3, 1, 12), "leap": UTCDateTime(2016, 12, 31, 23, 59, 58)}


@pytest.fixture(scope="module")
def archive(tmp_path_factory):
    folder = tmp_path_factory.mktemp("archive") / "in"
    folder.mkdir()
    events, picks = ["event_id,time,latitude,longitude,depth_km,magnitude"], ["event_id,network,station,phase,time"]
    for k, name in enumerate(["good", *FAULTS, "nan", "twice", *TIMES, "nodepth", "nomagnitude"]):
        origin = TIMES.get(name, UTCDateTime(2022, 1, 1) + 86400 * k)
        depth, size = "" if name == "nodepth" else "10", "" if name == "nomagnitude" else "3.0"
        events.append(f"{name},{origin},40.7,28.1,{depth},{size}")
        picks.append(f"{name},XX,AAA,P,{origin + P_S}")
        held = three(origin, name, np.float32 if name == "nan" else np.int32)
        if name == "nan":
            held[0].data[3700] = np.nan
        made = FAULTS.get(name, lambda t, o: t)(held, origin)
        if isinstance(made, bytes):
            (folder / f"{name}.mseed").write_bytes(made)
        else:
            made.write(str(folder / f"{name}.mseed"), format="MSEED")
        if name == "twice":
            made.write(str(folder / "once_more.mseed"), format="MSEED")
    (folder / "catalogue.csv").write_text("\n".join([*events, "broken,line", "nan,nan,nan,nan,nan,nan"]))
    (folder / "picks.csv").write_text("\n".join([*picks, "good,XX,AAA,P,yesterday"]))
    (folder / "cut.gse").write_text("BEGIN GSE2.0\nMSG_TYPE DATA\nDATA_TYPE BULLETIN GSE2.0\nEVENT 7\n   Date    Time\nnonsense\n")
    (folder / "stations.csv").write_text("network,station,latitude,longitude\nXX,AAA,40.9,28.2\n")
    return folder


def prepared(run, archive, out, *more):
    return run("prepare", "data/kong_autoencoder", "--data", archive, "--out", out, "--json", *more)


def test_every_fault_costs_its_own_record_only(run, archive, tmp_path):
    code, told, err = prepared(run, archive, tmp_path / "store")
    assert code == 0 and told["leaks"] == [] and "Traceback" not in err
    store = Store(tmp_path / "store")
    out = {name.split("_")[0]: reason for name, reason in store.rejected[["trace_name", "reason"]].to_numpy()}
    assert out == REASONS and told["rejected"] == pd.Series(REASONS).value_counts().to_dict()
    made = store.metadata.set_index("source_id")
    assert set(made.index) == {"good", "length", "start", "twice", "old", "leap", "nodepth", "nomagnitude"} and len(made) == 8
    assert pd.isna(made["source_depth_km"]["nodepth"]) and pd.isna(made["source_magnitude"]["nomagnitude"])
    for name in made.index:
        record = store[[*store.metadata["source_id"]].index(name)]
        origin = UTCDateTime(record.metadata["source_origin_time"])
        p = record.start_ns + record.metadata["trace_p_arrival_sample"] * 5e7
        assert p == pytest.approx(origin.ns + P_S * 1e9, abs=2e3), name
    notes = "; ".join(store.about["runs"][-1]["notes"])
    for told_of in ("catalogue.csv line", "picks.csv line", "cut.gse", "junk.mseed", "empty.mseed"):
        assert told_of in notes, told_of


def test_a_full_disk_is_told_and_the_same_command_goes_on(run, archive, tmp_path, monkeypatch):
    real, count = ShardWriter._write, []

    def full(self, array, samples):
        count.append(array)
        if len(count) > 4:
            raise OSError(errno.ENOSPC, "No space left on device")
        real(self, array, samples)

    monkeypatch.setattr(ShardWriter, "_write", full)
    code, _, err = prepared(run, archive, tmp_path / "store")
    assert code == 1 and "No space left on device" in err and "make room" in err and "fault of seislatent" not in err
    assert not (tmp_path / "store" / "records.parquet").exists()
    monkeypatch.undo()
    code, told, _ = prepared(run, archive, tmp_path / "store")
    assert code == 0 and told["records"] == 8
