"""Amplitude as whole numbers: what goes out comes back, from silence to 1e20, over jumps by decades and on any offset."""

import random
from fractions import Fraction
from math import floor

import pytest
import torch

from seislatent.signal import gain

FRAME = 40
AMPLITUDES = (1.0, 1e-3, 1e-6, 0.0, 1e-12, 1e20)


def white(frames=32, rows=3, seed=0):
    return torch.randn(rows, frames * FRAME, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def there_and_back(x):
    """Normalised, and restored."""
    offset, scale = gain.measure(x, FRAME)
    y = gain.normalise(x, offset, scale, FRAME)
    return y, gain.restore(y, offset, scale, FRAME)


@pytest.mark.parametrize("offset", [0.0, -3.0, 1e9])
@pytest.mark.parametrize("amplitude", AMPLITUDES)
def test_round_trip(amplitude, offset):
    """To float32's precision in the scale's unit, where float64 and 40 bits below the offset leave it any."""
    x = white() * amplitude + offset
    y, back = there_and_back(x)
    assert y.dtype == torch.float32 and back.dtype == torch.float64
    assert (back - x).abs().max() <= 2e-7 * max(amplitude, abs(offset) * 2.0**-gain.FAINTEST)


@pytest.mark.parametrize("amplitude", [1e-29, 1e-12, 1e-6, 1e-3, 1.0, 1e20, 1e29])
def test_unit_variance_and_small_whole_numbers(amplitude):
    x = white(rows=16) * amplitude
    y, _ = there_and_back(x)
    offset, scale = gain.measure(x, FRAME)
    assert offset.dtype == scale.dtype == torch.long and offset.shape == (16,) and scale.shape == (16, 32)
    assert ((y.std(1) - 1).abs() < 0.1).all() and (y.mean(1).abs() < 0.15).all()  # half a step: 0.75 dB
    assert (scale.abs() <= gain.HIGHEST).all() and (offset.abs() < 2**45).all()


@pytest.mark.parametrize("value", [0.0, 5.0, -1e9, 1e-12, 1e20, 0.1])
def test_constants_come_back(value):
    y, back = there_and_back(torch.full((2, 8 * FRAME), value, dtype=torch.float64))
    assert (y.abs() < 1).all() and (back - value).abs().max() <= 1e-12 * abs(value)


def test_silence_restores_silence_whatever_the_decoder_says():
    offset, scale = gain.measure(torch.zeros(1, 8 * FRAME), FRAME)
    assert (scale == gain.LOWEST).all() and (offset == 0).all()
    loud = torch.full((1, 8 * FRAME), 3.0)
    assert (gain.restore(loud, offset, scale, FRAME) == 0).all()


@pytest.mark.parametrize("factor", [1e6, 1e-6])
def test_scale_follows_a_jump_by_six_decades(factor):
    x = white()
    x -= x.unflatten(1, (-1, FRAME)).mean(2).repeat_interleave(FRAME, 1)
    x[:, 16 * FRAME :] *= factor
    y, back = there_and_back(x)
    scale = gain.measure(x, FRAME)[1]
    assert (scale.diff(dim=1) != 0).sum(1).tolist() == [1, 1, 1]
    assert ((scale[:, -1] - scale[:, 0]).double() - 4 * torch.tensor(factor).log2()).abs().max() <= 2
    for part in (slice(0, 14 * FRAME), slice(18 * FRAME, None)):
        assert ((y[:, part].std(1) - 1).abs() < 0.15).all()
    unit = gain.amplitude(scale, FRAME)
    assert ((back - x).abs() <= 1e-6 * unit).all()


@pytest.mark.parametrize("loud", [8, 16, 20])
def test_a_loud_part_with_a_mean_does_not_hide_the_quiet_part(loud):
    x = white(rows=8)
    x[:, -loud * FRAME :] *= 1e6
    y, _ = there_and_back(x)
    quiet = y[:, : -(loud + 2) * FRAME]
    assert ((quiet.std(1) - 1).abs() < 0.15).all() and (quiet.mean(1).abs() < 0.8).all()


@pytest.mark.parametrize("factor", [1e-2, 1e-4, 1e-6])
def test_a_loud_beginning_leaves_a_quiet_end_on_an_offset(factor):
    x = white()
    x[:, 16 * FRAME :] *= factor
    x += 0.3
    y, back = there_and_back(x)
    assert (y[:, 18 * FRAME :].mean(1).abs() < 0.8).all()
    assert (back - x)[:, 18 * FRAME :].abs().max() < 1e-5 * factor


def test_jumps_are_no_steps_in_the_scale_of_samples():
    scale = torch.tensor([[0, 0, 80, 80, 8, 8]])
    a = gain.amplitude(scale, FRAME)[0]
    assert a.shape == (6 * FRAME,) and a[0] == 1 and a[-1] == 4
    assert a[2 * FRAME + FRAME // 2] == 2.0**20 and a[FRAME + FRAME // 2] == 1  # a frame's own value stands in its middle
    assert (a.log2().diff().abs() <= 20 / FRAME + 1e-12).all()


@pytest.mark.parametrize("margin", [0, 1, 39, 40, 160, 413])
def test_margin_keeps_the_end_values(margin):
    scale = torch.tensor([[4, 4, 12]])
    inner, wide = gain.amplitude(scale, FRAME), gain.amplitude(scale, FRAME, margin)
    assert wide.shape == (1, 3 * FRAME + 2 * margin)
    assert torch.equal(wide[:, margin : margin + 3 * FRAME], inner)
    assert (wide[:, :margin] == 2).all() and (wide[:, margin + 3 * FRAME :] == 8).all()
    x = white(frames=3 + 22, rows=1)[:, : 3 * FRAME + 2 * margin]
    offset = torch.tensor([3])
    y = gain.normalise(x, offset, scale, FRAME, margin)
    alone = gain.normalise(x[:, margin : margin + 3 * FRAME], offset, scale, FRAME)
    assert torch.equal(y[:, margin : margin + 3 * FRAME], alone)


def test_loud_context_is_cut_and_loud_segments_are_not():
    x = white(frames=24, rows=1)
    x[:, :160] *= 1e6
    offset, scale = gain.measure(x[:, 160:-160], FRAME)
    y = gain.normalise(x, offset, scale, FRAME, 160)
    assert y.abs().max() == gain.LOUDEST and y[:, 160:-160].abs().max() < 6
    spike = white(frames=150, rows=1) * 1e-3
    spike[:, 3020] = 1e4
    y, back = there_and_back(spike)
    assert y.abs().max() < gain.LOUDEST and back[0, 3020] == pytest.approx(1e4, rel=1e-6)


def test_decade_rule():
    """Up to a factor ten of its first frame a piece keeps one scale; beyond it a new piece begins."""
    t = torch.arange(16 * FRAME, dtype=torch.float64)
    sine = torch.sin(2 * torch.pi * t / 8)[None]  # the same power in every frame
    for factor, changes in ((9.9, 0), (1 / 9.9, 0), (10.1, 1), (1 / 10.1, 1)):
        x = sine.clone()
        x[:, 8 * FRAME :] *= factor
        assert int((gain.measure(x, FRAME)[1].diff(dim=1) != 0).sum()) == changes, factor


@pytest.mark.parametrize("kind", ["white", "red"])
def test_stationary_noise_has_one_scale(kind):
    x = white(frames=240, rows=20, seed=5)
    if kind == "red":  # corner at 0.2 Hz
        spectrum = torch.fft.rfft(x)
        x = torch.fft.irfft(spectrum / (1 + torch.fft.rfftfreq(x.shape[1], 1 / 40) / 0.2), x.shape[1])
    scale = gain.measure(x, FRAME)[1]
    assert (scale == scale[:, :1]).all()


def test_predicted_is_exact_for_any_pair_of_scales():
    """Offset times the quotient of both steps, halves rounded up, in whole numbers: no float comes near it."""
    dice = random.Random(3)
    for _ in range(5000):
        first, second = dice.randint(gain.LOWEST, gain.HIGHEST), dice.randint(gain.LOWEST, gain.HIGHEST)
        offset = dice.choice([-1, 1]) * dice.getrandbits(dice.randint(1, 45))
        quotient = Fraction(2) ** (floor(Fraction(first, 4)) - floor(Fraction(second, 4)))
        assert gain.predicted(offset, first, second) == floor(offset * quotient + Fraction(1, 2))
    for scale in (gain.LOWEST, -1, 0, 3, gain.HIGHEST):
        assert gain.predicted(12345, scale, scale) == 12345


def test_predicted_foretells_a_steady_offset():
    x = white(rows=2) * torch.tensor([[1.0], [300.0]]) + 1e6
    offset, scale = gain.measure(x, FRAME)
    first, second = (int(s) for s in scale[:, 0])
    assert abs(gain.predicted(int(offset[0]), first, second) - int(offset[1])) <= 2
    assert abs(gain.predicted(int(offset[1]), second, first) - int(offset[0])) <= 2 * 512


def test_same_bits_again_and_in_any_batch():
    x = white(rows=7) * 10.0 ** torch.arange(-3, 4)[:, None] + 17
    offset, scale = gain.measure(x, FRAME)
    y = gain.normalise(x, offset, scale, FRAME)
    assert all(torch.equal(a, b) for a, b in zip(gain.measure(x.clone(), FRAME), (offset, scale), strict=True))
    for i in range(7):
        one = gain.measure(x[i : i + 1], FRAME)
        assert torch.equal(one[0], offset[i : i + 1]) and torch.equal(one[1], scale[i : i + 1])
        assert torch.equal(gain.normalise(x[i : i + 1], *one, FRAME), y[i : i + 1])


@pytest.mark.parametrize("power", [-70, -1, 10, 66])
def test_a_power_of_two_moves_the_scale_alone(power):
    x = white() + 0.3
    offset, scale = gain.measure(x, FRAME)
    offset_2, scale_2 = gain.measure(x * 2.0**power, FRAME)
    assert torch.equal(offset, offset_2) and torch.equal(scale + 4 * power, scale_2)
    y, y_2 = gain.normalise(x, offset, scale, FRAME), gain.normalise(x * 2.0**power, offset_2, scale_2, FRAME)
    assert torch.equal(y, y_2)


def test_zero_samples_of_a_record_are_no_trouble():
    """A dead half: its scale sinks as far as the mean's rounding lets it, and nothing becomes infinite."""
    x = white()
    x[:, 16 * FRAME :] = 0
    y, back = there_and_back(x)
    assert y.isfinite().all() and (back - x).abs().max() < 1e-6
