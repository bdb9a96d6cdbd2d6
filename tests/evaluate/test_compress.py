"""The question `compress`: numbers by hand, the schema, what is left out, the page."""

from __future__ import annotations

import html.parser
import json
import logging
import math
import re

import numpy as np
import pytest
from knowncodec import KnownModel, square

import seislatent as sl
from seislatent.cli import main as command
from seislatent.errors import SeislatentError
from seislatent.evaluate import compress, evaluate
from seislatent.evaluate.tally import codebooks
from seislatent.io.seisbench import write_seisbench

MEASURES = {"mse", "mae", "snr_db"}
RATES = {"bits_per_second", "compression_ratio", "file_bits_per_second", "file_compression_ratio", "bits_per_sample"}
RATES |= {"payload_bits_per_sample"}


@pytest.fixture
def clean(tmp_path):
    """Three records that the codec knows."""
    return write_seisbench(tmp_path / "clean", [square(event=f"e{i}", start=(i + 1) * 10**18) for i in range(3)])


def test_numbers_by_hand(known, clean):
    report = sl.evaluate("compress", known, clean, window_s=30)
    assert (report["records"], report["events"], report["traces"], report["skipped"]) == (3, 3, 3, {})
    assert report["hours"] == pytest.approx(3 / 60)
    told = report["systems"]["codec/known"]
    for k, point in enumerate(told["points"], 1):
        assert point["level"] == k and point["bits_per_second"]["mean"] == 10 * k
        assert point["compression_ratio"]["mean"] == pytest.approx(128 / k)
        for name in ("snr_db", "snr_db_own_rate", "snr_db_window"):
            assert point[name] == pytest.approx({"mean": 20 * k, "std": 0, "low": 20 * k, "high": 20 * k}, abs=1e-6)
        assert point["mse"]["mean"] == pytest.approx(10.0 ** (-2 * k)) and point["mae"]["mean"] == pytest.approx(10.0**-k)
        assert point["quantiser_loss_db"]["mean"] == pytest.approx(60 - 20 * k)
        assert point["file_bits_per_second"]["mean"] > point["bits_per_second"]["mean"]
        assert point["bits_per_sample"]["mean"] == pytest.approx(point["file_bits_per_second"]["mean"] / 40)
        assert point["file_compression_ratio"]["mean"] == pytest.approx(1280 / point["file_bits_per_second"]["mean"])
    assert told["codebooks"][0] == pytest.approx({"book": 1, "perplexity": 2, "used_share": 2 / 1024, "frames": 180})
    assert told["sets"]["clean"]["traces"] == 3 and told["sets"]["clean"]["snr_db"][1]["mean"] == pytest.approx(40)


def test_schema(known, folder, tmp_path):
    evaluate("compress", [known], folder, "test", tmp_path / "out", window_s=20)
    told = json.loads((tmp_path / "out" / "report.json").read_text(encoding="utf-8"))
    assert set(told) == {
        "question", "records", "events", "traces", "hours", "systems", "skipped", "data", "split", "window_s", "silent_windows",
        "interval", "version", "command", "differences",
    }  # fmt: skip
    assert told["differences"] == []
    system = told["systems"]["codec/known"]
    assert set(system) == {
        "weights", "version", "sampling_rate_hz", "records", "traces", "skipped", "points", "unquantised", "codebooks", "sets",
        "worst",
    }  # fmt: skip
    assert [set(w) for w in system["worst"]] == [{"trace", "start", "event", "snr_db", "eg", "pg"}] * 7
    everything = RATES | MEASURES | {"eg", "pg"} | {f"{m}_own_rate" for m in MEASURES} | {f"{m}_window" for m in MEASURES}
    for point in system["points"]:
        assert set(point) == {"level", "quantiser_loss_db"} | everything
        for name in everything:
            assert set(point[name]) == {"mean", "std", "low", "high"}
            assert point[name]["low"] <= point[name]["mean"] <= point[name]["high"] and point[name]["std"] >= 0
    assert {p.name for p in (tmp_path / "out").iterdir()} == {
        "report.json", "report.html", "rate_distortion.png", "rate_distortion.svg", "examples_1.png", "examples_1.svg",
        "goodness_of_fit.png", "goodness_of_fit.svg", "worst_1.png", "worst_1.svg",
    }  # fmt: skip


def test_what_is_left_out_is_counted(known, folder):
    report = evaluate("compress", known, folder)
    assert report["skipped"] == {"silent (all samples equal)": 2, "values that are not finite": 1}
    assert (report["records"], report["events"], report["traces"]) == (4, 4, 7)
    assert all(math.isfinite(v["mean"]) for p in report["systems"]["codec/known"]["points"] for k, v in p.items() if k != "level")
    assert evaluate("compress", known, folder, "all")["traces"] == 8
    assert evaluate("compress", known, folder, "train")["traces"] == 1


def test_records_that_cannot_be_read_are_counted(known, clean, monkeypatch, caplog):
    opened = compress.open_records(clean)

    class Broken(type(opened)):
        def __getitem__(self, i):
            if i == 1:
                raise SeislatentError("this one is gone")
            return super().__getitem__(i)

        def select(self, rows):
            return self

    monkeypatch.setattr(compress, "open_records", lambda _, **how: Broken(opened.parts, opened.metadata, opened._where))
    with caplog.at_level(logging.WARNING):
        report = evaluate("compress", known, clean)
    assert report["skipped"] == {"cannot be read": 1} and report["traces"] == 2 and "this one is gone" in caplog.text


def test_nothing_to_judge(known, tmp_path):
    silent = write_seisbench(tmp_path / "silent", [square(amplitude=0)])
    with pytest.raises(SeislatentError, match=r"none of the 1 records can be judged with codec/known \(silent"):
        evaluate("compress", known, silent, "all", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_one_level(known, clean):
    (point,) = evaluate("reconstruct", known, clean)["systems"]["codec/known"]["points"]
    assert point["level"] == 2
    (point,) = evaluate("reconstruct", known, clean, level=1)["systems"]["codec/known"]["points"]
    assert point["snr_db"]["mean"] == pytest.approx(20)


def test_several_systems_and_processes(known, clean):
    twin = KnownModel(digest="fedcba9876543210")
    one = evaluate("compress", [known, twin], clean)
    assert [*one["systems"]] == ["codec/known 0123456789abcdef", "codec/known fedcba9876543210"]
    two = evaluate("compress", [known, twin], clean, workers=2)
    assert dict(one) == dict(two)


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        (dict(question="kompress"), "did you mean 'compress'"),
        (dict(split="tset"), "did you mean 'test'"),
        (dict(split="dev"), r"no record of split 'dev' \(3 in test\)"),
        (dict(systems="codec/eqcodec_small"), r"no classical coder: give seislatent.load\('codec/eqcodec_small'\)"),
        (dict(systems=[]), "at least one"),
        (dict(systems=[KnownModel(), KnownModel()]), "given twice"),
        (dict(systems=KnownModel(system=object())), "no codec"),
        (dict(level=3), "reconstruct"),
        (dict(question="reconstruct", level=3), "levels 1 to 2"),
        (dict(window_s=0.0), "at least two samples"),
        (dict(workers=0), "1 or more"),
        (dict(data="nowhere"), "nowhere does not exist"),
    ],
)  # fmt: skip
def test_refusals(known, clean, asked, message):
    with pytest.raises(SeislatentError, match=message):
        evaluate(**{"question": "compress", "systems": known, "data": clean, "split": "test"} | asked)


def test_a_file_in_the_working_folder(known, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    sl.write([square()], "day.mseed")
    report = evaluate("compress", known, "day.mseed", "all")
    assert report["systems"]["codec/known"]["sets"]["."]["traces"] == 1
    assert report["systems"]["codec/known"]["points"][0]["snr_db"] == pytest.approx(
        {"mean": 20, "std": 0, "low": None, "high": None}
    )


def test_codebooks_by_hand():
    told = codebooks(np.array([[4, 4, 0, 0], [9, 0, 0, 0], [1, 1, 1, 1]]), 4)
    assert [t["perplexity"] for t in told] == pytest.approx([2, 1, 4]) and [t["used_share"] for t in told] == [0.5, 0.25, 1]


class Page(html.parser.HTMLParser):
    """Tags that open and close, and every address."""

    def __init__(self):
        super().__init__()
        self.open, self.addresses = [], []

    def handle_starttag(self, tag, attrs):
        self.addresses += [v for k, v in attrs if k in ("src", "href", "data", "action", "srcset", "poster")]
        if tag not in ("meta", "img", "br", "hr", "link"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def test_page_stands_alone_and_escapes(known, clean, tmp_path):
    known.name = "codec/<script>alert(1)</script>&$x_"
    evaluate("compress", known, clean, "test", tmp_path / "out")
    text = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    page = Page()
    page.feed(text)
    assert not page.open and page.addresses and all(a.startswith("data:image/png;base64,") for a in page.addresses)
    assert "<script" not in text and "@import" not in text and not re.search(r"url\(|https?://", text)
    assert "&lt;script&gt;" in text and "prefers-color-scheme: dark" in text and "@media print" in text and "viewport" in text


def test_overwrite_and_places(known, clean, tmp_path):
    out = tmp_path / "deep" / "out"
    first = evaluate("compress", known, clean, "test", out)
    (out / "mine.txt").write_text("kept")
    with pytest.raises(SeislatentError, match=r"report.json exists: .*--overwrite"):
        evaluate("compress", known, clean, "test", out)
    before = (out / "report.html").read_bytes(), (out / "rate_distortion.svg").read_bytes()
    again = evaluate("compress", known, clean, "test", out, overwrite=True)
    assert dict(first) == dict(again) and (out / "mine.txt").exists()
    assert before == ((out / "report.html").read_bytes(), (out / "rate_distortion.svg").read_bytes())
    assert [p.name for p in out.parent.iterdir()] == ["out"]
    with pytest.raises(SeislatentError, match="is a file"):
        evaluate("compress", known, clean, "test", out / "mine.txt")
    with pytest.raises(SeislatentError, match="no folder"):
        evaluate("compress", known, clean, "test", out / "mine.txt" / "x")


def test_report_in_a_notebook_and_a_terminal(known, clean, tmp_path):
    report = evaluate("compress", known, clean, "test", tmp_path / "out")
    text = str(report)
    assert "SNR, dB" in text and "0.01610 ± 0.1256" in text and str(tmp_path / "out" / "report.html") in text.splitlines()[-1]
    assert report._repr_html_().startswith("<h1>") and "<table>" in report._repr_html_()


def test_the_verb(clean, tmp_path, monkeypatch, capsys):
    from seislatent import catalog

    monkeypatch.setattr(catalog, "load", lambda name: KnownModel(name=name))
    words = ["evaluate", "compress", "--systems", "a,b", "--data", str(clean), "--out", str(tmp_path / "out")]
    words += ["--json", "--window", "30"]
    assert command.main(words) == 0
    told = json.loads(capsys.readouterr().out)
    assert told == json.loads((tmp_path / "out" / "report.json").read_text(encoding="utf-8"))
    assert [*told["systems"]] == ["a", "b"] and told["window_s"] == 30
    assert command.main(words) == 1 and "--overwrite" in capsys.readouterr().err
