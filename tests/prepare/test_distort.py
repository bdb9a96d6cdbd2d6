"""Distortions: each does what its definition says, the same for equal dice, with arrivals and gaps moved along."""

from dataclasses import replace

import numpy as np
import pytest

from seislatent.errors import SeislatentError
from seislatent.prepare.augment import Windows
from seislatent.prepare.distort import Alone, Band, Clip, Counts, Glitches, Overlay, Playback

RATE_HZ = 100.0


def records(count=12, length=3000, seed=0):
    """Noise with P at a drawn place, S at none, a gap in record 0 and a dead Z in record 1."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(count, 3, length)).astype(np.float32)
    valid = np.ones(x.shape, bool)
    valid[0, :, 500:800] = False
    valid[1, 0] = False
    x[~valid] = 0
    marks = {"p": rng.uniform(500, length - 500, count), "s": np.full(count, np.nan)}
    return Windows(x=x, valid=valid, components="ZNE", sampling_rate_hz=RATE_HZ, marks=marks)


EVERY = {
    "playback": Playback(length=1000, share=0.7),
    "overlay": Overlay(source=lambda dice, count: records(count, seed=5), share=0.7),
    "band": Band(lower_rate=0.3, highpassed=0.3, lowpassed=0.3, other_motion=0.2),
    "clip": Clip(share=0.7),
    "counts": Counts(share=0.7),
    "glitches": Glitches(share=0.5),
    "alone": Alone(share=0.5),
}


@pytest.mark.parametrize("name", EVERY)
def test_equal_dice_change_alike_and_nothing_in_place(name):
    it = records()
    before = it.x.copy(), it.valid.copy()
    one, two = (EVERY[name](it, np.random.default_rng(3)) for _ in range(2))
    other = EVERY[name](it, np.random.default_rng(4))
    assert np.array_equal(one.x, two.x) and np.array_equal(one.valid, two.valid)
    assert not np.array_equal(one.x, other.x)
    assert np.array_equal(it.x, before[0]) and np.array_equal(it.valid, before[1])
    assert one.x.dtype == np.float32 and np.isfinite(one.x).all() and (one.x[~one.valid] == 0).all()
    assert one.marks.keys() >= it.marks.keys()


@pytest.mark.parametrize("name", [n for n in EVERY if n not in ("playback", "alone")])
def test_a_share_of_nothing_changes_nothing(name):
    none = {f: 0.0 for f in ("share", "lower_rate", "highpassed", "lowpassed", "other_motion") if hasattr(EVERY[name], f)}
    it = records()
    assert np.array_equal(replace(EVERY[name], **none)(it, np.random.default_rng(0)).x, it.x)


def tones(count=8, length=6000):
    """A tone of 3 Hz with a beat at P, the same in all components."""
    time = np.arange(length) / RATE_HZ
    p = np.linspace(2500.0, 3500.0, count)
    x = np.sin(2 * np.pi * 3 * time) * np.exp(-0.5 * ((time - p[:, None] / RATE_HZ) / 0.3) ** 2)
    x = np.repeat(x[:, None], 3, 1).astype(np.float32)
    return Windows(x=x, valid=np.ones(x.shape, bool), components="ZNE", sampling_rate_hz=RATE_HZ, marks={"p": p, "s": p * np.nan})


@pytest.mark.parametrize("speeds", [(0.5, 0.5), (1.0, 1.0), (1.7, 1.7), (0.6, 2.2)])
def test_playback_moves_frequency_and_arrivals_together(speeds):
    out = Playback(length=2000, speeds=speeds)(tones(), np.random.default_rng(1))
    assert out.x.shape == (8, 3, 2000) and np.isfinite(out.marks["p"]).all() and np.isnan(out.marks["s"]).all()
    places = out.marks["p"]
    assert places.min() < 700 and places.max() > 1300
    for i in range(8):
        if 300 < places[i] < 1700:
            envelope = np.convolve(out.x[i, 0] ** 2, np.ones(101) / 101, "same")
            assert abs(int(envelope.argmax()) - places[i]) < 12
            if speeds[0] == speeds[1]:
                spectrum = np.abs(np.fft.rfft(out.x[i, 0]))
                assert np.fft.rfftfreq(2000, 0.01)[spectrum.argmax()] == pytest.approx(3 * speeds[0], abs=0.3 * speeds[0])
                assert np.abs(out.x[i]).max() == pytest.approx(1, abs=0.06)


def test_playback_aliases_nothing_and_moves_gaps():
    time = np.arange(6000) / RATE_HZ
    x = np.broadcast_to(np.sin(2 * np.pi * 40 * time), (4, 3, 6000)).astype(np.float32)
    valid = np.ones(x.shape, bool)
    valid[:, :, 3000:] = False
    it = Windows(x=np.where(valid, x, 0), valid=valid, components="ZNE", sampling_rate_hz=RATE_HZ, marks={"p": np.full(4, 3000.0)})
    out = Playback(length=2000, speeds=(2.0, 2.0))(it, np.random.default_rng(0))
    for i in range(4):
        end = int(out.valid[i, 0].sum())
        assert abs(end - out.marks["p"][i]) < 3 and np.abs(out.x[i, :, : end - 60]).max(initial=0) < 0.05
    with pytest.raises(SeislatentError, match="6000 samples"):
        Playback(length=5990)(it, np.random.default_rng(0))


def test_cut_tells_marks_outside_too():
    it = replace(tones(), marks={"p": np.full(8, 3000.0), "far": np.full(8, 100.0)})
    _, at = Playback(length=1000, speeds=(1.0, 1.0)).cut(it, np.random.default_rng(2))
    np.testing.assert_allclose(at[:, 0] - at[:, 1], 2900)
    assert (at.min(1) < 0).any()


def test_an_overlay_has_its_ratio_and_its_own_marks():
    other = replace(records(seed=9), valid=np.ones((12, 3, 3000), bool))
    out = Overlay(source=lambda dice, count: other, ratio_db=(6.0, 6.0))(records(), np.random.default_rng(0))
    assert np.array_equal(out.marks["p 2"], other.marks["p"]) and np.array_equal(out.marks["p"], records().marks["p"])
    added = (out.x - records().x)[2:]
    ratio = np.ptp(records().x[2:], axis=2).max(1) / np.ptp(added, axis=2).max(1)
    np.testing.assert_allclose(20 * np.log10(ratio), 6, atol=0.01)
    silent = Overlay(source=lambda dice, count: replace(other, x=0 * other.x))(records(), np.random.default_rng(0))
    assert np.array_equal(silent.x, records().x) and np.isnan(silent.marks["p 2"]).all()


def test_bands_by_their_spectra():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(30, 3, 4096)).astype(np.float32) + 50
    it = Windows(x=x, valid=np.ones(x.shape, bool), components="ZNE", sampling_rate_hz=RATE_HZ)
    f = np.fft.rfftfreq(4096, 0.01)

    def gain(band):
        y = band(it, np.random.default_rng(1)).x
        power = [(np.abs(np.fft.rfft(w - w.mean(2, keepdims=True), axis=2)) ** 2).mean((0, 1)) for w in (y, x)]
        return np.sqrt(power[0] / power[1]), y

    low, y = gain(Band(rates_hz=(20.0,), lower_rate=1.0))
    assert low[(f > 0.5) & (f < 7.5)].min() > 0.9 and low[f > 10.5].max() < 0.05 and y.mean() == pytest.approx(50, abs=0.2)
    high, y = gain(Band(highpass_hz=(2.0, 2.0), highpassed=1.0))
    assert high[(f > 0.1) & (f < 0.4)].mean() < 0.1 and high[f > 8].mean() == pytest.approx(1, abs=0.03)
    assert abs(y.mean()) < 0.1
    assert np.interp(2.0, f, np.convolve(high, np.ones(9) / 9, "same")) == pytest.approx(0.5**0.5, abs=0.06)
    low, _ = gain(Band(lowpass_hz=(10.0, 10.0), lowpassed=1.0))
    assert low[f < 3].mean() == pytest.approx(1, abs=0.03) and low[f > 40].mean() < 0.08
    both, _ = gain(Band(other_motion=0.5))
    assert both[(f > 35) & (f < 45)].mean() > 3 and both[(f > 0.6) & (f < 1)].mean() > 2


def test_clipped_and_counted():
    it = records()
    out = Clip(level=(0.25, 0.25))(it, np.random.default_rng(0)).x[2]
    middle = np.median(it.x[2][:, ::16], axis=1, keepdims=True)
    off, before = (np.abs(w - middle) for w in (out, it.x[2]))
    assert off.max() == pytest.approx(0.25 * before.max(), rel=1e-4) and (off > 0.999 * off.max()).sum() > 20
    np.testing.assert_array_equal(out[before < 0.24 * before.max()], it.x[2][before < 0.24 * before.max()])
    out = Counts(bits=(4.0, 4.0))(it, np.random.default_rng(0)).x[2]
    assert 17 <= len(np.unique(out)) <= 34
    step = np.diff(np.unique(out)).min()
    np.testing.assert_allclose(out, it.x[2], atol=step / 2 * 1.001)


def test_glitches_are_what_they_are_called():
    glitches = Glitches()
    x = np.zeros((3, 1000), np.float32)
    glitches._spike(x, 100, 0.5, 1.0, RATE_HZ)
    assert 1 <= np.count_nonzero(x[0]) <= 3 and x.max() == pytest.approx(10**1.5, rel=1e-4)
    x = np.zeros((3, 1000), np.float32)
    glitches._step(x, 300, 0.4, -1.0, RATE_HZ)
    assert (x[:, :300] == 0).all() and x[0, 300] == pytest.approx(-10.0, rel=1e-4)
    x = np.random.default_rng(0).normal(size=(3, 1000)).astype(np.float32)
    glitches._hold(x, 200, 0.5, 1.0, RATE_HZ)
    assert (x[:, 200:450] == x[:, 200:201]).all() and (x[:, 460] != x[:, 200]).all()
    glitches._offset(x, 0, 0.6, 1.0, RATE_HZ)
    assert x.mean() == pytest.approx(1000, rel=0.01)


def test_alone_leaves_the_first_live_component():
    out = Alone(share=1.0)(records(), np.random.default_rng(0))
    assert out.valid[2:, 0].all() and not out.valid[:, 2].any()
    assert out.valid[1, 1].all() and not out.valid[1, [0, 2]].any()
