import math

import pytest
import torch
from obspy.signal.cross_correlation import correlate_template

from seislatent.errors import SeislatentError
from seislatent.metrics.onset import onset_shift

RATE = 100.0


def record(onset_s, n=2000, seed=0, rate=RATE, noise=0.01):
    """A wavelet that sets in at a time, exact between samples, in weak noise; a larger, fixed one later."""
    t = torch.arange(n, dtype=torch.float64) / rate

    def wave(at, f):
        since = (t - at).clamp(min=0)
        return since.square() * torch.exp(-6 * since) * torch.sin(2 * math.pi * f * since)

    g = torch.Generator().manual_seed(seed)
    return 100 * wave(onset_s, 5.0) + 1000 * wave(14.0, 2.0) + noise * torch.randn(n, generator=g, dtype=torch.float64)


@pytest.mark.parametrize("late_s", [0.0, 0.0437, -0.2512, 0.31])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_shift_of_an_onset(late_s, dtype):
    x = 0.01 * record(8.0 + late_s, seed=1) + 3
    found = onset_shift(x.to(dtype), record(8.0).to(dtype), RATE, torch.tensor(800))
    assert found.shift_s.item() == pytest.approx(late_s, abs=5e-4)
    assert found.coefficient > 0.99 and not found.at_limit


def test_only_the_window_counts():
    """The larger wave at 14 s does not move: correlation of whole records would say 0."""
    x = torch.stack([record(8.1), record(7.9)])[:, None].expand(2, 3, -1)
    y = record(8.0).expand(2, 3, -1)
    found = onset_shift(x, y, RATE, torch.tensor([[800.0], [800.4]]).expand(2, 3))
    torch.testing.assert_close(found.shift_s, torch.tensor([[0.1], [-0.1]], dtype=torch.float64).expand(2, 3), atol=5e-4, rtol=0)


def test_parity_with_obspy():
    x, y = record(8.1, seed=3, noise=5.0), record(8.0, seed=4, noise=5.0)
    found = onset_shift(x, y, RATE, torch.tensor(800), before_s=0.5, after_s=1.0, max_shift_s=0.4)
    template = y[750:900].numpy()
    expected = correlate_template(x[710:940].numpy(), template, mode="valid", normalize="full", demean=True, method="direct")
    assert len(expected) == 81
    assert found.coefficient.item() == pytest.approx(expected.max(), rel=1e-9)
    assert abs(found.shift_s.item() * RATE - (expected.argmax() - 40)) <= 0.5


def test_coefficient_by_hand():
    y, x = torch.zeros(9), torch.zeros(9)
    y[3:6] = torch.tensor([1.0, 3.0, 2.0])
    x[3:6] = torch.tensor([2.0, 3.0, 1.0])
    found = onset_shift(x, y, 1.0, torch.tensor(4), before_s=1, after_s=2, max_shift_s=0)
    assert found.coefficient.item() == pytest.approx(0.5, abs=1e-6) and found.shift_s == 0


def test_a_shift_beyond_the_limit_is_told():
    found = onset_shift(record(8.08, noise=0), record(8.0, noise=0), RATE, torch.tensor(800), max_shift_s=0.05)
    assert found.at_limit and found.shift_s == pytest.approx(0.05)


def test_no_pick_no_room_and_no_motion_are_nan():
    x = record(8.0).expand(5, -1).clone()
    x[4] = 7.0
    picks = torch.tensor([math.nan, 50.0, 1990.0, 800.0, 800.0])
    found = onset_shift(x, record(8.0).expand(5, -1), RATE, picks)
    assert found.shift_s.isnan().tolist() == [True, True, True, False, True]
    assert found.coefficient.isnan().tolist() == [True, True, True, False, True] and not found.at_limit.any()
    assert onset_shift(record(8.0), 0 * x[0], RATE, torch.tensor(800)).shift_s.isnan()
    assert onset_shift(x[:, :1], x[:, :1], RATE, picks).shift_s.isnan().all()  # one sample


def test_a_window_of_rounding_has_no_coefficient():
    """Exact zeros before a loud wave must not correlate by rounding."""
    x = torch.zeros(1000)
    x[600:] = 1e6
    y = torch.zeros(1000)
    y[500:510] = torch.linspace(0, 1, 10)
    found = onset_shift(x, y, RATE, torch.tensor(500), before_s=0.2, after_s=0.2, max_shift_s=1.0)
    assert -1 <= found.coefficient <= 1
    assert 0.8 < found.shift_s <= 1.0  # no earlier window before the step has motion


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"before_s": -0.1}, "no negative times"),
        ({"before_s": 0.0, "after_s": 0.0}, "two samples"),
        ({"onset_sample": torch.zeros(7)}, "give one each"),
        ({"estimate": torch.zeros(3, 11)}, "resample"),
    ],
)
def test_bad_input_is_told(changes, said):
    given = {"estimate": torch.zeros(3, 10), "reference": torch.zeros(3, 10), "onset_sample": torch.tensor(3)} | changes
    with pytest.raises(SeislatentError, match=said):
        onset_shift(given.pop("estimate"), given.pop("reference"), RATE, given.pop("onset_sample"), **given)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_a_weak_onset_before_a_strong_one_is_found(dtype):
    """S, three hundred times as strong, just behind the window of P and within reach of its shifts."""
    t = torch.arange(1000, dtype=torch.float64) / 100

    def record(late_s):
        p, s = (torch.sin(40 * (t - at)) * torch.exp(-4 * (t - at)) * (t >= at) for at in (4 + late_s, 5.3))
        return (p + 300 * s).to(dtype)

    found = onset_shift(record(0.05), record(0.0), 100.0, torch.tensor(400))
    assert found.shift_s.item() == pytest.approx(0.05, abs=2e-3) and found.coefficient > 0.9 and found.shift_s.dtype == dtype
