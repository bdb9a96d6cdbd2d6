"""`seislatent prepare` and what `seislatent info` tells of a store."""

from __future__ import annotations

import json

import numpy as np
import pytest

from seislatent.data.synthetic import earthquake
from seislatent.io.seisbench import write_seisbench
from seislatent.waveform import Channel


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """Thirty synthetic earthquakes of two stations each, one of them with a component that is dead."""
    rng = np.random.default_rng(2)
    waveforms = []
    for i in range(60):
        made = earthquake(rng, 60.0, 50.0, magnitude=2.0, distance_km=20)
        channels = tuple(Channel(network="XX", station=f"S{i % 2}", code=f"HH{c}", component=c) for c in "ZNE")
        told = made.metadata | {"source_id": f"ev{i // 2}", "trace_name": f"r{i:02d}"}
        data = made.data + rng.normal(scale=1e-8, size=made.data.shape).astype(np.float32)
        data = data * np.array([[0], [1], [1]], np.float32) if i == 5 else data
        waveforms.append(made.with_data(data, did="a test", channels=channels, start_ns=(i // 2) * 10**13 + 10**15, metadata=told))
    return write_seisbench(tmp_path_factory.mktemp("prepared") / "set", waveforms)


def test_from_a_folder_to_a_store(run, source, tmp_path):
    code, told, err = run("prepare", "data/codec", "--data", source, "--out", tmp_path / "store", "--json")
    assert code == 0 and "60 of 60 records" in err
    assert told["kind"] == "store" and told["records"] == 179 and told["leaks"] == [] and told["rejected"] == {"dead component": 1}
    assert set(told["splits"]) == {"train", "dev", "test"} and sum(told["splits"].values()) == 179
    assert told["sampling_rate_hz"] == {"40.0": 179} and told["recipe"] == "data/codec" and told["events"] == 30
    again = run("info", tmp_path / "store", "--json")[1]
    assert again == told
    assert (tmp_path / "store" / "overview.png").read_bytes()[:4] == b"\x89PNG"
    code, told, _ = run("info", tmp_path / "store", "--out", tmp_path / "look.svg", "--json")
    assert code == 0 and told["figure"].endswith("look.svg") and b"SNR of the best" in (tmp_path / "look.svg").read_bytes()
    assert "exists" in run("info", tmp_path / "store", "--out", tmp_path / "look.svg")[2]
    code, _, err = run("prepare", "data/codec", "--data", source, "--out", tmp_path / "store", "--recipe.sampling_rate_hz", "20")
    assert code == 1 and "another store" in err
    code, told, _ = run(
        "prepare", "data/codec", "--data", source, "--out", tmp_path / "store", "--recipe.sampling_rate_hz", "20",
        "--split.by", "station", "--overwrite", "--json",
    )  # fmt: skip
    assert code == 0 and told["sampling_rate_hz"] == {"20.0": 179} and told["kept_apart"] == ["station"] and told["leaks"] == []


def test_a_set_without_station_codes_is_prepared_and_told(run, source, tmp_path):
    """Sets of one network often have no column for it: stations are counted by the codes there are."""
    import shutil

    import pandas as pd

    names = ["station_network_code", "station_code"]
    for gone, stations in (([names[0]], 2), ([names[1]], 1), (names, None)):
        folder = shutil.copytree(source, tmp_path / f"set{len(gone)}{stations}")
        table = pd.read_csv(folder / "metadata.csv")
        table.drop(columns=gone).to_csv(folder / "metadata.csv", index=False)
        code, told, err = run(
            "prepare", "data/codec", "--data", folder, "--out", tmp_path / f"store{len(gone)}{stations}", "--json"
        )
        assert code == 0 and told["records"] == 179 and told["stations"] == stations, err
        assert not {*gone} & {*told["columns"]}


def test_records_go_back_to_files(run, source, tmp_path):
    from seislatent.data.records import open_records
    from seislatent.data.store import Store
    from seislatent.io.files import read

    folders = ["--miniseed", tmp_path / "files", "--seisbench", tmp_path / "set"]
    assert run("prepare", "data/codec", "--data", source, "--out", tmp_path / "store", *folders)[0] == 0
    store, table = Store(tmp_path / "store"), open_records(tmp_path / "set")
    assert len(table) == len(store) == len(list((tmp_path / "files").glob("*.mseed")))
    for i in (0, 7, 100):
        np.testing.assert_array_equal(table[i].data, store[i].data)
        assert table[i].history == store[i].history and table[i].metadata["split"] == store[i].metadata["split"]
        (back,) = read(tmp_path / "files" / f"{store[i].metadata['trace_name']}.mseed")
        np.testing.assert_array_equal(back.data, store[i].data)
        assert back.ids == store[i].ids and abs(back.start_ns - store[i].start_ns) <= 1000
    code, _, err = run("prepare", "data/codec", "--data", source, "--out", tmp_path / "store", *folders)
    assert code == 1 and "holds files already" in err


def test_quality_is_measured_on_what_is_read(run, source, tmp_path):
    from seislatent.data.records import open_records
    from seislatent.data.store import Store
    from seislatent.prepare.quality import measure

    told = run("prepare", "data/codec", "--data", source, "--out", tmp_path / "store", "--quality", "--json")[1]
    store = Store(tmp_path / "store")
    whole = {w.metadata["trace_name"]: w for w in open_records(source)}
    for i in (0, 50, 178):
        record = store[i]
        expected = measure(whole[record.metadata["trace_source"].split("/")[1]])
        assert record.metadata["trace_N_gap_share"] == expected["trace_N_gap_share"]
        assert record.metadata["trace_Z_dead"] == expected["trace_Z_dead"]
        assert record.metadata.get("trace_N_snr_db", np.nan) == pytest.approx(expected["trace_N_snr_db"], nan_ok=True)
    assert store.metadata["trace_N_snr_db"].notna().any() and store.metadata["trace_Z_dead"].sum() == 2
    assert told["records"] == 179 and store.about["quality"] is True


def test_the_leak_is_found(run, source, tmp_path):
    """What `info` calls proof must see a leak where there is one."""
    from seislatent.data.shards import open_table, write_table

    run("prepare", "data/codec", "--data", source, "--out", tmp_path / "store")
    path = tmp_path / "store" / "records.parquet"
    file, about = open_table(path)
    table = file.read()
    rows = table["split"].to_pylist()
    at = next(i for i, name in enumerate(rows) if name == "test")
    rows[at] = "train"
    write_table(table.set_column(table.column_names.index("split"), "split", [rows]), path, about)
    _, told, _ = run("info", tmp_path / "store", "--json")
    assert len(told["leaks"]) == 1 and told["leaks"][0]["splits"] == "test, train" and told["leaks"][0]["by"] == "event"


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["data/marmera"], "data/marmara"),
        (["data/codec", "--recipe.sampling_rate", "20"], "sampling_rate_hz"),
        (["data/codec", "--split.by", "evnt"], "event"),
    ],
)
def test_names_that_are_not_known(run, source, tmp_path, words, line):
    code, _, err = run("prepare", *words, "--data", source, "--out", tmp_path / "store")
    assert code and line in err and len(err.strip().splitlines()) == 1 and not (tmp_path / "store").exists()


def test_folders_that_are_not_ours_stay(run, source, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years of work")
    code, _, err = run("prepare", "data/codec", "--data", source, "--out", tmp_path / "mine", "--overwrite")
    assert code == 1 and "no store" in err and (tmp_path / "mine" / "thesis.txt").exists()
    code, _, err = run("prepare", "data/codec", "--data", tmp_path / "nowhere", "--out", tmp_path / "store")
    assert code == 1 and "nowhere does not exist" in err


def test_help_and_list_name_every_recipe(run, capsys):
    from seislatent import stores

    listed = {row["name"] for row in run("list", "--json")[1]["recipes"]}
    text = run("prepare", "--help")[1]
    assert listed == set(stores.presets()) and all(name in text for name in listed)
    told = run("prepare", "data/pairs", "--help")[1]
    assert "--recipe.samples 4096" in told and "Length of a window in samples" in told and "--split.by event" in told


@pytest.mark.parametrize("name", ["data/codec", "data/pairs", "data/marmara", "data/groups", "data/labelled", "data/noise"])
def test_info_tells_the_keys_of_a_recipe(run, name):
    code, told, _ = run("info", name, "--json")
    assert code == 0 and told["kind"] == "data recipe" and all(row["meaning"] for row in told["keys"])
    assert json.dumps(told)


def test_a_name_that_is_nothing_and_a_store_that_is_half_made(run, tmp_path):
    code, _, err = run("info", "nothing_there")
    assert code == 1 and "no such file or folder" in err
    (tmp_path / "half" / "shards").mkdir(parents=True)
    (tmp_path / "half" / "plan.json").write_text("{}")
    code, _, err = run("info", tmp_path / "half")
    assert code == 1 and "half made" in err and "again" in err


def test_a_recipe_that_takes_nothing_tells_where_to_look(run, source, tmp_path):
    code, _, err = run("prepare", "data/kong_noise", "--data", source, "--out", tmp_path / "s", "--recipe.classes", "[explosion]")
    assert code == 1 and "not asked for (60)" in err and "prepare data/kong_noise --help" in err and not (tmp_path / "s").exists()


def test_a_store_and_its_source_do_not_lie_in_each_other(run, source, tmp_path):
    for data, out in ((source, source), (source, source / "store"), (source / "metadata.csv", source)):
        code, _, err = run("prepare", "data/codec", "--data", data, "--out", out, "--overwrite")
        assert code == 1 and "lie in each other" in err and (source / "metadata.csv").exists()
    assert run("prepare", "data/codec", "--data", source, "--out", tmp_path / "store")[0] == 0
    code, _, err = run("prepare", "data/codec", "--data", tmp_path / "mistyped", "--out", tmp_path / "store", "--overwrite")
    assert code == 1 and "does not exist" in err and (tmp_path / "store" / "records.parquet").exists(), "nothing is taken away"
