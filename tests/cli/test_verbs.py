"""Each verb does what the function of its name does."""

from __future__ import annotations

import importlib

import numpy as np
import obspy
import pytest

import seislatent as sl
from seislatent import catalog


@pytest.fixture
def day(tmp_path):
    """Two minutes of noise, as miniSEED."""
    rng = np.random.default_rng(0)
    trace = obspy.Trace(
        rng.normal(0, 1000, 2 * 60 * 40).astype(np.int32),
        {"network": "XX", "station": "AAA", "channel": "BHZ", "sampling_rate": 40.0, "starttime": obspy.UTCDateTime(2020, 1, 1)},
    )
    path = tmp_path / "day.mseed"
    trace.write(str(path), format="MSEED")
    return path


def test_list(run):
    code, out, _ = run("list")
    assert code == 0
    told = run("list", "--json")[1]
    assert [p["name"] for p in told["presets"]] == [*catalog.presets()]
    for name in [*catalog.presets(), *catalog.DATASETS]:
        assert name in out


def test_info_on_presets_and_weights(run, weights):
    code, out, _ = run("info", "codec/eqcodec_small")
    assert code == 0 and "--system.books" in out and "--recipe.steps" in out
    told = run("info", weights, "--json")[1]
    assert told["kind"] == "weights" and told["digest"] == catalog.load(weights).digest and told["name"] == "small"
    assert told["config"]["latent"] == 8


def test_info_on_seismograms_and_folders(run, day, tmp_path):
    told = run("info", day, "--json")[1]
    assert told["kind"] == "waveforms"
    assert told["traces"] == [
        {"id": "XX.AAA..BHZ", "start": "2020-01-01T00:00:00.000000Z", "sampling_rate_hz": 40.0, "samples": 4800}
    ]
    assert run("info", tmp_path, "--json")[1]["first"] == ["day.mseed"]
    assert "XX.AAA..BHZ" in run("info", day)[1]


def test_encode_decode_info(run, day, weights, tmp_path):
    code_file, back = tmp_path / "day.slat", tmp_path / "back.mseed"
    code, _, err = run("encode", day, code_file, "--level", "4", "--system", weights)
    assert code == 0, err
    told = run("info", code_file, "--json")[1]
    assert told["kind"] == "code" and told["level"] == 4
    before = code_file.read_bytes()
    code, _, err = run("encode", day, code_file, "--system", weights)
    assert code == 1 and "overwrite" in err and code_file.read_bytes() == before

    code, _, err = run("decode", code_file, back, "--level", "2")
    assert code == 1 and catalog.load(weights).digest in err and "--system" in err and not back.exists()
    code, _, err = run("decode", code_file, back, "--level", "2", "--system", weights)
    assert code == 0, err
    trace, original = obspy.read(str(back))[0], obspy.read(str(day))[0]
    assert trace.id == original.id and trace.stats.npts == original.stats.npts
    assert trace.stats.starttime == original.stats.starttime
    assert {p.name for p in tmp_path.iterdir()} == {"day.mseed", "day.slat", "back.mseed"}


def test_long_ids_are_renamed_and_lost_files_say_what_is_lost(run, weights, tmp_path):
    trace = obspy.Trace(np.sin(np.arange(4800.0)), {"station": "TOOLONG", "channel": "BHZ", "sampling_rate": 40.0})
    code_file, back = tmp_path / "long.slat", tmp_path / "back.mseed"
    sl.load(weights).encode(trace).write(code_file)
    code, _, err = run("decode", code_file, back, "--system", weights)
    assert code == 1 and ".TOOLONG..BHZ" in err and "--rename" in err
    code, _, err = run("decode", code_file, back, "--system", weights, "--rename", ".TOLONG..BHZ=XX.SHORT..BHZ")
    assert code == 1 and "did you mean '.TOOLONG..BHZ'" in err
    code, _, err = run("decode", code_file, back, "--system", weights, "--rename", ".TOOLONG..BHZ=XX.SHORT..BHZ")
    assert code == 0 and obspy.read(str(back))[0].id == "XX.SHORT..BHZ", err
    code_file.write_bytes(code_file.read_bytes()[: -sl.Codes.read(code_file).body.nbytes])
    code, _, err = run("decode", code_file, back, "--system", weights, "--overwrite", "--rename", ".TOOLONG..BHZ=XX.SHORT..BHZ")
    assert code == 1 and "cut off" in err
    assert "\n  .TOOLONG..BHZ from 1970" in run("info", code_file)[1]


def test_models_take_and_give_streams(day, weights):
    model, stream = sl.load(weights), obspy.read(str(day))
    codes = model.encode(stream, level=4)
    assert isinstance(codes, sl.Codes)
    one, two = model.decode(codes, level=2), model.reconstruct(stream, level=2)
    np.testing.assert_array_equal(one[0].data, two[0].data)
    assert one[0].id == stream[0].id


def test_the_package_exports_its_verbs():
    importlib.import_module("seislatent.evaluate")  # binds the folder, which stays callable
    assert callable(sl.prepare) and callable(sl.read) and callable(sl.write) and callable(sl.list)
    assert callable(sl.evaluate) and set(sl.__all__) <= set(dir(sl))
    with pytest.raises(AttributeError, match="nothing"):
        sl.nothing  # noqa: B018
