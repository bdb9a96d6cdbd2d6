import math
import os
from pathlib import Path

import numpy as np
import pytest
import torch

from seislatent.errors import SeislatentError
from seislatent.metrics.intensity import (
    ASI_PERIODS_S,
    G_CM,
    MEANING,
    RAW,
    Baseline,
    corrected,
    duration,
    husid,
    intensity_measures,
    names,
    spectral_name,
    spectrum,
)
from seislatent.metrics.rotated import ANGLES_DEG, over_angles, rotated_measures, turned_peaks

RATE = 100.0


def quake(*shape, seed=0, n=1200):
    x = torch.randn(*shape, n, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    f = torch.fft.rfftfreq(n, 1 / RATE)
    x = x * torch.exp(-(((torch.arange(n) - n / 2) / (n / 8)) ** 2))
    return 300 * torch.fft.irfft(torch.fft.rfft(x) * f / (1 + f) * torch.exp(-0.08 * f), n)


def direct(a, step):
    """Loops over samples, in cm and s; nothing shared with the code under test."""
    v, d, energy, cav, cad, v2 = [0.0], [0.0], [0.0], 0.0, 0.0, 0.0
    for k in range(1, len(a)):
        v.append(v[-1] + step * (a[k] + a[k - 1]) / 2)
        d.append(d[-1] + step * (v[k] + v[k - 1]) / 2)
        energy.append(energy[-1] + step * (a[k] ** 2 + a[k - 1] ** 2) / 2)
        cav += step * (abs(a[k]) + abs(a[k - 1])) / 2
        cad += step * (abs(v[k]) + abs(v[k - 1])) / 2
        v2 += step * (v[k] ** 2 + v[k - 1] ** 2) / 2
    share = np.array(energy) / energy[-1]
    when = dict(zip((5, 20, 75, 80, 95), np.interp([0.05, 0.2, 0.75, 0.8, 0.95], share, step * np.arange(len(a))), strict=True))
    return {
        "PGA_g": max(map(abs, a)) / 980.665, "PGV_cm_s": max(map(abs, v)), "PGD_cm": max(map(abs, d)),
        "arias_cm_s": math.pi / (2 * 980.665) * energy[-1], "CAV_cm_s": cav, "CAD_cm": cad, "IV_cm": v2 / max(map(abs, v)),
        "D5_75_s": when[75] - when[5], "D5_95_s": when[95] - when[5], "D20_80_s": when[80] - when[20],
    }  # fmt: skip


def test_direct_integration():
    x = quake(2, 3)
    found = intensity_measures(x, RATE, unit="cm/s^2", baseline=RAW, periods_s=[0.3]).columns()
    for i in range(2):
        for j in range(3):
            for name, value in direct(x[i, j].tolist(), 1 / RATE).items():
                assert found[name][i, j].item() == pytest.approx(value, rel=1e-9), name


def test_values_by_hand():
    """1 m/s^2 for 2 s: 2 m/s, 2 m; Arias pi / 2g times 2 m^2/s^3; durations shares of 2 s."""
    found = intensity_measures(torch.ones(201), RATE, unit="m/s^2", baseline=RAW, periods_s=[0.3])
    by_hand = {
        "PGA_g": 1 / 9.80665, "PGV_cm_s": 200.0, "PGD_cm": 200.0, "arias_cm_s": 100 * math.pi / 9.80665, "CAV_cm_s": 200.0,
        "CAV_std_cm_s": 200.0, "CAD_cm": 200.0, "IV_cm": 2**3 / 3 * 100 / 2, "D5_75_s": 1.4, "D5_95_s": 1.8, "D20_80_s": 1.2,
    }  # fmt: skip
    for name, value in by_hand.items():
        assert found.columns()[name].item() == pytest.approx(value, rel=1e-4), name


def test_units_say_what_they_are():
    x = quake(1)
    one, two, three = (
        intensity_measures(a, RATE, unit=u, periods_s=[0.3, 1.0]).columns()
        for a, u in ((x, "cm/s^2"), (x / 100, "m/s^2"), (x / 980.665, "g"))
    )
    for name, value in one.items():
        torch.testing.assert_close(two[name], value, rtol=1e-9, atol=0)
        torch.testing.assert_close(three[name], value, rtol=1e-9, atol=0)
    assert set(one) == set(names([0.3, 1.0])) and set(MEANING) < set(one)
    with pytest.raises(SeislatentError, match="counts and velocities"):
        intensity_measures(x, RATE, unit="m/s")


def test_columns_have_openquake_s_periods():
    assert [spectral_name(p) for p in (0.3, 1, 0.01, 10.0, 1 / 3)] == [
        "SA(0.3)_g", "SA(1.0)_g", "SA(0.01)_g", "SA(10.0)_g", "SA(0.333333)_g",
    ]  # fmt: skip


def test_spectrum_intensities_are_integrals_over_periods():
    x = quake(1)
    found = intensity_measures(x, RATE, unit="cm/s^2", baseline=RAW, periods_s=ASI_PERIODS_S)
    assert found.ASI_cm_s.item() == pytest.approx(np.trapezoid(found.SA_g[0].numpy(), ASI_PERIODS_S) * G_CM, rel=1e-9)
    fine = np.linspace(0.1, 2.5, 200)
    psv = spectrum(x, RATE, fine.tolist())[0].numpy() * fine / (2 * np.pi)
    assert found.SI_cm.item() == pytest.approx(np.trapezoid(psv, fine), rel=0.03)


def test_standardised_cav_counts_strong_seconds_only():
    x = torch.zeros(401, dtype=torch.float64)
    x[110:190] = 0.024 * G_CM
    assert intensity_measures(x, RATE, unit="cm/s^2", baseline=RAW, periods_s=[]).CAV_std_cm_s == 0
    x[250] = 0.03 * G_CM
    found = intensity_measures(x, RATE, unit="cm/s^2", baseline=RAW, periods_s=[])
    assert found.CAV_std_cm_s.item() == pytest.approx(0.03 * G_CM / RATE)
    assert found.CAV_cm_s.item() > 10 * found.CAV_std_cm_s.item()


def test_baseline_takes_drift_away_and_keeps_the_rest():
    t = torch.arange(6001, dtype=torch.float64) / RATE
    wave = torch.exp(-(((t - 30) / 4) ** 2)) * torch.sin(2 * torch.pi * 1.0 * t)
    drifting = wave + 0.02 + 1e-4 * t
    plain = corrected(drifting, RATE, unit="cm/s^2", baseline=RAW)
    mended = corrected(drifting, RATE, unit="cm/s^2")
    assert plain.d_cm.abs().amax() > 30 and mended.d_cm.abs().amax() < 0.06
    torch.testing.assert_close(mended.a_cm_s2[1500:4500], wave[1500:4500], atol=2e-3, rtol=0)
    torch.testing.assert_close(mended.v_cm_s.abs().amax(), torch.tensor(1 / (2 * torch.pi)), rtol=0.02, atol=0, check_dtype=False)
    assert "0.05 Hz" in str(Baseline()) and "120 s" in str(Baseline()) and str(RAW).startswith("none")


def test_corner_halves_the_amplitude():
    t = torch.arange(60001, dtype=torch.float64) / 20
    x = torch.sin(2 * torch.pi * 0.1 * t) * torch.exp(-(((t - 1500) / 500) ** 2))
    kept = corrected(x, 20.0, unit="cm/s^2", baseline=Baseline(highpass_hz=0.1, taper_share=0, demean=False)).a_cm_s2
    assert kept.abs().amax().item() == pytest.approx(0.5, abs=0.01)
    with pytest.raises(SeislatentError, match="half the rate"):
        corrected(x, 20.0, unit="cm/s^2", baseline=Baseline(highpass_hz=10.0))


def test_silence_constants_nan_and_short_records():
    x = quake(4)
    x[1], x[2], x[3, 7] = 0, 5.0, torch.nan
    found = intensity_measures(x, RATE, unit="cm/s^2", periods_s=[0.01, 1.0]).columns()
    lasting = [name for name in found if name.startswith("D")]
    assert len(lasting) == 3
    for name, value in found.items():
        assert value[0] > 0 and value[3].isnan(), name
        assert all(v.isnan() if name in lasting else abs(v) < 1e-12 for v in value[1:2]), name
        assert name in lasting or abs(value[2]) < 1e-9, name
    for bad in (x[0, :1], x[0, :0], torch.tensor(1.0)):
        with pytest.raises(SeislatentError, match="2 samples"):
            intensity_measures(bad, RATE, unit="cm/s^2")
    with pytest.raises(SeislatentError, match="sampling rate"):
        intensity_measures(x, 0.0, unit="cm/s^2")
    assert intensity_measures(x[:0], RATE, unit="g").PGA_g.shape == (0,)
    alone = intensity_measures(x[0], RATE, unit="cm/s^2", periods_s=[1.0]).columns()
    for name, value in alone.items():
        assert value.item() == pytest.approx(found[name][0].item(), rel=1e-12), name


def test_husid_and_durations_agree():
    x = quake(2)
    curve = husid(x, RATE)
    assert (curve[:, 0] == 0).all() and (curve[:, -1] == 1).all() and (curve.diff() >= 0).all()
    found = duration(curve, 1 / RATE, 0.05, 0.95)
    assert ((curve > 0.05) & (curve < 0.95)).sum(-1).div(RATE).sub(found).abs().max() < 1.01 / RATE
    assert husid(0 * x, RATE).isnan().all()


def test_rotation_invariance_and_percentiles():
    x = quake(2, 2)
    found = rotated_measures(x[:, 0], x[:, 1], RATE, unit="cm/s^2", periods_s=[0.02, 0.3, 2.0], percentiles=[0, 50, 100])
    angle = math.radians(37)
    turned = [x[:, 0] * math.cos(angle) + x[:, 1] * math.sin(angle), x[:, 1] * math.cos(angle) - x[:, 0] * math.sin(angle)]
    again = rotated_measures(*turned, RATE, unit="cm/s^2", periods_s=[0.02, 0.3, 2.0], percentiles=[0, 50, 100])
    assert found.SA_g.shape == (2, 3, 3) and found.PGA_g.shape == (2, 3)
    for name in ("PGA_g", "PGV_cm_s", "PGD_cm", "SA_g"):
        torch.testing.assert_close(getattr(found, name), getattr(again, name), rtol=1e-9, atol=0)  # 37 is a whole degree
    single = intensity_measures(x[0], RATE, unit="cm/s^2", periods_s=[0.3]).SA_g[:, 0]
    assert (found.SA_g[0, 0, 1] <= single).all() and (single <= found.SA_g[0, 2, 1] + 1e-12).all()
    assert found.columns(100.0)["SA(0.3)_g"][0] == found.SA_g[0, 2, 1]
    with pytest.raises(SeislatentError, match="no percentile 16"):
        found.columns(16)
    with pytest.raises(SeislatentError, match="give pairs"):
        rotated_measures(x[:, 0], x[:1, 1], RATE, unit="g")


def test_rotd_of_one_direction_is_known():
    """Motion along one line: the projection is |cos|, whose median over 0 to 179 degrees is that of 45 degrees."""
    x = quake(1)[0]
    found = rotated_measures(x, 0 * x, RATE, unit="cm/s^2", baseline=RAW, periods_s=[0.5])
    assert (found.PGA_g[0] / found.PGA_g[1]).item() == pytest.approx(math.cos(math.pi / 4), rel=1e-3)
    assert (found.SA_g[0] / found.SA_g[1]).item() == pytest.approx(math.cos(math.pi / 4), rel=1e-3)


def test_turned_peaks_leave_no_sample_out():
    x = torch.randn(3, 2, 500, generator=torch.Generator().manual_seed(1), dtype=torch.float64).cumsum(-1)
    x[1, 1] = 2 * x[1, 0]
    x[2] = 0
    angle = torch.deg2rad(torch.tensor(ANGLES_DEG, dtype=torch.float64))
    every = (x[:, 0, :, None] * angle.cos() + x[:, 1, :, None] * angle.sin()).abs().amax(1)
    torch.testing.assert_close(turned_peaks(x[:, 0], x[:, 1]), every, rtol=1e-12, atol=1e-12)
    x[0, 0, 3] = torch.nan
    assert turned_peaks(x[:, 0], x[:, 1])[0].isnan().all()


def test_paths_of_any_shape_are_turned_as_if_whole():
    """Round, drifting, along one line, of 1 to 130 samples; and the same with a gradient, which takes the long way."""
    for n in (1, 2, 63, 64, 65, 130):
        x = torch.randn(5, 2, n, generator=torch.Generator().manual_seed(n), dtype=torch.float64)
        x[1] = x[1].cumsum(-1).cumsum(-1)
        x[2, 1] = 0.3 * x[2, 0]
        x[3] = 0
        x[4] = 1e-200 * x[4]
        whole = turned_peaks(x[:, 0].clone().requires_grad_(), x[:, 1])
        assert whole.requires_grad
        torch.testing.assert_close(turned_peaks(x[:, 0], x[:, 1]), whole.detach(), rtol=1e-12, atol=0)


def test_percentiles_over_angles_are_those_of_torch():
    peaks = torch.rand(3, 4, 180, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    percentiles = (0.0, 16.0, 50.0, 99.9, 100.0)
    for x in (peaks, peaks.clone().requires_grad_()):
        wanted = torch.quantile(x, torch.tensor(percentiles, dtype=torch.float64) / 100, dim=-1).movedim(0, -1)
        torch.testing.assert_close(over_angles(x, percentiles), wanted, rtol=1e-14, atol=0)
    peaks[1, 2] = torch.nan
    assert over_angles(peaks, [50.0]).isnan().sum() == 1 and over_angles(peaks, [50.0])[1, 2].isnan()
    assert over_angles(peaks[:0], [50.0]).shape == (0, 4, 1)


def test_arias_and_cav_are_eqsig_s():
    eqsig = pytest.importorskip("eqsig", reason="the comparison needs eqsig: pip install eqsig")
    x = quake(1)[0]
    found = intensity_measures(x, RATE, unit="cm/s^2", baseline=RAW, periods_s=[])
    theirs = eqsig.AccSignal(x.numpy() / 100, 1 / RATE)
    assert found.arias_cm_s.item() == pytest.approx(100 * eqsig.im.calc_arias_intensity(theirs)[-1] * 9.81 / 9.80665, rel=1e-6)
    assert found.CAV_cm_s.item() == pytest.approx(100 * eqsig.im.calc_cav(theirs)[-1], rel=1e-6)
    assert found.D5_95_s.item() == pytest.approx(eqsig.im.calc_sig_dur(theirs), abs=2.01 / RATE)


@pytest.mark.skipif("SEISLATENT_RECORDS" not in os.environ, reason="real records: set SEISLATENT_RECORDS to their folder")
def test_real_accelerograms_lie_near_eqsig():
    pytest.importorskip("eqsig", reason="the comparison needs eqsig: pip install eqsig")
    import h5py
    import pandas as pd
    from eqsig.sdof import nigam_and_jennings_response

    folder = Path(os.environ["SEISLATENT_RECORDS"]) / "strongmotion_gmprocess"
    if not folder.exists():
        pytest.skip(f"no {folder.name} among the records")
    table = pd.read_csv(folder / "metadata.csv")
    table = table[(table.units == "cm/s^2") & (table.n_components == 3) & (table.trace_npts < 8000)].head(4)
    periods = np.array([0.2, 0.5, 1.0, 3.0])
    with h5py.File(folder / "waveforms.hdf5") as file:
        for name, rate in zip(table.trace_name, table.trace_sampling_rate_hz, strict=True):
            a = corrected(torch.from_numpy(file["data"][name][()]), rate, unit="cm/s^2").a_cm_s2
            ours = spectrum(a, rate, periods.tolist())
            theirs = np.abs(nigam_and_jennings_response(a[1].numpy(), 1 / rate, periods, 0.05)[0]).max(1)
            np.testing.assert_allclose(ours[1], theirs * (2 * np.pi / periods) ** 2, rtol=0.03)


@pytest.mark.gpu
def test_gpu_gives_the_same():
    if not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")
    x = quake(2, 2)
    here = rotated_measures(x[:, 0], x[:, 1], RATE, unit="cm/s^2", periods_s=[0.02, 0.3])
    there = rotated_measures(x[:, 0].cuda(), x[:, 1].cuda(), RATE, unit="cm/s^2", periods_s=[0.02, 0.3])
    torch.testing.assert_close(there.SA_g.cpu(), here.SA_g, rtol=1e-9, atol=0)
    torch.testing.assert_close(there.PGV_cm_s.cpu(), here.PGV_cm_s, rtol=1e-9, atol=0)
    alone, moved = (intensity_measures(y, RATE, unit="cm/s^2", periods_s=[0.3]).columns() for y in (x, x.cuda()))
    for name, value in alone.items():
        torch.testing.assert_close(moved[name].cpu(), value, rtol=1e-9, atol=1e-12)
