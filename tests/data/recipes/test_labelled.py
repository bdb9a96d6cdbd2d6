"""labels.csv and the files beside it: every way of writing a line, every way of getting it wrong, and the windows that come out."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
from obspy import Stream, Trace, UTCDateTime

from seislatent import config
from seislatent.data.recipes.labelled import Labelled
from seislatent.errors import SeislatentError
from seislatent.io.labels import read_labels

START = UTCDateTime("2021-03-04T05:06:07.890000Z")
RATE = 50.0


def samples(code):
    return np.random.default_rng(ord(code[-1])).integers(-9999, 9999, 4500).astype(np.int32)


@pytest.fixture
def folder(tmp_path):
    """Three files of one record each: 90 s from START, a day apart; the second without E."""
    for k, name in enumerate(("a", "b", "deep/c")):
        stream = Stream()
        for code in ("HHZ", "HHN", "HHE")[: 2 if k == 1 else 3]:
            header = {"network": "XX", "station": f"ST{k}", "channel": code, "sampling_rate": RATE, "starttime": START + 86400 * k}
            stream += Trace(samples(code), header)
        (tmp_path / name).parent.mkdir(exist_ok=True)
        stream.write(str(tmp_path / f"{name}.mseed"), format="MSEED")
    (tmp_path / "broken.mseed").write_bytes(b"\0" * 600)
    return tmp_path


def write(folder, *lines, encoding="utf-8"):
    (folder / "labels.csv").write_bytes("\n".join(lines).encode(encoding))
    return folder


def made(folder, **settings):
    """What becomes of every line: made records and reasons by trace name."""
    recipe = Labelled(config.load(Labelled.Config, {"sampling_rate_hz": RATE} | settings))
    records = recipe.open([folder])
    told = dict(zip(records.metadata["trace_name"], recipe.select(records.metadata), strict=True))
    good = {}
    for i, name in enumerate(records.metadata["trace_name"]):
        if told[name] == "":
            try:
                found = list(recipe.make([records[i]], [np.random.default_rng(0)]))
            except SeislatentError as error:
                told[name] = error.reason
                continue
            told[name] = next((one.reason for one in found if hasattr(one, "reason")), "")
            good |= {one.record.metadata["trace_name"]: one.record for one in found if not hasattr(one, "reason")}
    return good, told


@pytest.mark.parametrize("separator", [",", ";", "\t"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "latin-1"])
def test_separators_and_encodings(folder, separator, encoding):
    number = "12,5" if separator != "," else "12.5"
    lines = ["file,label,p_s,note", f"a.mseed,séisme,{number}|,naïve"]
    text = [line.replace(",", separator) for line in lines[:1]] + [
        separator.join(["a.mseed", "séisme", number, '"na' + separator + 'ïve"'])
    ]
    good, told = made(write(folder, *text, encoding=encoding))
    (one,) = good.values()
    assert told == {"labels.csv:2": ""} and one.metadata["label"] == "séisme" and one.metadata["note"] == f"na{separator}ïve"
    assert one.metadata["trace_p_arrival_sample"] == 5 * RATE  # before_p_s
    assert one.start_ns == (START + 7.5).ns


def test_headings_as_people_write_them(folder):
    (folder / "Labels.CSV").write_text(f"File ; Label;Start Time;P-s;Event ID\n a.mseed ; eq ;{START + 10};7,5;e1\n")
    good, told = made(folder)
    assert told == {"Labels.CSV:2": ""}
    metadata = good["Labels.CSV:2"].metadata
    assert metadata["trace_p_arrival_sample"] == 7.5 * RATE and metadata["source_id"] == "e1"
    assert good["Labels.CSV:2"].start_ns == (START + 10).ns
    (folder / "Labels.CSV").unlink()
    with pytest.raises(SeislatentError, match="'p_tme': did you mean 'p_time'"):
        made(write(folder, "file,label,p_tme", f"a.mseed,eq,{START + 10}"))


def test_windows_are_the_samples_of_the_file(folder):
    good, _ = made(write(folder, "file,start,label,p_sample,s_s", f"a.mseed,{START + 10},eq,100.5,8.25"))
    one = good["labels.csv:2"]
    assert one.components == ("Z", "N", "E") and one.data.dtype == np.float32 and one.data.shape == (3, 1500)
    assert np.array_equal(one.data, np.stack([samples(c)[500:2000] for c in ("Z", "N", "E")]).astype(np.float32))
    assert one.start_ns == (START + 10).ns
    assert one.metadata["trace_p_arrival_sample"] == 100.5 and one.metadata["trace_s_arrival_sample"] == 8.25 * RATE


def test_p_and_s_in_every_way(folder):
    rows = [
        ("p_time", str(START + 20), 1000.0), ("p_s", "20", 1000.0), ("p_sample", "1000", 1000.0),
        ("p", str(START + 20), 1000.0), ("P", "20.0", 1000.0), ("p_time", "2021-03-04T06:06:27.89+01:00", 1000.0),
    ]  # fmt: skip
    for name, cell, sample in rows:
        good, told = made(write(folder, f"file,start,label,{name}", f"a.mseed,{START},eq,{cell}"))
        assert told == {"labels.csv:2": ""} and good["labels.csv:2"].metadata["trace_p_arrival_sample"] == sample, name


def test_without_a_start_the_window_stands_before_p_and_inside_the_file(folder):
    good, _ = made(write(folder, "file,label,p_s", "a.mseed,eq,40", "deep/c.mseed,eq,2", "deep\\c.mseed,eq,88", "a.mseed,quiet,"))
    begins = [(w.start_ns - (START + 86400 * k).ns) / 1e9 for w, k in zip(good.values(), (0, 2, 2, 0), strict=True)]
    assert begins == [35, 0, 60, 0]


def test_ids_with_and_without_wildcards(folder):
    when = START + 2 * 86400 + 20
    lines = [f"{i},{when},eq" for i in ("XX.ST2..HHZ", "XX.ST2", "*.ST2..HH?", "XX.ST9..HHZ")]
    good, told = made(write(folder, "id,start,label", *[line.replace(str(when), str(when + k)) for k, line in enumerate(lines)]))
    assert list(told.values()) == ["", "", "", "unknown id"] and all(w.ids[0] == "XX.ST2..HHZ" for w in good.values())
    single, told = made(write(folder, "id,start,label", f"XX.ST1..HHN,{START + 86400},eq"), components="N")
    assert single["labels.csv:2"].ids == ("XX.ST1..HHN",)


def test_a_longer_length_gives_windows_side_by_side(folder):
    good, told = made(write(folder, "file,label,length", "a.mseed,noise,70", "deep/c.mseed,noise,20"))
    assert list(good) == ["labels.csv:2_0", "labels.csv:2_1"] and told["labels.csv:3"] == "length below the window"
    assert good["labels.csv:2_1"].start_ns == (START + 30).ns


def test_everything_that_can_be_wrong_with_a_line_is_counted_by_its_number(folder):
    lines = {
        "gone.mseed,,eq,,": "missing file",
        "a.mseed,,,,": "no label",
        ",,eq,,": "no file and no id",
        "a.mseed,yesterday,eq,,": "unreadable time",
        "a.mseed,2021-03-04T05:06:60,eq,,": "unreadable time",
        "a.mseed,,eq,soon,": "unreadable number",
        "a.mseed,,eq,,0": "unreadable number",
        "a.mseed,,eq,,,,,": "wrong number of cells",
        "../a.mseed,,eq,,": "file outside the folder",
        "/etc/hostname,,eq,,": "file outside the folder",
        "broken.mseed,,eq,,": "cannot be read",
        "a.mseed,1960-01-01,eq,,": "no data at that time",
        "a.mseed,,eq,95,": "P outside the record",
        f"a.mseed,{START + 80},eq,,": "too short",
        "b.mseed,,eq,,": "missing component",
        "a.mseed,,eq,10,": "",
        "a.mseed,,ex,10,": "duplicate line",
    }
    good, told = made(write(folder, "file,start,label,p_s,length", "", *lines))
    assert list(told.values()) == list(lines.values())
    assert list(told) == [f"labels.csv:{k + 3}" for k in range(len(lines))] and list(good) == ["labels.csv:18"]


def test_the_other_reasons(folder):
    _, told = made(write(folder, "file,id,label,p_s,s_s", "a.mseed,,eq,10,9", ",XX.ST0,eq,,", "a.mseed,XX.ST2..HHZ,eq,,"))
    assert list(told.values()) == ["S not after P", "no start", "unknown id"]


@pytest.mark.parametrize(
    ("line", "reasons", "count"),
    [
        ("a.mseed,,1e300,,", ["unreadable number"], 0),
        ("a.mseed,,,10,1e300", ["unreadable number"], 0),
        (f"a.mseed,{START},1e9,,", ["too short"], 3),
        (f"a.mseed,{START - 1e8},2e8,,", ["too short"], 2),
    ],
)
def test_absurd_numbers_cost_nothing(folder, line, reasons, count):
    path, start, length, p, s = line.split(",")
    good, told = made(write(folder, "file,start,length,p_s,s_s,label", f"{path},{start},{length},{p},{s},eq"))
    assert [told["labels.csv:2"]] == reasons and len(good) == count


def test_ids_in_an_sds_archive(tmp_path):
    for code in ("HHZ", "HHN", "HHE"):
        place = tmp_path / "2021" / "XX" / "ST0" / f"{code}.D"
        place.mkdir(parents=True)
        header = {"network": "XX", "station": "ST0", "channel": code, "sampling_rate": RATE, "starttime": START}
        Stream([Trace(samples(code), header)]).write(str(place / f"XX.ST0..{code}.D.2021.063"), format="MSEED")
    good, told = made(write(tmp_path, "id,label,p_time", f"XX.ST0,eq,{START + 12}"))
    assert told == {"labels.csv:2": ""} and good["labels.csv:2"].start_ns == (START + 7).ns


def test_classes_name_the_labels_and_leave_out_the_rest(folder):
    text = ["file,label", "a.mseed,eq", "deep/c.mseed,thunder"]
    good, told = made(write(folder, *text), classes={"eq": "earthquake"})
    assert [w.metadata["label"] for w in good.values()] == ["earthquake"] and told["labels.csv:3"] == "label not asked for"


def test_the_table_tells_event_and_times_before_anything_is_read(folder):
    text = write(folder, "file,label,event,p_s,source_magnitude", "a.mseed,eq,ev7,10,3.1", "deep/c.mseed,noise,,,")
    records = Labelled(config.load(Labelled.Config, {"sampling_rate_hz": RATE})).open([text])
    table = records.metadata
    assert table["source_id"].tolist() == ["ev7", None] and table["start_ns"].tolist() == [(START + 5).ns, (START + 2 * 86400).ns]
    assert table["trace_p_arrival_sample"].iloc[0] == 5 * RATE and table["station_code"].tolist() == ["ST0", "ST2"]
    again = pickle.loads(pickle.dumps(records))
    assert np.array_equal(again[0].data, records[0].data) and again[0].metadata["source_magnitude"] == 3.1


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("", "is empty"),
        ("file,labelz\na,b", "no column label"),
        ("label\neq", "no column file and no column id"),
        ("file,label", "no line"),
        ("file,label,class\na,b,c", "two columns for 'label'"),
        ("file,label\n" + "x" * 200_000, "line 2: field larger"),
    ],
)
def test_files_that_are_no_labels(tmp_path, text, line):
    (tmp_path / "labels.csv").write_text(text)
    with pytest.raises(SeislatentError, match=line):
        read_labels(tmp_path / "labels.csv")


def test_a_folder_without_labels(tmp_path):
    with pytest.raises(SeislatentError, match=r"labels\.csv does not exist"):
        Labelled(config.load(Labelled.Config, {})).open([tmp_path])


def test_scale(folder):
    good, _ = made(write(folder, "file,label", "a.mseed,eq"), scale="component")
    assert np.abs(good["labels.csv:2"].data).max(1).tolist() == [1, 1, 1]
    with pytest.raises(SeislatentError):
        Labelled(config.load(Labelled.Config, {"window_s": 0.01}))


def event(folder, name, start, station="ST0", codes=("HHZ", "HHN", "HHE"), rate=RATE, split=False, **header):
    """A record of 40 s with an onset after 15 s; `split`: a file per component."""
    traces = []
    for code in codes:
        x = np.random.default_rng(ord(code[-1])).standard_normal(round(40 * rate))
        x[round(15 * rate) :] *= 20
        head = {"network": "XX", "station": station, "channel": code, "sampling_rate": rate, "starttime": start}
        traces.append(Trace((100 * x).astype(np.int32), head | header))
    folder.mkdir(parents=True, exist_ok=True)
    for code, some in [(t.stats.channel, Stream([t])) for t in traces] if split else [("", Stream(traces))]:
        some.write(str(folder / f"{name}{code}.{'sac' if split else 'mseed'}"), format="SAC" if split else "MSEED")


@pytest.fixture
def classes(tmp_path):
    """Two folders of classes: three components in a file, one component alone, a file per component, two records of a sensor."""
    event(tmp_path / "blast", "one", START)
    event(tmp_path / "blast", "two", START + 86400, codes=("HHZ",))
    event(tmp_path / "earthquake", "three", START + 2 * 86400, split=True)
    event(tmp_path / "earthquake" / "deep", "four", START + 3 * 86400, rate=100.0)
    event(tmp_path / "earthquake" / "deep", "five", START + 3 * 86400 + 60, rate=100.0)
    return tmp_path


def test_names_of_subfolders_are_labels(classes):
    good, told = made(classes, whole=True, window_s=120.0, sampling_rate_hz=20.0)
    assert [*told.values()] == [""] * 5 and len(good) == 5
    labels = [r.metadata["label"] for r in good.values()]
    assert labels == ["blast"] * 2 + ["earthquake"] * 3
    assert ["".join(r.components) for r in good.values()] == ["ZNE", "Z", "ZNE", "ZNE", "ZNE"]
    starts = [(r.start_ns - int(START.ns)) / 1e9 for r in good.values()]
    np.testing.assert_allclose(starts, [0, 86400, 2 * 86400, 3 * 86400, 3 * 86400 + 60], atol=0.05)
    for record in good.values():
        assert record.sampling_rate_hz == 20 and abs(record.data.shape[1] - 800) <= 1
        assert record.metadata["trace_onset_sample"] == pytest.approx(300, abs=5)
        assert not [k for k in record.metadata if k.startswith("trace_label_")]


def test_a_label_file_goes_before_subfolders(classes):
    write(classes, "file,label,p_s", "blast/one.mseed,quarry,14", "earthquake/deep/four.mseed,quake,")
    good, _ = made(classes, whole=True, window_s=25.0, sampling_rate_hz=20.0)
    one, two = good.values()
    assert (one.metadata["label"], two.metadata["label"]) == ("quarry", "quake")
    assert one.metadata["trace_onset_sample"] == one.metadata["trace_p_arrival_sample"] == pytest.approx(100, abs=0.1)
    assert one.data.shape == (3, 500) and two.data.shape == (3, 500)


def test_files_without_codes_or_times_are_records_of_their_own(tmp_path):
    for k, name in enumerate(("a", "a2", "b")):
        event(tmp_path / name[0], name, UTCDateTime(0), station="", codes=("Z",), network="", location="")
        assert k < 3
    good, _ = made(tmp_path, whole=True, window_s=120.0, sampling_rate_hz=20.0)
    assert sorted(r.metadata["label"] for r in good.values()) == ["a", "a", "b"]


def test_one_subfolder_is_no_choice_of_classes(tmp_path):
    event(tmp_path / "a", "x", START)
    with pytest.raises(SeislatentError, match=r"labels\.csv does not exist"):
        made(tmp_path)
    (tmp_path / "b").mkdir()
    good, _ = made(tmp_path, whole=True)
    assert len(good) == 1


def test_folders_of_classes_without_a_file(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    with pytest.raises(SeislatentError, match=r"no waveform file in its subfolders, and no labels\.csv"):
        made(tmp_path)
