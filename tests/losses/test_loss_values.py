"""The four tests of every loss: least at identity, a value by hand, finite at silence and at 1e-7, and the stated blindness."""

import math

import pytest
import torch

from seislatent.errors import SeislatentError
from seislatent.losses.amplitude_phase import stft_amplitude_phase
from seislatent.losses.focal_frequency import focal_frequency
from seislatent.losses.hyperspherical import hyper_spherical
from seislatent.losses.logarithmic import mean_squared_logarithmic
from seislatent.losses.mel import multiscale_mel
from seislatent.losses.spectral import multiscale_stft
from seislatent.losses.waveform import FLOOR, absolute_error, negative_snr, relative_squared_error, squared_error
from seislatent.losses.wavelet import wavelet

LOSSES = {
    "absolute_error": absolute_error,
    "squared_error": squared_error,
    "mean_squared_logarithmic": mean_squared_logarithmic,
    "hyper_spherical": hyper_spherical,
    "focal_frequency": focal_frequency,
    "focal_frequency logarithmic": lambda x, y, **named: focal_frequency(x, y, 0.5, logarithmic=True, **named),
    "stft amplitude": lambda x, y, **named: stft_amplitude_phase(x, y, **named).amplitude,
    "stft phase": lambda x, y, **named: stft_amplitude_phase(x, y, **named).phase,
    "multiscale_mel": lambda x, y, **named: multiscale_mel(x, y, 40.0, logarithmic=False, **named),
    "multiscale_mel logarithmic": lambda x, y, **named: multiscale_mel(x, y, 40.0, **named),
    "wavelet": wavelet,
    "multiscale_stft": multiscale_stft,
    "multiscale_stft logarithmic": lambda x, y, **named: multiscale_stft(x, y, logarithmic=True, **named),
    "relative_squared_error": relative_squared_error,
    "negative_snr": negative_snr,
}
AT_IDENTITY = {"negative_snr": 10 * math.log10(FLOOR / (1 + FLOOR))}
each = pytest.mark.parametrize("name", LOSSES)


def unit_noise(seed=0, shape=(4, 1, 600)):
    x = torch.randn(shape, generator=torch.Generator().manual_seed(seed))
    return x / x.square().mean((1, 2), keepdim=True).sqrt()


@each
def test_least_at_identity(name):
    x = unit_noise().requires_grad_()
    value = LOSSES[name](x, x.detach())
    assert value.shape == (4,)
    torch.testing.assert_close(value, torch.full((4,), AT_IDENTITY.get(name, 0.0)), atol=1e-4, rtol=0)
    value.sum().backward()
    assert torch.isfinite(x.grad).all()
    assert (LOSSES[name](unit_noise(1), x.detach()) > value + 0.1).all()


@each
@pytest.mark.parametrize("amplitude", [0.0, 1e-7])
@pytest.mark.parametrize("of_reference", [0.0, 1e-7, 1.0, 1e9])
def test_finite_on_silence_and_faint_records(name, amplitude, of_reference):
    x = (amplitude * unit_noise(2)).requires_grad_()
    value = LOSSES[name](x, of_reference * unit_noise(3))
    value.sum().backward()
    assert torch.isfinite(value).all() and torch.isfinite(x.grad).all()


@each
def test_one_value_per_record_of_its_own(name):
    x, y = unit_noise(4, (3, 2, 300)), unit_noise(5, (3, 2, 300))
    alone = torch.cat([LOSSES[name](x[i : i + 1], y[i : i + 1]) for i in range(3)])
    torch.testing.assert_close(LOSSES[name](x, y), alone, rtol=1e-4, atol=1e-5)


@each
def test_nothing_comes_from_what_is_not_valid(name):
    x, y = unit_noise(8, (3, 2, 300)).requires_grad_(), unit_noise(9, (3, 2, 300))
    everywhere = torch.ones(x.shape, dtype=torch.bool)
    torch.testing.assert_close(LOSSES[name](x, y, valid=everywhere), LOSSES[name](x, y))
    valid = everywhere.clone()
    valid[0, :, 250:] = False  # padding
    valid[1, 1] = False  # a dead component
    valid[2] = False  # no record at all
    value = LOSSES[name](x, y, valid=valid)
    spoiled = LOSSES[name](torch.where(valid, x, torch.nan), torch.where(valid, y, 7), valid=valid)
    torch.testing.assert_close(value, spoiled, rtol=0, atol=0)
    spoiled.sum().backward()
    assert torch.isfinite(x.grad).all() and not x.grad[~valid].any() and x.grad[valid].abs().sum() > 0
    assert value[2] == 0
    dead = LOSSES[name](x[1:2, :1], y[1:2, :1])  # a record with one dead component is the record without it
    torch.testing.assert_close(value[1:2], dead, rtol=1e-4, atol=1e-5)


@each
def test_float32_inside_whatever_comes(name):
    x, y = unit_noise(10).to(torch.bfloat16).requires_grad_(), unit_noise(11)
    outside = LOSSES[name](x.float(), y)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = LOSSES[name](x, y)
    assert inside.dtype == torch.float32
    torch.testing.assert_close(inside, outside, rtol=0, atol=0)
    inside.sum().backward()
    assert x.grad.dtype == torch.bfloat16 and torch.isfinite(x.grad).all()


@each
def test_all_of_it_stays_on_the_device_of_the_records(name):
    """The meta device has shapes and no numbers, and refuses to be mixed with another, as a GPU does."""
    x = unit_noise().to("meta")
    for valid in (None, torch.ones_like(x, dtype=torch.bool)):
        assert LOSSES[name](x, x, valid=valid).device.type == "meta"


@pytest.mark.gpu
@each
def test_the_same_on_a_gpu(name):
    found = []
    for device in ("cpu", "cuda"):
        x = unit_noise(15).double().to(device).requires_grad_()
        value = LOSSES[name](x, unit_noise(16).double().to(device))
        value.sum().backward()
        found.append((value.detach().cpu(), x.grad.cpu()))
    torch.testing.assert_close(*found, rtol=1e-9, atol=1e-9)


# the weight of the focal ones holds its gradient back: see test_sample_losses.py
@pytest.mark.parametrize("name", [name for name in LOSSES if not name.startswith("focal")])
def test_gradients_are_those_of_the_value(name):
    x, y = (unit_noise(seed, (2, 2, 70)).double() for seed in (12, 13))
    windows = {} if "stft" not in name and "mel" not in name else {"windows": (8, 16)}
    assert torch.autograd.gradcheck(lambda x: LOSSES[name](x, y, **windows), x.requires_grad_(), atol=1e-4)


@each
def test_shapes_that_do_not_fit(name):
    x = unit_noise(14)
    with pytest.raises(SeislatentError, match="one shape"):
        LOSSES[name](x, x[:, 0])
    with pytest.raises(SeislatentError, match="one shape"):
        LOSSES[name](x, x[..., :1])
    with pytest.raises(SeislatentError, match="without samples"):
        LOSSES[name](x[..., :0], x[..., :0])
    with pytest.raises(SeislatentError, match="give booleans"):
        LOSSES[name](x, x, valid=torch.ones(x.shape))
    one = x[..., :1]
    assert torch.isfinite(LOSSES[name](one, -one)).all()  # one sample is short, but a record


def test_values_by_hand():
    x, y = torch.tensor([[[1.0, 2.0, 3.0]]]), torch.tensor([[[1.0, 0.0, 4.0]]])
    torch.testing.assert_close(relative_squared_error(x, y), torch.tensor([5 / 17]))
    torch.testing.assert_close(negative_snr(x, y), torch.tensor([10 * math.log10(5 / 17)]))
    torch.testing.assert_close(relative_squared_error(0 * y, y), torch.ones(1))
    assert negative_snr(0 * y, 0 * y) == 0
    torch.testing.assert_close(absolute_error(x, y), torch.tensor([1.0]))
    torch.testing.assert_close(squared_error(x, y), torch.tensor([5 / 3]))


def test_spectral_value_by_hand():
    """One unit impulse in the middle of the only frame that sees it: |S| = 1 / sqrt(sum of w^2) at every frequency."""
    x = torch.zeros(1, 1, 8)
    x[..., 4] = 1  # window 8, hop 2: frames at 0, 2, 4, 6, 8 see it at weights 0, 0.5, 1, 0.5, 0
    size = torch.tensor([0.0, 0.5, 1.0, 0.5, 0.0]) / math.sqrt(3)  # a Hann window of 8 has an energy of 3
    by_hand = size.mean() + size.square().mean().sqrt()
    torch.testing.assert_close(multiscale_stft(x, torch.zeros_like(x), [8])[0], by_hand, atol=1e-5, rtol=0)
    logs = torch.log((size + 1e-3) / 1e-3)
    by_hand = size.mean() + logs.square().mean().sqrt()
    torch.testing.assert_close(multiscale_stft(x, torch.zeros_like(x), [8], logarithmic=True)[0], by_hand, atol=1e-4, rtol=0)


def test_stated_blindness():
    x = unit_noise(6)
    assert multiscale_stft(-x, x).abs().max() < 1e-5
    burst, hum = torch.zeros(1, 1, 600), torch.full((1, 1, 600), 0.1)
    burst[..., 300] = 0.1 * math.sqrt(600)
    for loss in (squared_error, relative_squared_error, negative_snr):
        torch.testing.assert_close(loss(x[:1] + burst, x[:1]), loss(x[:1] + hum, x[:1]), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(absolute_error(x + 0.1 * x.sign(), x), absolute_error(x + hum, x), rtol=1e-4, atol=0)
    torch.testing.assert_close(negative_snr(30 * unit_noise(7), 30 * x), negative_snr(unit_noise(7), x), rtol=1e-4, atol=1e-4)
