import numpy as np
import pandas as pd
import pytest
import torch

from seislatent.errors import SeislatentError
from seislatent.io.intensity_table import (
    COMPONENTS,
    checked,
    periods_of,
    read_intensity_table,
    write_intensity_table,
    write_openquake,
)
from seislatent.metrics.intensity import Baseline, intensity_measures, names

PERIODS = [0.3, 1.0]


def table():
    """Two events, two sites, two draws; sites with names that look like numbers."""
    rows = []
    for event in ("ci1", "0012"):
        for k, site in enumerate(("007", "NA")):
            for draw in (0, 1):
                for component in COMPONENTS:
                    x = torch.randn(400, generator=torch.Generator().manual_seed(2 * k + draw))
                    found = intensity_measures(x, 100.0, unit="cm/s^2", periods_s=PERIODS)
                    made = {n: v.item() for n, v in found.columns().items()}
                    if component.startswith("Rot"):
                        made = {n: v for n, v in made.items() if n.startswith(("P", "SA"))}
                    place = {"station_longitude_deg": -120.123456 + k, "station_latitude_deg": 35.0}
                    rows.append({"event": event, "site": site, "draw": draw, "component": component, **made, **place})
    return pd.DataFrame(rows)


def test_what_goes_out_comes_back(tmp_path):
    readme = write_intensity_table(tmp_path / "im.csv", table(), meaning=names(PERIODS), baseline=str(Baseline()))
    back = read_intensity_table(tmp_path / "im.csv")
    pd.testing.assert_frame_equal(back, checked(table()))
    assert back.site.tolist()[0] == "007" and "NA" in set(back.site) and "0012" in set(back.event)
    text = readme.read_text()
    assert "0.05 Hz" in text and "| SA(0.3)_g | pseudo-acceleration" in text and "40 rows, 2 events, 2 sites" in text
    assert sorted(p.name for p in tmp_path.iterdir()) == ["im.README.md", "im.csv"]
    assert periods_of(back.columns) == PERIODS
    with pytest.raises(SeislatentError, match="exists"):
        write_intensity_table(tmp_path / "im.csv", table(), meaning=names(PERIODS), baseline="none")
    write_intensity_table(tmp_path / "im.csv", table().head(3), meaning=names(PERIODS), baseline="none", overwrite=True)
    assert len(read_intensity_table(tmp_path / "im.csv")) == 3


def test_openquake_s_columns(tmp_path):
    """eid, sid, gmv_... and site_id, lon, lat, as the engine's manual has them for gmfs_csv and sites_csv."""
    paths = write_openquake(tmp_path / "oq", table())
    gmfs, sites, events = (pd.read_csv(paths[name]) for name in ("gmfs", "sites", "events"))
    assert list(gmfs.columns) == ["eid", "sid", "gmv_PGA", "gmv_PGV", "gmv_PGD", "gmv_SA(0.3)", "gmv_SA(1.0)"]
    assert list(sites.columns) == ["site_id", "lon", "lat"] and sites.lon.tolist() == [-120.12346, -119.12346]
    assert sites.site_id.tolist() == [0, 1] and len(gmfs) == 8 and sorted(gmfs.eid.unique()) == [0, 1, 2, 3]
    assert list(events.columns) == ["eid", "event", "draw"] and len(events) == 4
    rows = table().query("component == 'RotD50' and event == 'ci1' and draw == 1 and site == 'NA'")
    eid = events.query("event == 'ci1' and draw == 1").eid.item()
    assert gmfs[(gmfs.eid == eid) & (gmfs.sid == 1)]["gmv_SA(1.0)"].item() == pytest.approx(rows["SA(1.0)_g"].item(), rel=1e-5)
    with pytest.raises(SeislatentError, match="exists"):
        write_openquake(tmp_path / "oq", table())


@pytest.mark.parametrize(
    ("spoil", "line"),
    [
        (lambda t: t.drop(columns="draw"), "no column 'draw'"),
        (lambda t: t.assign(component="H3"), "unknown component 'H3'"),
        (lambda t: t.assign(draw=-1), "draws are whole numbers"),
        (lambda t: t.assign(draw=0.5), "draws are whole numbers"),
        (lambda t: t.assign(event=None), "has no event"),
        (lambda t: pd.concat([t, t]), "there twice"),
        (lambda t: t[["event", "site", "draw", "component"]], "holds no measure"),
        (lambda t: t.assign(PGA_g=-1.0), "PGA_g holds"),
        (lambda t: t.assign(PGA_g="much"), "PGA_g holds"),
        (lambda t: t.assign(PGA_g=np.inf), "PGA_g holds"),
    ],
)
def test_tables_that_are_none(spoil, line, tmp_path):
    with pytest.raises(SeislatentError, match=line):
        write_intensity_table(tmp_path / "im.csv", spoil(table()), meaning=names(PERIODS), baseline="none")
    assert not list(tmp_path.iterdir())


def test_places_openquake_cannot_take(tmp_path):
    for spoil, line in (
        (lambda t: t.drop(columns="station_latitude_deg"), "no column station_latitude_deg"),
        (lambda t: t.assign(station_latitude_deg=np.nan), "has no place"),
        (lambda t: t.assign(station_latitude_deg=np.arange(len(t))), "has two places"),
        (lambda t: t.assign(station_longitude_deg=0.0), "lies where another does"),
        (lambda t: t.assign(PGA_g=np.nan), "gmv_PGA is missing"),
    ):
        with pytest.raises(SeislatentError, match=line):
            write_openquake(tmp_path / "oq", spoil(table()))
    with pytest.raises(SeislatentError, match="unknown component"):
        write_openquake(tmp_path / "oq", table(), component="RotD51")
    assert not (tmp_path / "oq").exists()


def test_damaged_files(tmp_path):
    (tmp_path / "im.csv").write_bytes(b"\x00\xff\xfe nothing")
    with pytest.raises(SeislatentError, match=r"im\.csv"):
        read_intensity_table(tmp_path / "im.csv")
    with pytest.raises(SeislatentError, match="cannot be read"):
        read_intensity_table(tmp_path / "none.csv")
    with pytest.raises(SeislatentError, match="nobody says"):
        write_intensity_table(tmp_path / "im.csv", table(), meaning={}, baseline="none")
