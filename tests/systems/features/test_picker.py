"""The picker's network: what its answers depend on, how it learns, what it is calibrated to."""

from __future__ import annotations

import math

import pytest
import torch

from seislatent.batch import Batch
from seislatent.errors import SeislatentError
from seislatent.systems.features.hits import Hits, best_threshold, hits, peaks, spread
from seislatent.systems.features.picker import KNOTS, PhasePicker, PhasePickerConfig

SMALL = PhasePickerConfig(widths=(6, 8, 8, 8), dilations=(1, 2), level_s=4.0)


def lively(config=SMALL, seed=0):
    """A picker whose answers are not all noise."""
    torch.manual_seed(seed)
    picker = PhasePicker(config).eval()
    with torch.no_grad():
        picker.last.weight.normal_(std=0.5)
        picker.last.bias.zero_()
    return picker


def events(n=4, length=4096, seed=0):
    """Noise with two bursts [n 3 length], and where they begin."""
    draw = torch.Generator().manual_seed(seed)
    x = torch.randn(n, 3, length, generator=draw)
    p = 500 + 1500 * torch.rand(n, generator=draw)
    s = p + 300 + 700 * torch.rand(n, generator=draw)
    time = torch.arange(length)
    for i in range(n):
        for at, loud in ((p[i], torch.tensor([20.0, 6.0, 6.0])), (s[i], torch.tensor([20.0, 60.0, 60.0]))):
            after = (time - at).clamp_min(0)
            shape = torch.where(time >= at, torch.exp(-after / 400), 0.0)
            x[i] += loud[:, None] * shape * torch.randn(3, length, generator=draw)
    return x, torch.stack([p, s], 1)


def everywhere(x):
    return torch.ones_like(x, dtype=torch.bool)


def test_an_answer_depends_on_the_margin_and_nothing_else():
    picker = lively()
    x, _ = events(2, 8192)
    x[:, :, 5000:] *= 1e4
    whole = picker.probabilities(x, everywhere(x))
    assert whole.std() > 0.05
    for first, last in ((64 * 7, 8192), (0, 6000), (64 * 11, 64 * 11 + 5000)):
        part = x[..., first:last]
        p = picker.probabilities(part, everywhere(part))
        inner = slice(picker.margin if first else 0, len(part[0, 0]) - (picker.margin if last < 8192 else 0))
        assert part[0, 0, inner].numel() > 500
        torch.testing.assert_close(p[..., inner], whole[..., first:last][..., inner], rtol=0, atol=1e-5)
    changed = x.clone()
    changed[:, :, 4000] += 1e3
    moved = ((picker.probabilities(changed, everywhere(x)) - whole).abs() > 1e-6).any(0).any(0).nonzero()
    assert 4000 - int(moved[0]) <= picker.margin and int(moved[-1]) - 4000 <= picker.margin
    assert picker.margin % picker.stride == 0


def test_the_packaged_size_keeps_its_margin():
    picker = lively(PhasePickerConfig())
    x, _ = events(1, 16384)
    whole = picker.probabilities(x, everywhere(x))
    part = x[..., 64 * 9 :]
    p = picker.probabilities(part, everywhere(part))
    torch.testing.assert_close(p[..., picker.margin :], whole[..., 64 * 9 + picker.margin :], rtol=0, atol=1e-5)
    assert picker.samples > 3 * picker.margin and picker.samples % picker.stride == 0


@pytest.mark.parametrize("factor", [1e-9, 1e9])
def test_neither_amplitude_nor_offset_matter(factor):
    picker = lively()
    x, _ = events(2)
    p = picker.probabilities(x, everywhere(x))
    torch.testing.assert_close(picker.probabilities(x * factor, everywhere(x)), p, rtol=0, atol=1e-3)
    torch.testing.assert_close(picker.probabilities(x * factor + 100 * factor, everywhere(x)), p, rtol=0, atol=1e-2)
    each = torch.tensor([1.0, 1e-4, 1e3])[:, None]
    torch.testing.assert_close(picker.probabilities(x * each, everywhere(x)), p, rtol=0, atol=1e-3)


def test_what_is_missing_does_not_enter():
    picker = lively()
    x, _ = events(2)
    valid = everywhere(x)
    valid[:, 1] = False
    valid[:, :, 1000:1200] = False
    p = picker.probabilities(torch.where(valid, x, 0.0), valid)
    for filler in (7.0, float("nan"), float("inf"), -1e30):
        torch.testing.assert_close(picker.probabilities(torch.where(valid, x, filler), valid), p, rtol=0, atol=0)
    nothing = picker.probabilities(x, torch.zeros_like(valid))
    constant = picker.probabilities(torch.full_like(x, 1e6), everywhere(x))
    assert torch.isfinite(nothing).all() and torch.isfinite(constant).all() and torch.isfinite(p).all()


def test_a_flat_stretch_is_no_level():
    """A constant in float32 beside a large offset leaves rounding errors: they are not blown up to motion."""
    picker = lively()
    flat = torch.full((1, 3, 4096), 123456.7)
    assert picker.inputs(flat, everywhere(flat))[:, :6].abs().max() < 0.6
    x, _ = events(1)
    x[..., 1000:3000] = x[..., 1000:1001]
    inputs = picker.inputs(x, everywhere(x))[:, :6]
    assert inputs[..., 1300:2700].abs().max() < 0.01 and inputs[..., 3200:].std() > 0.5


def test_any_length_is_taken():
    picker = lively()
    for n in (1, 63, 64, 65, 700):
        x = torch.randn(1, 3, n)
        assert picker.probabilities(x, everywhere(x)).shape == (1, 2, n)


def test_it_learns_eight_records():
    torch.manual_seed(0)
    picker = PhasePicker(PhasePickerConfig(widths=(8, 12, 16, 16), dilations=(1, 2), level_s=4.0, near=20.0))
    x, marks = events(8, 2560)
    batch = Batch(x=x, condition=marks)
    how = torch.optim.Adam(picker.parameters(), 4e-3)
    for _ in range(120):
        loss = next(iter(picker.turns(batch))).terms["phases"].mean()
        how.zero_grad()
        loss.backward()
        how.step()
    picker.eval()
    told = picker.measures(batch)
    assert told["recall_P"].numel() == told["recall_S"].numel() == 8
    assert told["recall_P"].mean() >= 7 / 8 and told["recall_S"].mean() >= 7 / 8
    calibrated = picker.calibrate(lambda: iter([batch, batch]))
    assert calibrated["P"]["f1"] > 0.9 and picker.thresholds["P"] == pytest.approx(calibrated["P"]["threshold"])
    assert 0.004 < picker.uncertainty_s("P", 0.9) < 0.2 and picker.uncertainty_s("P", 0.1) >= picker.uncertainty_s("P", 0.9)


def test_labels_are_bells_that_share_what_they_overlap():
    picker = lively()
    marks = torch.tensor([[100.25, 400.0, math.nan, 405.0], [math.nan] * 4])
    bells = picker.bells(marks, torch.ones(2, 3, 600, dtype=torch.bool))
    assert bells.shape == (2, 2, 600) and bells[1].abs().max() == 0
    assert bells[0, 0].argmax() == 100 and bells[0, 0].max() == pytest.approx(math.exp(-0.5 * 0.025**2))
    assert bells[0, 1, [400, 405]].tolist() == pytest.approx([1, 1]) and bells[0, 1, 380] == pytest.approx(math.exp(-2), rel=1e-4)
    near = picker.bells(torch.tensor([[300.0, 302.0]]), torch.ones(1, 3, 600, dtype=torch.bool))
    assert near.sum(1).max() <= 1 + 1e-6


def test_a_phase_that_nobody_looked_for_teaches_nothing():
    picker = lively()
    x, marks = events(2)
    mask = torch.ones(2, 2, x.shape[-1], dtype=torch.bool)
    mask[:, 1, 2000:] = False
    given = Batch(x=x, condition=torch.stack([marks[:, 0], torch.full((2,), math.nan)], 1), mask=mask)
    entropy = picker.cross_entropy(given)
    p = picker.probabilities(x, everywhere(x))
    torch.testing.assert_close(entropy[:, 3500:], -torch.log(1 - p[:, 0, 3500:]), rtol=1e-3, atol=1e-3)
    mask[:, 0, 3000:] = False
    assert picker.cross_entropy(given)[:, 3000:].abs().max() == 0
    with pytest.raises(SeislatentError, match=r"P and S.*data\.conditions"):
        next(picker.turns(Batch(x=x)))


def test_peaks_stand_apart():
    p = torch.zeros(1, 300)
    p[0, [50, 60, 150, 151, 290]] = torch.tensor([0.5, 0.9, 0.4, 0.4, 0.05])
    assert peaks(p, 20)[0].nonzero()[:, 0].tolist() == [60, 150]


def test_each_mark_is_found_once():
    class Told:
        phases, sampling_rate_hz = ("P", "S"), 100.0

        def probabilities(self, x, valid):
            p = torch.zeros(1, 2, 1000)
            p[0, 0, [200, 260, 800]] = torch.tensor([0.6, 0.9, 0.5])
            return p

    found = hits(Told(), Batch(x=torch.zeros(1, 3, 1000), condition=torch.tensor([[225.0, 500.0]])))
    table = sorted(zip(found["P"].probability.tolist(), found["P"].right.tolist(), strict=True))
    assert table == [(0.5, False), (pytest.approx(0.9), True)] or table == [
        (0.5, False), (pytest.approx(0.6), False), (pytest.approx(0.9), True)
    ]  # fmt: skip
    assert found["S"].there.tolist() == [True] and found["S"].probability.tolist() == [0.0]
    assert float(found["P"].residual_s[found["P"].right]) == pytest.approx(0.35)


def test_thresholds_and_spreads_by_hand():
    found = Hits(
        probability=torch.tensor([0.9, 0.8, 0.7, 0.6, 0.0]),
        right=torch.tensor([True, True, False, False, False]),
        there=torch.tensor([True, True, False, False, True]),
        residual_s=torch.tensor([0.0, 0.0, math.nan, math.nan, math.nan]),
    )
    threshold, f1 = best_threshold(found)
    assert f1 == pytest.approx(0.8) and threshold == pytest.approx(0.8)
    assert spread(found, KNOTS).tolist() == [0.0] * KNOTS
    many = torch.linspace(0.1, 1, 400)
    r = torch.where(many > 0.55, 0.02, 0.2) * torch.where(torch.arange(400) % 2 == 0, 1.0, -1.0)
    told = spread(Hits(probability=many, right=many > 0, there=many > 0, residual_s=r), KNOTS)
    assert told[0] == pytest.approx(1.4826 * 0.2, rel=1e-3) and told[-1] == pytest.approx(1.4826 * 0.02, rel=1e-3)
    assert math.isnan(lively().uncertainty_s("P", 0.5))
