import math

import numpy as np
import pandas as pd
import pytest

from seislatent.errors import SeislatentError

pygmm = pytest.importorskip("pygmm", reason="ground-motion models need pygmm: pip install pygmm")

from seislatent.metrics.gmm_residuals import MODELS, VS30_M_S, model_residuals, predict  # noqa: E402

MEASURES = ["PGA_g", "PGV_cm_s", "SA(0.3)_g", "SA(1.0)_g"]


def table(events=8, sites=6, seed=0):
    g = np.random.default_rng(seed)
    rows = []
    for i in range(events):
        for j in range(sites):
            r = float(g.uniform(10, 100))
            rows.append(
                {
                    "event": f"e{i}", "site": f"s{j}", "draw": 0, "component": "RotD50", "source_magnitude": 5 + 0.2 * i,
                    "path_ep_distance_km": r, "path_hyp_distance_km": math.hypot(r, 10), "source_depth_km": 10.0,
                    "station_vs30_m_s": 400.0, **dict.fromkeys(MEASURES, 0.1),
                }
            )  # fmt: skip
    return pd.DataFrame(rows)


def test_medians_are_pygmm_s():
    rows = table(2, 2)
    found = predict(rows, "BSSA14", MEASURES)
    for i, row in enumerate(rows.to_dict("records")):
        model = pygmm.BooreStewartSeyhanAtkinson2014(
            pygmm.Scenario(
                mag=row["source_magnitude"], dist_jb=row["path_ep_distance_km"], v_s30=400.0, mechanism="U", region="global"
            )
        )
        expected = [model.pga, model.pgv, *model.interp_spec_accels([0.3, 1.0])]
        np.testing.assert_allclose(found.ln_median[i].exp(), expected, rtol=1e-12)
        assert found.ln_sigma[i, 0].item() == pytest.approx(model.ln_std_pga)
    assert found.assumed[0] == "dist_jb from path_ep_distance_km"


@pytest.mark.parametrize("name", MODELS)
def test_every_model_predicts(name):
    found = predict(table(1, 2), name, ["PGA_g", "SA(0.3)_g"])
    assert found.ln_median.isfinite().all() and (found.ln_sigma > 0.3).all(), found.assumed
    assert found.ln_median.min() > -6 and found.ln_median.max() < 0


def test_what_is_missing_is_assumed_and_said():
    rows = table(1, 3)
    rows.loc[1, "station_vs30_m_s"] = math.nan
    rows.loc[2, "source_magnitude"] = math.nan
    found = predict(rows, "BSSA14", ["PGA_g"])
    assert f"v_s30={VS30_M_S:g}" in found.assumed[1] and "v_s30" not in found.assumed[0]
    assert found.ln_median[2].isnan() and found.assumed[2] == "no prediction: no source_magnitude"
    far = table(1, 1).assign(path_ep_distance_km=900.0)
    assert "limits" in predict(far, "BSSA14", ["PGA_g"]).assumed[0]
    known = table(1, 1).assign(path_jb_distance_km=5.0, source_mechanism="RS")
    assert predict(known, "BSSA14", ["PGA_g"]).assumed == ("",)


def test_bias_and_events_that_were_put_in_come_out():
    rows = table(40, 8)
    model = predict(rows, "BSSA14", MEASURES)
    g = np.random.default_rng(1)
    term = dict(zip(rows.event.unique(), 0.4 * g.normal(size=40), strict=True))
    lift = 0.3 + rows.event.map(term).to_numpy()[:, None] + 0.5 * g.normal(size=(len(rows), 1))
    rows[MEASURES] = np.exp(model.ln_median.numpy() + lift)
    found = model_residuals(rows, "BSSA14", MEASURES)
    np.testing.assert_allclose(found.total, np.broadcast_to(lift, found.total.shape), atol=1e-9)
    assert found.split.bias[0].item() == pytest.approx(0.3, abs=0.2)
    assert found.split.tau[0].item() == pytest.approx(0.4, abs=0.12) and found.split.phi[2].item() == pytest.approx(0.5, abs=0.06)
    truth = np.array([term[name] for name in found.split.events])
    assert np.corrcoef(found.split.between[:, 0], truth)[0, 1] > 0.85
    np.testing.assert_allclose(found.normalised, found.total / model.ln_sigma)


def test_bad_input():
    rows = table(1, 1)
    with pytest.raises(SeislatentError, match="did you mean 'BSSA14'"):
        predict(rows, "BSSA15", ["PGA_g"])
    for name in ("arias_cm_s", "SA(x)_g"):
        with pytest.raises(SeislatentError, match="predict PGA_g"):
            predict(rows, "BSSA14", [name])
    with pytest.raises(SeislatentError, match="does not predict PGV"):
        predict(rows, "I14", ["PGV_cm_s"])
    with pytest.raises(SeislatentError, match="unknown component"):
        model_residuals(rows, "BSSA14", ["PGA_g"], component="RotD100")
    with pytest.raises(SeislatentError, match="no column 'SA"):
        model_residuals(rows, "BSSA14", ["SA(9.0)_g"])
    strange = predict(rows.assign(source_mechanism="sideways"), "BSSA14", ["PGA_g"])
    assert strange.ln_median.isnan().all() and "source_mechanism among" in strange.assumed[0]
    assert predict(rows, "BSSA14", ["SA(12.0)_g"]).ln_median.isnan().all()
