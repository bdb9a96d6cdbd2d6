"""`seislatent pick` and `seislatent classify`, and the same in Python on ObsPy streams."""

from __future__ import annotations

import obspy
import pytest
import torch
from obspy import Stream, UTCDateTime

from seislatent import catalog
from seislatent.errors import SeislatentError
from seislatent.io.picks import read_picks

SMALL = {"widths": [4, 4, 4, 4], "dilations": [1], "level_s": 2.0, "samples": 4096}


@pytest.fixture(scope="module")
def picker(tmp_path_factory):
    """A picker of random weights that picks something in an example of ObsPy."""
    torch.manual_seed(3)
    system = catalog.build("features/picker", SMALL)
    with torch.no_grad():
        system.last.weight.normal_(std=0.5)
        system.last.bias.zero_()
        system.times.fill_(0.07)
    return catalog.save(tmp_path_factory.mktemp("weights") / "picker.safetensors", system, "features/picker")


@pytest.fixture(scope="module")
def discriminator(tmp_path_factory):
    torch.manual_seed(0)
    system = catalog.build("features/classifier", {"kernels": 4, "dense": 8})
    return catalog.save(tmp_path_factory.mktemp("weights") / "noise.safetensors", system, "features/classifier")


@pytest.fixture
def day(tmp_path):
    obspy.read().write(str(tmp_path / "day.mseed"), format="MSEED")
    return tmp_path / "day.mseed"


def test_pick_writes_what_the_ending_says_and_tells_it(run, day, picker, tmp_path):
    out = tmp_path / "picks.xml"
    code, told, _ = run("pick", day, "--system", picker, "--out", out, "--json")
    assert code == 0 and told["file"] == str(out) and sum(told["picks"].values()) > 0 and told["stations"] == 1
    events = obspy.read_events(str(out))
    picks = [p for event in events for p in event.picks]
    assert len(picks) == sum(told["picks"].values())
    assert all(p.waveform_id.get_seed_string().startswith("BW.RJOB..EH") for p in picks)
    assert all(p.evaluation_mode == "automatic" and p.time_errors.uncertainty == pytest.approx(0.07) for p in picks)
    assert all(str(p.method_id).endswith(catalog.load(picker).digest) for p in picks)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["day.mseed", "picks.xml"], "nothing half made is left"
    for ending in ("csv", "json", "obs", "sc3ml"):
        assert run("pick", day, "--system", picker, "--out", tmp_path / f"picks.{ending}")[0] == 0
    assert list(read_picks(tmp_path / "picks.csv").table["time_ns"]) == [p.time.ns for p in picks] or len(picks)


def test_pick_refuses_in_one_line(run, day, picker, tmp_path, discriminator):
    for words, told in {
        (day, "--out", tmp_path / "picks.txt"): "ending tells no format",
        (day, "--out", day, "--format", "csv"): "exists",
        (day, "--out", tmp_path / "no" / "p.csv"): "no folder",
        (day, "--p-threshold", "2"): "threshold of 2",
        (tmp_path / "none.mseed",): "no such file",
        (day, "--overlap", "9999"): "overlap",
    }.items():
        code, _, err = run("pick", *words, "--system", picker)
        assert code == 1 and told in err and len(err.strip().splitlines()) == 1
    code, _, err = run("pick", day, "--system", discriminator)
    assert code == 1 and "no picker" in err
    code, _, err = run("classify", day, "--system", picker)
    assert code == 1 and "no classifier" in err


def test_classify_gives_records(run, day, discriminator, tmp_path):
    code, told, _ = run("classify", day, "--system", discriminator, "--json", "--out", tmp_path / "t.csv")
    assert code == 0 and len(told["records"]) == 1
    one = told["records"][0]
    assert {"id", "start", "label", "probability"} <= one.keys() and one["id"] == "BW.RJOB..EH"
    assert one["label"] in ("noise", "earthquake", "unknown") and 0 <= one["probability"] <= 1
    assert one["start"].startswith("2009-08-24T00:20:03")
    assert (tmp_path / "t.csv").read_text().startswith("id,start,end,label,probability,noise,earthquake\n")
    code, shown, _ = run("classify", day, "--system", discriminator)
    assert code == 0 and "BW.RJOB..EH" in shown


# -- in Python --------------------------------------------------------------------------------------------------------------------


def test_annotate_gives_probability_traces(picker):
    model = catalog.load(picker)
    stream = obspy.read()
    found = model.annotate(stream)
    assert [t.id for t in found] == ["BW.RJOB..PhasePicker_P", "BW.RJOB..PhasePicker_S"]
    for trace in found:
        assert trace.stats.sampling_rate == 100 and 0 <= trace.data.min() <= trace.data.max() <= 1
        assert stream[0].stats.starttime < trace.stats.starttime < trace.stats.endtime < stream[0].stats.endtime
    gap = stream.copy().cutout(UTCDateTime("2009-08-24T00:20:15"), UTCDateTime("2009-08-24T00:20:18"))
    for other in (gap, gap.copy().merge()):
        halves = model.annotate(other)
        assert len(halves) == 4 and all(
            t.stats.endtime < UTCDateTime("2009-08-24T00:20:15") or t.stats.starttime > UTCDateTime("2009-08-24T00:20:18")
            for t in halves
        )
    assert model.annotate(stream, overlap=0.9, stacking="avg", batch_size=2)[0].stats.npts == found[0].stats.npts


def test_classify_gives_picks_as_users_of_seisbench_know_them(picker):
    model = catalog.load(picker)
    result = model.classify(obspy.read(), P_threshold=0.2)
    assert len(result.picks) and result.creator.startswith("features/picker/")
    pick = result.picks[0]
    assert pick.trace_id == "BW.RJOB." and pick.phase in "PS" and 0.2 <= pick.peak_value <= 1
    assert pick.start_time <= pick.peak_time <= pick.end_time
    table = result.picks.to_dataframe()
    assert {"trace_id", "start_time", "end_time", "peak_time", "peak_value", "phase"} <= set(table) and len(table) == len(
        result.picks
    )
    assert table["peak_time"].dtype.kind == "M"
    fewer = model.classify(obspy.read(), P_threshold=0.99, S_threshold=0.99).picks
    assert len(fewer) < len(result.picks) and all(p.peak_value >= 0.99 for p in fewer)
    for word, near in {"p_threshold": "P_threshold", "batchsize": "batch_size"}.items():
        with pytest.raises(SeislatentError, match=f"did you mean '{near}'"):
            model.classify(obspy.read(), **{word: 0.5})


def test_streams_with_nothing_in_them(picker):
    model = catalog.load(picker)
    assert len(model.annotate(Stream())) == 0 and len(model.classify(Stream()).picks) == 0
    assert model.classify(Stream()).picks.to_dataframe().empty


def test_components_and_stations_of_a_stream(picker):
    model = catalog.load(picker)
    stream = obspy.read()
    wrong = Stream([stream[2], stream[0], stream[1]])
    times = [p.peak_time for p in model.classify(stream).picks]
    assert [p.peak_time for p in model.classify(wrong).picks] == times
    turned = stream.copy()
    turned[1].stats.channel, turned[2].stats.channel = "EH1", "EH2"
    assert [p.peak_time for p in model.classify(turned).picks] == times
    only = model.classify(turned, flexible_horizontal_components=False)
    assert len(only.notes) == 2
    assert not model.classify(stream[:1], strict=True).picks and model.classify(stream[:1], strict=True).notes
    other = stream.copy()
    for trace in other:
        trace.stats.location = "10"
    ids = {p.trace_id for p in model.classify(stream + other).picks}
    assert ids == {"BW.RJOB.", "BW.RJOB.10"}


def test_predict_and_embed(discriminator, picker):
    model = catalog.load(discriminator)
    (one,) = model.predict(obspy.read())
    assert one.label in ("noise", "earthquake", "unknown") and one.start_time == obspy.read()[0].stats.starttime
    assert model.predict(obspy.read()).to_dataframe()["label"][0] == one.label
    with pytest.raises(SeislatentError, match="use predict"):
        model.classify(obspy.read())
    encoder = catalog.wrap(catalog.build("features/autoencoder"), "features/autoencoder")
    features = encoder.embed(obspy.read())
    assert features.vectors.shape[0] == len(features.trace_id) == len(features.start_time) >= 1
    short = obspy.read().trim(endtime=obspy.read()[0].stats.starttime + 10)
    assert encoder.embed(short).vectors.shape == (1, features.vectors.shape[1])
    with pytest.raises(SeislatentError, match="no embedder"):
        catalog.load(picker).embed(obspy.read())
