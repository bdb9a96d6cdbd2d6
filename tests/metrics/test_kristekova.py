import dataclasses
import math
import os
from functools import lru_cache
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from obspy.signal import tf_misfit
from scipy.signal import butter, hilbert, sosfiltfilt

from seislatent.errors import SeislatentError
from seislatent.metrics import kristekova as module
from seislatent.metrics.kristekova import GOODNESS, MISFITS, kristekova, verbal_scale

ALL = (*MISFITS, *GOODNESS)


@pytest.fixture
def obspy_remembers(monkeypatch):
    """ObsPy transforms both signals anew in every one of its sixteen functions; its values stay the same when kept."""
    kept = lru_cache(400)(lambda raw, *rest: cwt(np.frombuffer(raw), *rest))
    cwt = tf_misfit.cwt
    monkeypatch.setattr(tf_misfit, "cwt", lambda st, *rest: kept(np.asarray(st, float).tobytes(), *rest))


def test_signal():
    """ObsPy's own test signal, its phase shifted by 0.1 pi, and 1.1 times it."""
    t = np.linspace(0, 3, 60)
    s = 4 * (t - 0.1) * np.exp(-2 * (t - 0.1)) * np.cos(4 * np.pi * (t - 0.1)) * (t > 0.1)
    return s, np.real(hilbert(s) * np.exp(0.1j * np.pi)), 1.1 * s


test_signal.__test__ = False


def compare(x, y, rate_hz, band, count, normalization, dtype, names, tolerance):
    """Against ObsPy, to a share of the greatest value, and to what the rounding of the samples does to a misfit near 0.

    Phases are compared on the circle; local values where one of the transforms is itself rounding are left out.
    """
    found = kristekova(
        torch.tensor(np.ascontiguousarray(x), dtype=dtype), torch.tensor(y, dtype=dtype), rate_hz,
        band_hz=band, frequencies=count, normalization=normalization, quantities=names,
    )  # fmt: skip
    settings = {"dt": 1 / rate_hz, "fmin": band[0], "fmax": band[1], "nf": count}
    heard = np.minimum(*(
        np.stack([np.abs(tf_misfit.cwt(row, 1 / rate_hz, 6, *band, count)) for row in np.atleast_2d(s)]) for s in (x, y)
    ))  # fmt: skip
    axes = {"tf": (), "t": -2, "f": -1, "": (-2, -1)}
    for name in names:
        ours = getattr(found, name).double().numpy()
        theirs = getattr(tf_misfit, name)(x, y, norm=normalization, **settings)
        assert ours.shape == np.shape(theirs), name
        off = ours - theirs
        if normalization == "local" and np.ndim(y) > 1:
            level = heard.sum(axes[name[:-2]])
            loud = level > (1e-6 if dtype == torch.float64 else 3e-2) * level.max()
            off, theirs = off[loud], theirs[loud]
        if normalization == "local" and name == "tfpm":
            off -= 2 * np.round(off / 2)
        limit = tolerance * np.abs(theirs).max() + (1e-9 if dtype == torch.float64 else 2e-6)
        assert np.abs(off).max() <= limit, (name, normalization, np.abs(off).max(), limit)


@pytest.mark.parametrize("normalization", ["global", "local"])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-6), (torch.float32, 1e-4)])
def test_all_sixteen_equal_obspys_on_its_own_signals(normalization, dtype, tolerance, obspy_remembers):
    s, phase, amplitude = test_signal()
    compare(amplitude, s, 59 / 3, (1, 3), 3, normalization, dtype, ALL, tolerance)
    compare(phase, s, 59 / 3, (1, 3), 3, normalization, dtype, ALL, tolerance)
    three = np.stack([s, 0.3 * phase, np.roll(s, 4)])
    compare(np.stack([amplitude, s, phase]), three, 59 / 3, (1, 3), 5, normalization, dtype, ALL, tolerance)


def changed(y, rate_hz, k, rng, order=2):
    """A version of a record [component time] with one kind of error: scaled, phase-shifted, noisy, low-passed."""
    if k == 0:
        return 1.3 * y
    if k == 1:
        return np.real(hilbert(y) * np.exp(0.2j * np.pi))
    if k == 2:
        return y + 0.3 * y.std(-1, keepdims=True) * rng.standard_normal(y.shape)
    return sosfiltfilt(butter(order, rate_hz / 20, fs=rate_hz, output="sos"), y)


def real_records(folder):
    with h5py.File(folder / "ncedc_deepdenoiser" / "waveforms.hdf5") as file:
        for name in list(file["data"])[:50]:
            yield file["data"][name][:, 2500:4000].astype(float), 100.0
    with h5py.File(folder / "seisbench_cx_pb01_20hz" / "waveforms.hdf5") as file:
        for x in file["data"][next(iter(file["data"]))][:50]:
            yield x.astype(float), 20.0


@pytest.mark.skipif("SEISLATENT_RECORDS" not in os.environ, reason="SEISLATENT_RECORDS names no folder with real records")
def test_all_sixteen_equal_obspys_on_100_real_records(obspy_remembers):
    rng, count = np.random.default_rng(0), 0
    for k, (y, rate_hz) in enumerate(real_records(Path(os.environ["SEISLATENT_RECORDS"]))):
        y = y - y.mean(-1, keepdims=True)
        x = changed(y, rate_hz, k % 4, rng)
        normalization = ("global", "local")[k // 4 % 2]
        compare(x, y, rate_hz, (0.01 * rate_hz, 0.4 * rate_hz), 8, normalization, torch.float64, ALL, 1e-6)
        # where a filter leaves less than the rounding of float32, phases in float32 are noise: a gentler one for float32;
        # and a phase misfit that rounding turns from pi to -pi changes signed sums
        x = changed(y, rate_hz, k % 4, rng, order=1)
        names = [n for n in ALL if n[-2] == "e" or n in ("pm", "pg", "tfpg")]
        compare(x, y, rate_hz, (0.01 * rate_hz, 0.4 * rate_hz), 8, normalization, torch.float32, names, 1e-4)
        count += 1
    assert count == 100


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("level", [1.0, 1e-7, 1e-35, 1e30])
def test_closed_forms_at_any_level(dtype, level):
    """Phase off by 0.1 pi: PM 0.1, PG 9. Amplitude times 1.1: EM 0.1, EG 10 exp(-0.1)."""
    y = torch.randn(4, 3, 3000, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    y = torch.from_numpy(sosfiltfilt(butter(4, (1, 8), "bandpass", fs=100, output="sos"), y.numpy()) * np.hanning(3000)) * level
    shifted = torch.from_numpy(np.real(hilbert(y.numpy()) * np.exp(0.1j * np.pi)))
    settings = {"band_hz": (1, 8), "quantities": ALL, "frequencies": 20, "normalization": "local"}
    phase = kristekova(shifted.to(dtype), y.to(dtype), 100.0, **settings)
    np.testing.assert_allclose(phase.pm, 0.1, atol=1e-3)
    np.testing.assert_allclose(phase.pg, 9.0, atol=1e-2)
    np.testing.assert_allclose(phase.em, 0.0, atol=2e-3)
    np.testing.assert_allclose(phase.fpm, 0.1, atol=2e-3)
    louder = kristekova((1.1 * y).to(dtype), y.to(dtype), 100.0, **settings)
    np.testing.assert_allclose(louder.em, 0.1, rtol=1e-5)
    np.testing.assert_allclose(louder.eg, 10 * math.exp(-0.1), rtol=1e-6)
    np.testing.assert_allclose(louder.pm, 0.0, atol=1e-5)
    np.testing.assert_allclose(louder.tem, 0.1, rtol=2e-3)
    np.testing.assert_allclose(louder.fem, 0.1, rtol=1e-5)


def test_best_and_exponent():
    y = torch.randn(2, 500, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    settings = {"best": 5.0, "exponent": 2.0, "joint_components": False}
    found = kristekova(1.3 * y, y, 50.0, band_hz=(1, 10), quantities=("eg", "pg", "em"), **settings)
    np.testing.assert_allclose(found.em, 0.3, rtol=1e-12)
    np.testing.assert_allclose(found.eg, 5 * math.exp(-0.09), rtol=1e-12)
    np.testing.assert_allclose(found.pg, 5.0, rtol=1e-12)


def test_equal_signals_have_no_misfit():
    y = torch.randn(2, 3, 400, generator=torch.Generator().manual_seed(0))
    found = kristekova(y, y.clone(), 50.0, band_hz=(1, 20), quantities=ALL)
    for name in MISFITS:
        assert getattr(found, name).abs().max() <= 1e-6, name
    for name in GOODNESS:
        assert getattr(found, name).min() >= 10 - 1e-5, name


def both(x, y, **settings):
    return dataclasses.asdict(kristekova(x, y, 50.0, band_hz=(0.5, 20), frequencies=9, quantities=ALL, **settings))


def test_leading_axes_components_and_chunks_change_nothing(monkeypatch):
    x, y = torch.randn(2, 2, 5, 3, 200, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    y = y * torch.tensor([1.0, 0.2, 3.0], dtype=torch.float64)[:, None]
    whole, apart = both(x, y), both(x, y, joint_components=False)
    single, one = both(x[1, 3], y[1, 3]), both(x[1, 3, 2], y[1, 3, 2])
    assert whole["tfem"].shape == (2, 5, 3, 9, 200) and whole["tem"].shape == (2, 5, 3, 200) and whole["fem"].shape == (2, 5, 3, 9)
    assert one["em"].shape == () and one["tfem"].shape == (9, 200)
    for name in ALL:
        torch.testing.assert_close(whole[name][1, 3], single[name])
        torch.testing.assert_close(apart[name][1, 3, 2], one[name])
    assert (whole["em"] - apart["em"]).abs().max() > 0.1
    monkeypatch.setitem(module.CHUNK, "cpu", 9000)
    small = both(x, y)
    for name in ALL:
        torch.testing.assert_close(small[name], whole[name])
    assert both(x[:0], y[:0])["tfem"].shape == (0, 5, 3, 9, 200)
    assert both(x[:, :, :0], y[:, :, :0])["tem"].shape == (2, 5, 0, 200)


def test_threads_change_nothing_and_are_given_back():
    x, y = torch.randn(2, 5, 3, 200, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        alone = both(x, y)
        torch.set_num_threads(2)
        shared = both(x.clone().requires_grad_(), y)
        assert torch.get_num_threads() == 2
        with pytest.raises(SeislatentError, match="w0"):
            both(x, y, w0=0.0)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
    for name in ALL:
        torch.testing.assert_close(shared[name], alone[name])
        assert not shared[name].requires_grad


def test_only_what_is_asked_is_given():
    x, y = torch.randn(2, 3, 200, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    whole = both(x, y)
    for name in ALL:
        found = kristekova(x, y, 50.0, band_hz=(0.5, 20), frequencies=9, quantities=[name])
        torch.testing.assert_close(getattr(found, name), whole[name])
        assert all(getattr(found, other) is None for other in ALL if other != name)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_silence_has_stated_values(dtype):
    x = torch.randn(2, 3, 300, generator=torch.Generator().manual_seed(0)).to(dtype)
    zero = torch.zeros_like(x)
    for normalization in ("global", "local"):
        missed, right, lost = (both(a, b, normalization=normalization) for a, b in ((x, zero), (zero, zero), (zero, x)))
        for name in MISFITS:
            assert (missed[name] == (math.inf if name[-2] == "e" else 1)).all(), name
            assert (right[name] == 0).all(), name
        for name in GOODNESS:
            assert (missed[name] == 0).all() and (right[name] == 10).all(), name
        assert (lost["em"] <= 1).all() and (lost["em"].amax(-1) == 1).all()
        for e, p in zip(MISFITS[::2], MISFITS[1::2], strict=True):
            torch.testing.assert_close(lost[p], -lost[e] if e != "em" else lost[e])
    one_dead = x.clone()
    one_dead[:, 1] = 0
    shared, own = both(x, one_dead), both(x, one_dead, normalization="local")
    assert all(v.isfinite().all() for v in shared.values()) and (shared["pm"][:, 1] == 0).all()
    assert own["em"][:, 1].isinf().all() and (own["pg"][:, 1] == 0).all() and (own["em"][:, [0, 2]] == 0).all()
    assert not any(v.isnan().any() for v in own.values())


def test_a_reference_beyond_the_range_of_float32_is_never_a_fit():
    x = torch.randn(1, 300, generator=torch.Generator().manual_seed(0))
    assert both(x, 1e-42 * x)["eg"].item() == 0
    assert both(1e-42 * x, x)["em"].item() == pytest.approx(1)


def test_constants_have_values():
    ones = torch.ones(3, 300, dtype=torch.float64)
    found = both(1.1 * ones, ones)
    assert found["em"].numpy() == pytest.approx(0.1) and found["pm"].numpy() == pytest.approx(0, abs=1e-9)


def test_counts_are_compared_exactly():
    counts = torch.tensor([[0, 2_000_000_000, -2_000_000_000, 7] * 20], dtype=torch.int32)
    found = kristekova(counts, counts + 1, 20.0, band_hz=(1, 8))
    assert found.eg.dtype == torch.float64 and 10 - 1e-6 < found.eg.item() < 10


def test_a_change_of_sign_and_a_gain_are_told_apart():
    y = torch.randn(1, 500, generator=torch.Generator().manual_seed(0))
    assert kristekova(3 * y, y, 50.0, band_hz=(1, 20)).pg.item() == pytest.approx(10, abs=1e-4)
    assert kristekova(-y, y, 50.0, band_hz=(1, 20)).eg.item() == pytest.approx(10, abs=1e-4)
    assert kristekova(-y, y, 50.0, band_hz=(1, 20)).pg.item() == pytest.approx(0, abs=1e-4)
    flat = kristekova(0 * y, y, 50.0, band_hz=(1, 20))
    assert flat.pg.item() == 0 and flat.eg.item() == pytest.approx(10 / math.e)


GOOD = torch.ones(2, 100)


@pytest.mark.parametrize(
    ("x", "y", "settings", "words"),
    [
        (GOOD, torch.ones(2, 99), {}, "cannot compare"),
        (torch.tensor(1.0), torch.tensor(1.0), {}, "cannot compare"),
        (GOOD[:, :1], GOOD[:, :1], {}, "at least 2"),
        (GOOD[:, :0], GOOD[:, :0], {}, "no samples"),
        (GOOD * math.nan, GOOD, {}, "2 of 2 traces of the estimate"),
        (GOOD, GOOD / 0, {}, "traces of the reference"),
        (GOOD + 0j, GOOD, {}, "complex"),
        (GOOD, GOOD, {"sampling_rate_hz": 0.0}, "sampling rate"),
        (GOOD, GOOD, {"band_hz": (1.0, 11.0)}, "Nyquist"),
        (GOOD, GOOD, {"band_hz": (2.0, 1.0)}, "rising"),
        (GOOD, GOOD, {"frequencies": 0}, "at least 1"),
        (GOOD, GOOD, {"w0": -6.0}, "w0"),
        (GOOD, GOOD, {"quantities": ["egg"]}, "did you mean"),
        (GOOD, GOOD, {"quantities": []}, "no time-frequency misfit"),
        (GOOD, GOOD, {"normalization": "locale"}, "did you mean 'local'"),
        (GOOD, GOOD, {"exponent": 0.0}, "positive"),
        (GOOD, GOOD, {"best": math.nan}, "positive"),
    ],
)
def test_bad_input_is_told_in_one_line(x, y, settings, words):
    with pytest.raises(SeislatentError, match=words) as told:
        kristekova(x, y, **({"sampling_rate_hz": 20.0, "band_hz": (1.0, 5.0)} | settings))
    assert "\n" not in str(told.value)


def test_verbal_scale():
    found = verbal_scale(torch.tensor([[0.0, 3.99, 4.0], [6.0, 8.0, 10.0]]))
    assert found.tolist() == [["poor", "poor", "fair"], ["good", "excellent", "excellent"]]
    assert verbal_scale(5.5) == "fair" and verbal_scale(0.55, best=1.0) == "fair"
    for bad in (math.nan, -1.0, 10.1):
        with pytest.raises(SeislatentError, match="has no word"):
            verbal_scale(bad)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_the_same_on_a_gpu():
    x, y = torch.randn(2, 5, 3, 700, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    here, there = both(x, y), both(x.cuda(), y.cuda())
    for name in ALL:
        torch.testing.assert_close(there[name].cpu(), here[name], rtol=1e-9, atol=1e-9)
