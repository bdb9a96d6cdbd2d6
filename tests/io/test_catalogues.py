"""Catalogues: every format in and out, lines that miss something, and files from strangers."""

from __future__ import annotations

import gzip
import time
import warnings
from pathlib import Path

import numpy as np
import obspy
import pandas as pd
import pytest

from seislatent.errors import SeislatentError, UsageError
from seislatent.io import event_fields, quakeml
from seislatent.io.catalogues import read_events, write_events
from seislatent.io.event_fields import EVENT_COLUMNS, time_ns

QUAKEML = """<?xml version="1.0" encoding="UTF-8"?>
<q:quakeml xmlns="http://quakeml.org/xmlns/bed/1.2" xmlns:q="http://quakeml.org/xmlns/quakeml/1.2"
 xmlns:catalog="http://anss.org/xmlns/catalog/0.1"><eventParameters publicID="smi:x/1">
<event publicID="quakeml:x/query?eventid=nc7&amp;format=quakeml"><preferredOriginID>smi:o/2</preferredOriginID>
 <preferredMagnitudeID>smi:m/2</preferredMagnitudeID><type>quarry blast</type>
 <description><text>Kağıthane</text></description>
 <origin publicID="smi:o/1"><time><value>2014-01-01T00:00:00Z</value></time><latitude><value>1</value></latitude>
  <longitude><value>2</value></longitude><depth><value>99000</value></depth></origin>
 <origin publicID="smi:o/2"><time><value>2014-01-01T00:00:01.123456789Z</value></time><latitude><value>40.5</value></latitude>
  <longitude><value>28.25</value></longitude><depth><value>7500</value></depth></origin>
 <magnitude publicID="smi:m/1"><mag><value>9</value></mag><type>mb</type></magnitude>
 <magnitude publicID="smi:m/2"><mag><value>2.5</value></mag><type>ML</type></magnitude></event>
<event publicID="smi:y" catalog:eventsource="ci" catalog:eventid="123">
 <origin publicID="smi:o/3"><time><value>1969-12-31T23:59:59.500000Z</value></time><latitude><value>-10</value></latitude>
  <longitude><value>190</value></longitude></origin></event>
<event publicID="smi:local/event/no%20time"><origin publicID="smi:o/4"><latitude><value>1</value></latitude>
  <longitude><value>2</value></longitude></origin></event>
<event publicID="smi:z"></event>
</eventParameters></q:quakeml>"""


def file(tmp_path, text, name="c.csv"):
    path = tmp_path / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def test_times():
    assert time_ns("1970-01-01T00:00:00") == 0
    assert time_ns("1969-12-31T23:59:59.999999999Z") == -1
    assert time_ns("2014-01-01T03:00:00+03:00") == time_ns("2014/1/1 0:00:00.0") == time_ns("2013.12.31 23:59:60.0")
    assert time_ns("2016-12-31T23:59:60.25Z") - time_ns("2016-12-31T23:59:59.25Z") == 10**9
    assert time_ns("2014-01-01 10:05:60.0") == time_ns("2014-01-01 10:06:00")
    assert time_ns("2014-01-01T00:00:00.12345678987Z") % 10**9 == 123456789
    for text in ("2015-01-02T03:04:05.678901", "1901-02-28T23:00:00.5", "2100-12-31T00:00:59.999999"):
        assert time_ns(text) == obspy.UTCDateTime(text).ns
    no_times = ["", "2014-02-30T00:00:00", "2014-01-01", "2014-01-01T24:00:00", "2014-01-01T00:00:61", "1600-01-01T00:00:00"]
    for text in [*no_times, "٢٠١٤-01-01T00:00:00"]:
        with pytest.raises(ValueError):
            time_ns(text)


def test_quakeml(tmp_path):
    found = read_events(file(tmp_path, QUAKEML, "c.xml"))
    first, second = found.table.to_dict("records")
    assert tuple(found.table.columns) == EVENT_COLUMNS
    assert (first["source_id"], first["source_type"], first["source_depth_km"]) == ("nc7", "quarry blast", 7.5)
    assert (first["source_latitude_deg"], first["source_longitude_deg"]) == (40.5, 28.25)
    assert (first["source_magnitude"], first["source_magnitude_type"]) == (2.5, "ML")
    assert first["origin_ns"] % 10**9 == 123456789 and first["source_origin_time"] == "2014-01-01T00:00:01.123456789Z"
    assert (second["source_id"], second["source_longitude_deg"], second["origin_ns"]) == ("ci123", -170.0, -500_000_000)
    assert np.isnan(second["source_depth_km"]) and np.isnan(second["source_magnitude"]) and second["source_magnitude_type"] == ""
    assert len(found.bad) == 2 and "c.xml line 16: event left out: no time" in found.bad[0] and "no origin" in found.bad[1]
    alone = read_events(file(tmp_path, QUAKEML.replace("<preferredOriginID>smi:o/2</preferredOriginID>", ""), "first.xml"))
    assert alone.table.source_depth_km[0] == 99.0  # without a preferred origin the first one


BOMB = '<!DOCTYPE q [<!ENTITY a "ha"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;">' + "".join(
    f'<!ENTITY c{i} "{"&b;" if not i else f"&c{i - 1};" * 50}">' for i in range(12)
) + "]>"  # fmt: skip


@pytest.mark.parametrize(
    "document",
    [
        '<?xml version="1.0"?>' + BOMB + '<quakeml><eventParameters><event publicID="&c11;"/></eventParameters></quakeml>',
        '<!DOCTYPE q SYSTEM "http://127.0.0.1:9/x.dtd"><quakeml/>',
        '<!DOCTYPE q [<!ENTITY x SYSTEM "SECRET">]><quakeml><event publicID="&x;"><type>&x;</type></event></quakeml>',
    ],
)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_documents_that_declare_a_type_are_refused_at_once(tmp_path, document, encoding):
    (tmp_path / "secret").write_text("top secret")
    path = file(tmp_path, document.replace("SECRET", (tmp_path / "secret").as_uri()).encode(encoding), "bomb.xml")
    began = time.perf_counter()
    with pytest.raises(SeislatentError, match="DOCTYPE") as caught:
        read_events(path)
    assert time.perf_counter() - began < 2 and "top secret" not in str(caught.value)


def test_an_event_without_end_does_not_fill_the_memory(tmp_path, monkeypatch):
    monkeypatch.setattr(quakeml, "EVENT_BYTES", 1 << 17)
    path = file(tmp_path, QUAKEML.replace("<event publicID=\"smi:z\">", "<x/>" * 100_000), "long.xml")
    found = read_events(path)
    assert len(found) == 2 and "damaged after 3 events" in found.bad[-1] and "one event takes more" in found.bad[-1]
    found = read_events(file(tmp_path, QUAKEML.replace("<type>", "<x/>" * 20_000 + "<type>", 1), "ok.xml"))
    assert len(found) == 2 and "damaged" not in str(found.bad)


def test_damaged_and_other_xml(tmp_path):
    cut = read_events(file(tmp_path, QUAKEML[: QUAKEML.index("smi:o/3")], "cut.xml"))
    assert len(cut) == 1 and "damaged after 1 events" in cut.bad[0]
    others = [("<html><body/></html>", "not QuakeML"), ("<", "no readable XML"), ("<a\n>\0</a>", "XML"), ("<a>\0</a>", "no text")]
    for text, told in others:
        with pytest.raises(SeislatentError, match=told):
            read_events(file(tmp_path, text, "x.xml"))
    sick = read_events(file(tmp_path, QUAKEML.replace("smi:m/2", "smi:m/2<"), "sick.xml"))
    assert len(sick) == 0 and "damaged after 0 events" in sick.bad[0]
    deep = "<quakeml>" + "<event>" * 5000
    assert len(read_events(file(tmp_path, deep, "deep.xml"))) == 0


FDSN = """#EventID | Time | Latitude | Longitude | Depth/km | Author | Catalog | Contributor | ContributorID | MagType | Magnitude | MagAuthor | EventLocationName | EventType
8|2014-01-01T00:00:00.5|40.5|28.25|7.5|A|B|C|D|ML|2.5|E|Marmara, Sea|earthquake
9|2014-01-02T00:00:00|40.5|28.25||||||||||
"""  # noqa: E501
USGS = """time,latitude,longitude,depth,mag,magType,nst,gap,dmin,rms,net,id,updated,place,type
2014-01-01T00:00:00.500Z,40.5,28.25,7.5,2.5,ML,,,,,us,8,2014-01-01T00:00:00.500Z,"5 km, NE of X",earthquake
2014-01-02T00:00:00.000Z,40.5,28.25,,,,,,,,us,9,,"",
"""
SEISBENCH = """source_id;source_origin_time;source_latitude_deg;source_longitude_deg;source_depth_m;source_magnitude;source_magnitude_type;source_type
8;2014-01-01T00:00:00.5;40,5;28,25;7500;2,5;ML;earthquake
9;2014-01-02T00:00:00;40,5;28,25;;;;
"""  # noqa: E501
KANDILLI = (
    "No\tDeprem Kodu\tOluş tarihi\tOluş zamanı\tEnlem\tBoylam\tDerinlik(km)\txM\tMD\tML\tMw\tMs\tMb\tTip\tYer\n"
    "1\t8\t2014.01.01\t00:00:00.50\t40.5\t28.25\t7.5\t2.5\t0.0\t2.5\t0.0\t0.0\t0.0\tKe\tMARMARA DENİZİ\n"
    "2\t9\t2014.01.02\t00:00:00.00\t40.5\t28.25\t\t0.0\t-.-\t0.0\t0.0\t0.0\t0.0\t\tMARMARA\n"
)


@pytest.mark.parametrize(
    "text",
    [
        FDSN, USGS, SEISBENCH, KANDILLI, KANDILLI.encode("iso-8859-9"), KANDILLI.encode("utf-16"), ("\ufeff" + USGS).encode(),
        USGS.replace("\n", "\r\n"), gzip.compress(USGS.encode()), "\n\n" + USGS.replace("depth", "depth_km"),
        "# dataset: GeoCSV 2.0\n# delimiter: |\n# field_unit: a | b | c\n" + FDSN.replace("#EventID ", "EventID "),
        FDSN + "#\n# the end\n",
    ],
)  # fmt: skip
def test_tables_of_text(tmp_path, text):
    found = read_events(file(tmp_path, text))
    first, second = found.table.to_dict("records")
    assert not found.bad and first["origin_ns"] == time_ns("2014-01-01T00:00:00.5")
    assert (first["source_id"], first["source_latitude_deg"], first["source_longitude_deg"]) == ("8", 40.5, 28.25)
    assert (first["source_depth_km"], first["source_magnitude"], first["source_magnitude_type"]) == (7.5, 2.5, "ML")
    assert first["source_type"] == "earthquake"
    assert second["source_id"] == "9" and np.isnan(second["source_depth_km"]) and np.isnan(second["source_magnitude"])
    assert (second["source_magnitude_type"], second["source_type"]) == ("", "")


def test_which_of_kandillis_magnitudes(tmp_path):
    text = KANDILLI.replace("2.5\t0.0\t2.5\t0.0", "4.1\t3.9\t4.1\t3.8")
    assert read_events(file(tmp_path, text)).table.source_magnitude_type[0] == "Mw"
    text = KANDILLI.replace("2.5\t0.0\t2.5\t0.0", "4.1\t3.9\t0.0\t0.0")
    assert read_events(file(tmp_path, text)).table.loc[0, ["source_magnitude", "source_magnitude_type"]].tolist() == [3.9, "MD"]


def test_bad_lines_are_told_with_their_number(tmp_path):
    lines = USGS.splitlines()
    bad = [
        lines[1].replace("2014-01-01T00:00:00.500Z", "", 1), lines[1].replace("40.5", ""), lines[1].replace("28.25", "428"),
        lines[1].replace("00:00:00", "00:99:00", 1), "a,b", lines[1] + ",x", lines[1].replace("us", "u\0s"), "x" * 100_000,
        lines[1].replace("40.5", "4_0"),
    ]  # fmt: skip
    found = read_events(file(tmp_path, "\n".join([lines[0], *bad, lines[1], lines[2]])))
    assert list(found.table.source_id) == ["8", "9"] and len(found.bad) == len(bad)
    for number, text in enumerate(found.bad, 2):
        assert f"c.csv line {number}:" in text and text.isprintable()


def test_values_that_cannot_be_are_read_as_unknown(tmp_path):
    text = USGS.replace(",7.5,2.5", ",7500,-99").replace("28.25,,,", "28.25,x,inf,")
    found = read_events(file(tmp_path, text))
    assert found.table.source_depth_km.isna().all() and found.table.source_magnitude.isna().all()
    assert [("depth" in b, "magnitude" in b) for b in found.bad] == [(True, False), (False, True), (True, False)]
    assert "depth_m" in found.bad[0]


def test_missing_ids_are_made_from_time_and_place(tmp_path):
    text = USGS.replace("us,8,", "us,,")
    assert read_events(file(tmp_path, text)).table.source_id[0] == "20140101T000000.500_+40.5000_+28.2500"


def test_several_files_and_doubles(tmp_path):
    (tmp_path / "sub").mkdir()
    file(tmp_path, FDSN, "a.txt")
    file(tmp_path, USGS.replace("28.25,,,,", "28.25,11,3.1,Mw,").replace("00:00:00.000Z", "00:00:03.000Z"), "sub/b.csv")
    file(tmp_path, USGS.replace("2014-01-02", "2015-01-02"), "sub/c.csv")
    file(tmp_path, b"\x00\x01\x02" * 100, "sub/d.mseed")
    file(tmp_path, b"", "sub/e.csv")
    found = read_events(tmp_path)
    assert list(found.table.source_id) == ["8", "9", "9~2"]
    nine = found.table.iloc[1]
    assert (nine.source_depth_km, nine.source_magnitude, nine.source_magnitude_type) == (11, 3.1, "Mw")
    assert nine.origin_ns == time_ns("2014-01-02T00:00:00")  # the first one's time stays
    told = "\n".join(found.bad)
    assert "d.mseed" in told and "e.csv is empty" in told and "9~2" in told and "3 rows repeat" in told
    assert found.table.dtypes.map(str).to_dict()["origin_ns"] == "int64" and found.table.source_depth_km.dtype == np.float64
    both = read_events([tmp_path / "a.txt", tmp_path / "sub" / "b.csv"])
    assert len(both) == 2
    loop = tmp_path / "sub" / "loop"
    loop.symlink_to(tmp_path, target_is_directory=True)
    assert len(read_events(tmp_path)) == 3


def test_what_cannot_be_read_at_all(tmp_path, monkeypatch):
    for text, told in (("a,b\n1,2\n", "latitude, longitude, time"), ("\n\n", "titles"), (b"\x80\x02pickle", "no column")):
        with pytest.raises(SeislatentError, match=told) as caught:
            read_events(file(tmp_path, text))
        assert "\n" not in str(caught.value)
    with pytest.raises(SeislatentError, match="no text"):
        read_events(file(tmp_path, b"000001D \x00\x00\x00\x00\n" * 9))
    with pytest.raises(SeislatentError, match="does not exist"):
        read_events(tmp_path / "none.csv")
    (tmp_path / "empty").mkdir()
    with pytest.raises(SeislatentError, match="holds no file"):
        read_events(tmp_path / "empty")
    path = file(tmp_path, USGS)
    monkeypatch.setattr(event_fields, "LARGEST_BYTES", 100)
    with pytest.raises(SeislatentError, match="split it"):
        read_events(path)
    packed = file(tmp_path, gzip.compress(USGS.encode() * 9), "packed.csv.gz")
    assert packed.stat().st_size > 100 or pytest.fail("too small")
    with pytest.raises(SeislatentError, match="split it"):
        read_events(packed)


def test_only_so_much_is_told(tmp_path, monkeypatch):
    monkeypatch.setattr(event_fields, "TOLD_LINES", 5)
    found = read_events(file(tmp_path, USGS + "a,b\n" * 12))
    assert len(found.bad) == 6 and found.bad[-1] == "and 7 more"


def catalogue(n=40, seed=0):
    r = np.random.default_rng(seed)
    ids = [(f"id {i}/ü&<%=2", f"smi:x.y/{i}?a=b", f"smi:local/event/{i}", f"#{i}")[i % 4] for i in range(n)]
    table = pd.DataFrame({
        "source_id": ids, "origin_ns": r.integers(-(10**18), 2 * 10**18, n) // 1000 * 1000,
        "source_latitude_deg": r.uniform(-90, 90, n), "source_longitude_deg": r.uniform(-180, 180, n),
        "source_depth_km": np.where(np.arange(n) % 4, r.uniform(-3, 700, n), np.nan),
        "source_magnitude": np.where(np.arange(n) % 5, r.uniform(-2, 9, n), np.nan),
    })  # fmt: skip
    table["source_magnitude_type"] = np.where(table.source_magnitude.isna(), "", "Mwr")
    return table.assign(source_type=np.resize(["earthquake", "quarry blast", "", "explosion"], n))


@pytest.mark.parametrize("name", ["c.csv", "c.txt", "c.xml", "c.qml"])
def test_what_is_written_is_read_back(tmp_path, name):
    table = catalogue()
    if name == "c.csv":
        table["origin_ns"] += np.arange(len(table))  # nanoseconds
    write_events(tmp_path / name, table)
    found = read_events(tmp_path / name)
    assert not found.bad
    for column in ("source_id", "origin_ns", "source_magnitude_type", "source_type", "source_latitude_deg", "source_longitude_deg"):
        assert (found.table[column] == table[column]).all(), column
    np.testing.assert_allclose(found.table.source_depth_km, table.source_depth_km, rtol=0, atol=1e-9)
    np.testing.assert_array_equal(found.table.source_magnitude, table.source_magnitude)
    again = tmp_path / f"again{Path(name).suffix}"
    write_events(again, found.table)
    pd.testing.assert_frame_equal(read_events(again).table, found.table)
    with pytest.raises(SeislatentError, match="there already"):
        write_events(again, found.table)
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted([again.name, name])


def test_obspy_reads_the_quakeml_that_is_written(tmp_path):
    table = catalogue(5)
    write_events(tmp_path / "c.xml", table)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # an id that is no QuakeML URI
        catalog = obspy.read_events(tmp_path / "c.xml", format="QUAKEML")
    assert [e.preferred_origin().time.ns for e in catalog] == list(table.origin_ns)
    assert [e.event_type or "" for e in catalog] == list(table.source_type)


def test_what_cannot_be_written(tmp_path):
    with pytest.raises(UsageError, match=r"\.xml"):
        write_events(tmp_path / "c.xlsx", catalogue(2))
    with pytest.raises(SeislatentError, match="source_latitude_deg"):
        write_events(tmp_path / "c.csv", catalogue(2).drop(columns="source_latitude_deg"))
    with pytest.raises(SeislatentError, match="bar"):
        write_events(tmp_path / "c.txt", catalogue(2).assign(source_id=["a|b", "c"]))
    with pytest.raises(SeislatentError, match="not printable"):
        write_events(tmp_path / "c.xml", catalogue(2).assign(source_type=["a\0b", "c"]))
    with pytest.raises(SeislatentError, match="lacks origin_ns"):
        write_events(tmp_path / "c.csv", catalogue(2).assign(origin_ns=[0, np.nan]))
    with pytest.raises(SeislatentError, match="source_origin_time: 'soon'"):
        write_events(tmp_path / "c.csv", catalogue(2).drop(columns="origin_ns").assign(source_origin_time="soon"))
    with pytest.raises(SeislatentError, match="cannot be written"):
        write_events(tmp_path / "none" / "c.csv", catalogue(2))
    assert not list(tmp_path.iterdir())


def test_fifteen_thousand_events_in_seconds(tmp_path):
    write_events(tmp_path / "c.csv", catalogue(15_000))
    began = time.process_time()
    assert len(read_events(tmp_path / "c.csv")) == 15_000
    assert time.process_time() - began < 5
