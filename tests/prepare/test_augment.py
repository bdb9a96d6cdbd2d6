"""Augmentations: each does what its definition says, again and again for equal dice, with arrivals and gaps moved along."""

from dataclasses import replace

import numpy as np
import pytest

from seislatent.errors import SeislatentError
from seislatent.prepare.augment import (
    Amplitude,
    AugmentConfig,
    Dropout,
    Gaps,
    Noise,
    NoiseRecords,
    Polarity,
    Rotation,
    Shift,
    Windows,
    augmented,
    chain,
    power,
)

RATE_HZ = 50.0
RNG = np.random.default_rng(0)
NOISE = NoiseRecords((RNG.normal(size=(5, 3, 700)) * [[[1.0], [2.0], [4.0]]] + 100).astype(np.float32))


def records(count=40, length=400, level=1.0, target=False, seed=1):
    """Noise with a mark at every sample number, all valid but a gap in record 0 and a dead Z in record 1."""
    rng = np.random.default_rng(seed)
    x = (level * rng.normal(size=(count, 3, length))).astype(np.float32)
    valid = np.ones(x.shape, bool)
    valid[0, :, 50:80] = False
    valid[1, 0] = False
    x[~valid] = 0
    marks = {"trace_p_arrival_sample": rng.uniform(0, length, count), "trace_s_arrival_sample": np.full(count, np.nan)}
    return Windows(
        x=x, valid=valid, components="ZNE", sampling_rate_hz=RATE_HZ, marks=marks, target=2 * x if target else None
    )  # fmt: skip


EVERY = {
    "shift": Shift(most_s=1.0),
    "rotation": Rotation(share=0.7),
    "polarity": Polarity(),
    "amplitude": Amplitude(least=0.1, most=10.0),
    "noise": Noise(source=NOISE, snr_db=(0.0, 20.0), share=0.7),
    "dropout": Dropout(probability=0.4),
    "gaps": Gaps(shortest_s=0.1, longest_s=1.0, share=0.7),
}


def same(a, b):
    marks = all(np.array_equal(a.marks[k], b.marks[k], equal_nan=True) for k in a.marks)
    return np.array_equal(a.x, b.x) and np.array_equal(a.valid, b.valid) and np.array_equal(a.target, b.target) and marks


@pytest.mark.parametrize("name", EVERY)
def test_equal_dice_give_equal_records_and_nothing_is_changed_in_place(name):
    before, it = records(target=True), records(target=True)
    one, again = (EVERY[name](it, np.random.default_rng(3)) for _ in range(2))
    assert same(one, again) and same(it, before)
    assert not same(one, it) and not same(one, EVERY[name](it, np.random.default_rng(4)))
    assert one.x.dtype == np.float32 and one.valid.dtype == bool and one.x.shape == it.x.shape


@pytest.mark.parametrize("name", EVERY)
def test_what_is_not_valid_is_zero(name):
    it = EVERY[name](records(), np.random.default_rng(3))
    assert not it.x[~it.valid].any() and np.isfinite(it.x).all()


@pytest.mark.parametrize("name", ["noise", "dropout", "gaps"])
def test_the_target_stays_what_it_is(name):
    it = records(target=True)
    assert np.array_equal(EVERY[name](it, np.random.default_rng(0)).target, it.target)


@pytest.mark.parametrize("name", ["shift", "rotation", "polarity", "amplitude"])
def test_the_target_goes_with_the_record(name):
    it = EVERY[name](records(target=True), np.random.default_rng(0))
    np.testing.assert_allclose(np.where(it.valid, it.target, 0), 2 * it.x, rtol=1e-6)


def test_shift_moves_samples_validity_and_arrivals_alike():
    it = records(400)
    out = Shift(most_s=1.0)(it, np.random.default_rng(0))
    lags = []
    for before, after, ok, was, p, q in zip(
        it.x, out.x, out.valid, it.valid, it.marks["trace_p_arrival_sample"], out.marks["trace_p_arrival_sample"], strict=True
    ):
        lag = int(next(k for k in range(-50, 51) if np.array_equal(before[1, 150:250], after[1, 150 + k : 250 + k])))
        lags.append(lag)
        assert np.array_equal(after, np.roll(before, lag, 1) * _entered(lag, 400))
        assert np.array_equal(ok, np.roll(was, lag, 1) & _entered(lag, 400))
        assert q == p + lag if 0 <= p + lag < 400 else np.isnan(q)
    assert min(lags) < -45 and max(lags) > 45 and abs(np.mean(lags)) < 5
    assert np.isnan(out.marks["trace_s_arrival_sample"]).all()


def _entered(lag, length):
    time = np.arange(length) - lag
    return (time >= 0) & (time < length)


def test_a_shift_longer_than_the_window_leaves_nothing_but_zeros():
    it = Shift(most_s=1e4)(records(400, length=20), np.random.default_rng(0))
    assert (~it.valid.any((1, 2))).any()


def test_rotation_keeps_z_and_horizontal_energy_and_turns_clockwise():
    it = records()
    out = Rotation()(it, np.random.default_rng(0))
    assert np.array_equal(out.x[:, 0], it.x[:, 0])
    energy = [np.square(w.x[:, 1:].astype(float)).sum(1) for w in (it, out)]
    np.testing.assert_allclose(energy[1], energy[0], rtol=1e-5, atol=1e-6)
    before, after = (w.x[2:, 1] + 1j * w.x[2:, 2] for w in (it, out))  # N + iE: the azimuth is its angle
    turned = np.angle(after / before) % (2 * np.pi)
    assert np.ptp(np.unwrap(turned, axis=1), axis=1).max() < 1e-3, "one angle per record"
    assert turned[:, 0].min() < 0.6 and turned[:, 0].max() > 5.6


def test_a_quarter_turn_makes_north_east():
    class Quarter:
        def random(self, size):
            return np.full(size, 0.25)

    it = records()
    out = Rotation()(it, Quarter())
    np.testing.assert_allclose(out.x[:, 2], it.x[:, 1], atol=1e-6)
    np.testing.assert_allclose(out.x[:, 1], -it.x[:, 2], atol=1e-6)


def test_rotation_is_valid_where_both_horizontals_were():
    it = records()
    valid = it.valid.copy()
    valid[3, 2, 10:20] = False
    it = replace(it, valid=valid, x=np.where(valid, it.x, 0))
    out = Rotation()(it, np.random.default_rng(0))
    assert not out.valid[3, 1:, 10:20].any() and out.valid[3, 0].all() and out.valid[3, 1:, 20:].all()
    assert not out.x[~out.valid].any()
    still = Rotation(share=0.0)(it, np.random.default_rng(0))
    assert same(still, it)


def test_rotation_without_horizontals_is_refused():
    with pytest.raises(SeislatentError, match=r"rotation needs N and E; the records have Z12: ask for both"):
        Rotation()(replace(records(), components="Z12"), np.random.default_rng(0))


def test_polarity_reverses_whole_records():
    it = records(400)
    out = Polarity(share=0.25)(it, np.random.default_rng(0))
    sign = (out.x * it.x).sum((1, 2)) / np.square(it.x).sum((1, 2))
    np.testing.assert_allclose(np.abs(sign), 1, rtol=1e-5)
    assert 0.18 < (sign < 0).mean() < 0.32
    assert np.array_equal(out.x, it.x * np.sign(sign).astype(np.float32)[:, None, None])


def test_the_logarithm_of_the_factor_is_uniform():
    it = records(2000, length=8)
    out = Amplitude(least=0.01, most=100.0)(it, np.random.default_rng(0))
    factor = np.log10(np.abs(out.x[2:]).max((1, 2)) / np.abs(it.x[2:]).max((1, 2)))
    counts = np.histogram(factor, np.linspace(-2, 2, 5))[0]
    assert counts.sum() == 1998 and counts.min() > 430


@pytest.mark.parametrize("level", [1e6, 1.0, 1e-12, 1e-25])
def test_noise_reaches_its_snr(level):
    """20 to 20 dB: mean squares over all valid samples, about the mean of each component; the noise's offset of 100 is gone."""
    it = records(level=level)
    out = Noise(source=NOISE, snr_db=(20.0, 20.0))(it, np.random.default_rng(0))
    added = (out.x.astype(np.float64) - it.x) / level
    for i in range(len(added)):
        parts = [(it.x[i, c][it.valid[i, c]].astype(np.float64) / level, added[i, c][it.valid[i, c]]) for c in range(3)]
        signal = sum(((x - x.mean()) ** 2).sum() for x, _ in parts if len(x))
        noise = sum((n**2).sum() for _, n in parts if len(n))
        assert 10 * np.log10(signal / noise) == pytest.approx(20, abs=0.01)
        assert all(abs(n.mean()) < 1e-3 for _, n in parts if len(n))
    loud = added[2:].std((0, 2))
    assert loud[1] / loud[0] == pytest.approx(2, rel=0.1) and loud[2] / loud[0] == pytest.approx(4, rel=0.1)


def test_noise_between_two_ends_and_for_a_share():
    it = records(500, length=200)
    out = Noise(source=NOISE, snr_db=(-10.0, 10.0), share=0.5)(it, np.random.default_rng(0))
    changed = (out.x != it.x).any((1, 2))
    assert 0.4 < changed.mean() < 0.6
    snr = 10 * np.log10(power(it.x, it.valid)[changed] / power(out.x - it.x, it.valid)[changed])
    assert -10.01 < snr.min() < -8 and 8 < snr.max() < 10.01 and abs(snr.mean()) < 1.5


def test_silence_gets_no_noise_and_silent_noise_changes_nothing():
    it = records(level=0.0)
    assert not Noise(source=NOISE, snr_db=(0.0, 0.0))(it, np.random.default_rng(0)).x.any()
    dead = NoiseRecords(np.full((2, 3, 500), np.nan, np.float32))
    it = records()
    assert np.array_equal(Noise(source=dead, snr_db=(0.0, 0.0))(it, np.random.default_rng(0)).x, it.x)


def test_noise_shorter_than_the_window_is_refused():
    with pytest.raises(SeislatentError, match="5 noise records of 700 samples for windows of 800: give longer ones"):
        Noise(source=NOISE, snr_db=(0, 0))(records(length=800), np.random.default_rng(0))


def test_dropout_leaves_one_live_component():
    it = records(2000, length=4)
    out = Dropout(probability=1.0)(it, np.random.default_rng(0))
    assert (out.valid.any(2).sum(1) == 1).all()
    assert not out.valid[1, 0].any(), "a dead component is not the one that stays"
    kept = out.valid[2:].any(2).mean(0)
    np.testing.assert_allclose(kept, 1 / 3, atol=0.05)
    some = Dropout(probability=0.3)(it, np.random.default_rng(0))
    assert some.valid[2:].any(2).mean() == pytest.approx(1 - 0.3 + 0.3**3 / 3, abs=0.03)
    assert np.array_equal(some.x[some.valid], it.x[some.valid])


def test_gaps_have_their_length_and_number_and_hit_all_components():
    it = records(3000, length=300)
    out = Gaps(shortest_s=0.2, longest_s=1.0, most=1)(it, np.random.default_rng(0))
    gone = (it.valid & ~out.valid)[2:]
    assert (gone == gone[:, :1]).all()
    lengths = gone[:, 0].sum(1)
    assert lengths.min() >= 10 and lengths.max() <= 50 and lengths.min() < 14 and lengths.max() > 46
    edges = np.abs(np.diff(gone[:, 0].astype(int), axis=1)).sum(1)
    assert edges.max() == 2
    where = gone[:, 0].mean(0)
    assert where[:150].mean() == pytest.approx(where[150:].mean(), rel=0.1)
    assert np.array_equal(out.x[out.valid], it.x[out.valid])
    several = Gaps(shortest_s=0.2, longest_s=0.2, most=4)(it, np.random.default_rng(0)).valid[2:, 1]
    counts = (np.diff(np.pad(several, ((0, 0), (1, 1)), constant_values=True).astype(int), axis=1) == -1).sum(1)
    assert set(counts) == {1, 2, 3, 4}


def test_a_gap_longer_than_the_window_is_the_whole_window():
    out = Gaps(shortest_s=99.0, longest_s=99.0)(records(), np.random.default_rng(0))
    assert not out.valid.any() and not out.x.any()


def test_the_chain_holds_what_is_asked_for_in_order():
    assert chain(AugmentConfig()) == ()
    config = AugmentConfig(
        shift_s=0.5, rotated=1.0, reversed=0.5, amplitude=(0.5, 2.0), noisy=1.0, noise="store", dropped=0.1, gapped=0.5
    )
    found = chain(config, NOISE)
    assert [type(a) for a in found] == [Shift, Rotation, Polarity, Amplitude, Noise, Dropout, Gaps]
    it = records()
    assert same(augmented(it, found, np.random.default_rng(0)), augmented(it, found, np.random.default_rng(0)))


@pytest.mark.parametrize(
    ("key", "value", "line"),
    [
        ("rotated", 1.5, "augment.rotated is 1.5: a share lies from 0 to 1"),
        ("amplitude", (2.0, 1.0), "augment.amplitude is 2.0 to 1.0: give a smaller and a larger number above 0"),
        ("noise_snr_db", (5.0, float("nan")), "augment.noise_snr_db is 5.0 to nan"),
        ("gap_s", (0.0, 1.0), "augment.gap_s is 0.0 to 1.0"),
        ("shift_s", -1.0, "shift_s is -1.0"),
        ("noisy", 0.5, "augment.noisy asks for noise: name a store"),
    ],
)
def test_what_makes_no_sense_is_refused(key, value, line):
    with pytest.raises(SeislatentError, match=line):
        chain(AugmentConfig(**{key: value}))
