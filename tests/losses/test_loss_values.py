"""The four tests of every loss: least at identity, a value by hand, finite at silence and at 1e-7, and the stated blindness."""

import math

import pytest
import torch

from seislatent.losses.spectral import multiscale_stft
from seislatent.losses.waveform import FLOOR, negative_snr, relative_squared_error

LOSSES = {
    "multiscale_stft": multiscale_stft,
    "multiscale_stft logarithmic": lambda x, y: multiscale_stft(x, y, logarithmic=True),
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
@pytest.mark.parametrize("of_reference", [0.0, 1e-7, 1.0])
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


def test_values_by_hand():
    x, y = torch.tensor([[[1.0, 2.0, 3.0]]]), torch.tensor([[[1.0, 0.0, 4.0]]])
    torch.testing.assert_close(relative_squared_error(x, y), torch.tensor([5 / 17]))
    torch.testing.assert_close(negative_snr(x, y), torch.tensor([10 * math.log10(5 / 17)]))
    torch.testing.assert_close(relative_squared_error(0 * y, y), torch.ones(1))
    assert negative_snr(0 * y, 0 * y) == 0


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
    for loss in (relative_squared_error, negative_snr):
        torch.testing.assert_close(loss(x[:1] + burst, x[:1]), loss(x[:1] + hum, x[:1]), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(negative_snr(30 * unit_noise(7), 30 * x), negative_snr(unit_noise(7), x), rtol=1e-4, atol=1e-4)
