"""The demo on a small codec, and its record."""

from __future__ import annotations

import json

import numpy as np
import obspy
import pytest
import torch

from seislatent import catalog
from seislatent.errors import SeislatentError
from seislatent.evaluate import demo
from seislatent.io.slat import Codes


@pytest.fixture(scope="module")
def small():
    """A codec of 4-bit books with entries drawn at random."""
    torch.manual_seed(0)
    system = catalog.build("codec/eqcodec", {"width": 4, "lstm_layers": 1, "discriminator_width": 4, "entries": 16})
    system.quantizer.codebooks.normal_(0, 0.3)
    return catalog.wrap(system, "codec/eqcodec")


def test_the_record_is_an_earthquake_of_obspy():
    record = demo.record()
    assert record.ids == ("NZ.CRLZ.10.HHZ",) and record.sampling_rate_hz == 100 and record.duration_s == pytest.approx(327.68)
    x = record.data[0] - record.data[0].mean()
    assert np.abs(x).max() > 8 * x[: 100 * 60].std()


def test_demo(small, tmp_path):
    report = demo.demo(tmp_path / "out", lambda name: small)
    assert {p.name for p in (tmp_path / "out").iterdir()} == {
        "report.json", "report.html", "record.slat", "decoded.mseed", "reconstructions.png", "reconstructions.svg"
    }  # fmt: skip
    told = json.loads((tmp_path / "out" / "report.json").read_text(encoding="utf-8"))
    rows = told["codec"]["points"]
    assert [r["level"] for r in rows] == list(range(1, 9))
    assert [r["bits_per_second"] for r in rows] == [4.0 * k for k in range(1, 9)]
    assert [r["compression_ratio"] for r in rows] == [1280 / (4 * k) for k in range(1, 9)]
    assert rows[-1]["file_bytes"] == (tmp_path / "out" / "record.slat").stat().st_size
    assert all(r["snr_db"] == pytest.approx(-10 * np.log10(r["mse"])) and r["mae"] ** 2 <= r["mse"] for r in rows)
    assert Codes.read(tmp_path / "out" / "record.slat").level == 8
    (trace,), record = obspy.read(str(tmp_path / "out" / "decoded.mseed")).merge(), demo.record()
    assert trace.id == record.ids[0] and trace.stats.npts == record.data.shape[1]
    assert trace.stats.starttime.ns == record.start_ns
    assert "SNR, dB" in str(report)

    with pytest.raises(SeislatentError, match="overwrite"):
        demo.demo(tmp_path / "out", lambda name: pytest.fail("loads before it looks"))


def test_a_failing_section_leaves_nothing(small, tmp_path, monkeypatch):
    def fails(stage):
        (stage.folder / "half").write_text("")
        raise SeislatentError("no")

    monkeypatch.setattr(demo, "SECTIONS", [fails])
    with pytest.raises(SeislatentError, match="no"):
        demo.demo(tmp_path / "out", lambda name: small)
    assert not [*tmp_path.iterdir()]


def test_sections_stand_in_order(tmp_path, monkeypatch):
    from seislatent.evaluate.report import Section

    def second(stage):
        stage.result["second"] = stage.record.ids[0]
        return Section(heading="Second", parts=["<b>text</b>"])

    monkeypatch.setattr(demo, "SECTIONS", [second])
    report = demo.demo(tmp_path / "out", lambda name: None)
    assert [s.heading for s in report.sections] == ["The record", "Second"] and report["second"] == "NZ.CRLZ.10.HHZ"
    assert "&lt;b&gt;" in (tmp_path / "out" / "report.html").read_text(encoding="utf-8")


def test_obspy_without_its_records(monkeypatch):
    monkeypatch.setattr(demo, "RECORD", "signal/tests/data/no_such_file")
    with pytest.raises(SeislatentError, match="pip"):
        demo.record()
