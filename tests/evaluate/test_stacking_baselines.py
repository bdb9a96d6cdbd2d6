import math

import numpy as np
import pytest
import torch
from obspy.signal.util import stack as obspy_stack

from seislatent.errors import SeislatentError
from seislatent.evaluate.baselines.stacking import align, linear_stack, phase_weighted_stack, shifted

RATE = 50.0


def pulse(late_s, n=600):
    """A Ricker wavelet of 2 Hz at 6 s + late_s, exact between samples: [record time]."""
    t = torch.arange(n, dtype=torch.float64) / RATE
    a = (math.pi * 2.0 * (t - 6 - torch.as_tensor(late_s, dtype=torch.float64)[..., None])).square()
    return (1 - 2 * a) * torch.exp(-a)


def group(records=24, noise=0.3, channels=2, seed=0, spread_s=1.0):
    """A known signal on every channel, each record moved by its own time and of its own size, in noise."""
    g = torch.Generator().manual_seed(seed)
    late = spread_s * (2 * torch.rand(records, generator=g, dtype=torch.float64) - 1)
    late = late - late.mean()
    sizes = 10 ** (4 * torch.rand(records, 1, 1, generator=g, dtype=torch.float64) - 2)
    clean = torch.stack([pulse(late + 0.5 * k) for k in range(channels)], 1)
    return sizes * (clean + noise * torch.randn(clean.shape, generator=g, dtype=torch.float64)), late, sizes


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_shifts_are_found(dtype):
    x, late, _ = group()
    found = align(x.to(dtype), RATE, max_shift_s=2.5)
    torch.testing.assert_close(found.shift_s.double(), late, atol=0.03, rtol=0)
    assert found.shift_s.dtype == dtype and found.records.shape == x.shape and found.iterations <= 10
    assert (found.coefficient > 0.2).all()


def test_shifts_without_noise_are_exact_between_samples():
    x, late, sizes = group(noise=0.0)
    found = align(x, RATE, max_shift_s=2.5)
    torch.testing.assert_close(found.shift_s, late, atol=2e-4, rtol=0)
    same = found.records / sizes
    torch.testing.assert_close(same, same.mean(0).expand(same.shape), atol=2e-3, rtol=0)


def test_iterations_help_and_stop():
    """In noise of half the signal's peak a single record is no reference: half of the shifts are wrong at first."""
    x, late, _ = group(noise=0.5)
    errors = [(align(x, RATE, max_shift_s=2.5, iterations=k).shift_s - late).abs().max().item() for k in (1, 10)]
    assert errors[0] > 1 and errors[1] < 0.1
    assert align(group(noise=0.0)[0], RATE, max_shift_s=2.0, iterations=50).iterations < 6


def test_stacking_takes_noise_down_by_the_root_of_the_number():
    x, _, sizes = group(records=64, noise=0.5)
    aligned = align(x, RATE, max_shift_s=2.5).records / sizes
    stack, weighted = linear_stack(aligned), phase_weighted_stack(aligned, 1.0)
    inside = slice(150, 450)
    error = (stack - torch.stack([pulse(0.0), pulse(0.5)]))[:, inside].square().mean().sqrt().item()
    assert 0.7 * 0.5 / 8 < error < 1.4 * 0.5 / 8
    quiet = slice(100, 200)  # before the signal
    assert weighted[:, quiet].square().mean() < 0.1 * stack[:, quiet].square().mean()
    assert 0.7 * stack[0].max() < weighted[0].max() < stack[0].max()


@pytest.mark.parametrize("power", [0.0, 1.0, 2.0])
def test_parity_with_obspy(power):
    x = torch.randn(7, 500, generator=torch.Generator().manual_seed(0), dtype=torch.float64)  # 500 needs no zeros in ObsPy
    np.testing.assert_allclose(phase_weighted_stack(x, power), obspy_stack(x.numpy(), ("pw", power)), atol=1e-12)
    np.testing.assert_allclose(linear_stack(x), obspy_stack(x.numpy()), atol=1e-14)


def test_identical_records_stack_to_themselves():
    x = pulse(0.0).expand(5, 3, 600)
    torch.testing.assert_close(linear_stack(x), x[0])
    torch.testing.assert_close(phase_weighted_stack(x, 4.0), x[0])
    one = align(x[:1], RATE, max_shift_s=1.0)
    torch.testing.assert_close(one.records, x[:1])
    assert one.shift_s.abs().max() == 0 and one.coefficient == 0
    assert align(x, RATE, max_shift_s=1.0).coefficient == pytest.approx(torch.ones(5))


def test_opposite_phases_vanish():
    x = torch.stack([pulse(0.0), -pulse(0.0), 5 * pulse(0.0), -pulse(0.0)])
    assert phase_weighted_stack(x, 1.0).abs().max() < 1e-12 < linear_stack(x).abs().max()


@pytest.mark.parametrize("amplitude", [1e-25, 1e25])
def test_any_amplitude_in_float32(amplitude):
    x, late, _ = group(noise=0.1)
    found = align((amplitude * x).float(), RATE, max_shift_s=2.5)
    torch.testing.assert_close(found.shift_s.double(), late, atol=0.02, rtol=0)
    weighted = phase_weighted_stack((amplitude * x).float()) / amplitude
    torch.testing.assert_close(weighted.double(), phase_weighted_stack(x), atol=1e-3 * weighted.abs().max().item(), rtol=0)


def test_silent_records_stay():
    x, _, _ = group(records=6, noise=0.05)
    x[2] = 0
    x[4] = 3.0  # an offset alone
    found = align(x, RATE, max_shift_s=2.5)
    assert found.shift_s[[2, 4]].tolist() == [0, 0] and found.coefficient[[2, 4]].tolist() == [0, 0]
    assert abs(found.shift_s.sum().item()) < 1e-9 and found.records.isfinite().all()
    silence = align(torch.zeros(4, 2, 100), RATE, max_shift_s=0.5)
    assert silence.shift_s.abs().max() == 0 and silence.records.abs().max() == 0 and silence.coefficient.abs().max() == 0
    assert phase_weighted_stack(torch.zeros(4, 2, 100)).abs().max() == 0


@pytest.mark.parametrize("lag", [0.0, 3.0, -7.0, 2.37, -0.5])
def test_shifting_there_and_back_and_nothing_comes_round(lag):
    late = torch.tensor([0.0, 0.4], dtype=torch.float64)
    x = pulse(late)[:, None]
    lags = torch.full((2,), lag, dtype=torch.float64)
    torch.testing.assert_close(shifted(x, lags), pulse(late + lag / RATE)[:, None], atol=1e-9, rtol=0)
    torch.testing.assert_close(shifted(shifted(x, lags), -lags), x, atol=1e-9, rtol=0)
    edge = torch.zeros(1, 1, 50, dtype=torch.float64)
    edge[..., -1] = 1
    assert shifted(edge, torch.tensor([4.0])).abs().max() == 0
    assert shifted(edge, torch.tensor([-4.0]))[0, 0, 45] == 1
    assert shifted(edge, torch.tensor([4.5])).abs().max() < 0.2


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda x: align(x, RATE, max_shift_s=100.0), "shorter than the record"),
        (lambda x: align(x, RATE, max_shift_s=math.nan), "shorter than the record"),
        (lambda x: align(x, RATE, max_shift_s=1.0, iterations=0), "one or more"),
        (lambda x: align(x[0, 0], RATE, max_shift_s=1.0), r"\[record, channel, time\]"),
        (lambda x: linear_stack(x[:0]), "no traces"),
        (lambda x: phase_weighted_stack(x, -1.0), "power of -1.0"),
        (lambda x: linear_stack(x / 0 * 0), "NaN"),
    ],
)
def test_bad_input_is_told(call, said):
    with pytest.raises(SeislatentError, match=said):
        call(torch.ones(3, 2, 100))
