"""SymAE: shifts, codes, terms, bad input, learning, and two processes that do what one does."""

from __future__ import annotations

import pytest
import torch
from lightning_fabric import Fabric
from small_symae import SameNoise, made, pulses, records

from seislatent.batch import Batch
from seislatent.engine.recipe import Recipe
from seislatent.engine.trainer import Engine
from seislatent.errors import SeislatentError
from seislatent.losses.gaussian import kl_to_standard
from seislatent.systems.symmetric.accumulation import Accumulated
from seislatent.systems.symmetric.networks import Frame, filtered, moved
from seislatent.systems.symmetric.symae import correlation, standardised


@pytest.mark.parametrize("lag", [0.0, 0.37, -0.37, 12.0, -11.63])
@pytest.mark.parametrize("scale", [1e6, 1.0, 1e-6, 0.0])
def test_shifts_go_and_come_back(lag, scale):
    frame, t = Frame(96, 12, 8), torch.arange(96.0)
    assert (frame.size, frame.size % 8) == (120, 0)
    x = scale * pulses(3)
    wide = frame.wide(x)
    shift = torch.tensor([lag, -lag, 0.0])
    there = moved(wide, shift)
    torch.testing.assert_close(frame.narrow(moved(there, -shift)), x, rtol=0, atol=2e-6 * scale)
    torch.testing.assert_close(frame.narrow(there)[2], x[2], rtol=0, atol=1e-6 * scale)
    pulse = frame.wide(torch.exp(-(((t - 40) / 4) ** 2))[None, None])
    later = frame.narrow(moved(pulse, torch.tensor([lag])))[0, 0]
    torch.testing.assert_close(later, torch.exp(-(((t - 40 - lag) / 4) ** 2)), rtol=0, atol=1e-5)


def test_nothing_comes_round():
    """What stands at an end is moved out at the other by nothing: only the ripples of its edge."""
    frame = Frame(96, 12, 8)
    x = torch.zeros(1, 1, 96)
    x[..., -30:] = torch.hann_window(30, periodic=False)
    gone = frame.narrow(moved(frame.wide(x), torch.tensor([11.63])))
    assert gone[..., :60].abs().max() < 1e-3 and gone[..., -5:].abs().max() > 0.3
    assert moved(frame.wide(x), torch.tensor([11.63]))[..., :11].abs().max() < 1e-2, "nor into the margin"


def test_the_filter_is_a_convolution_that_does_not_come_round():
    dice = torch.Generator().manual_seed(0)
    x, taps = torch.randn(3, 2, 50, generator=dice), torch.randn(2, 2, 8, generator=dice)
    group = torch.tensor([1, 0, 1])
    expected = torch.zeros_like(x)
    for i in range(3):
        for k in range(8):
            for n in range(50):
                if 0 <= n - (k - 4) < 50:
                    expected[i, :, n] += taps[group[i], :, k] * x[i, :, n - (k - 4)]
    torch.testing.assert_close(filtered(x, taps, group), expected, rtol=1e-4, atol=1e-5)


def test_a_later_record_is_found_later():
    system = made()
    wide = system.frame.wide(pulses(1))
    with torch.no_grad():
        own = system.localiser.features(wide)  # what a template may come to: the record itself, at any scale
        system.localiser.template.copy_(500 * own / own.square().sum() * own.shape[-1] ** 0.5)
    late = torch.tensor([-6.0, -2, 0, 2, 6])
    found = system.localiser(moved(wide.expand(5, -1, -1), late)).neg()
    torch.testing.assert_close(found, late, rtol=0, atol=0.5)
    assert made().localiser(wide).abs().max() < 1e-5, "it begins at 0"
    with torch.no_grad():
        system.localiser.template.normal_(0, 100)
    assert bool((system.localiser(wide).abs() <= system.frame.margin).all())


@pytest.mark.parametrize(("changes", "numbers"), [({}, 2 * 15 + 1), ({"shift_s": 0.0}, 24), ({"filter_s": 0.0}, 31)])
def test_codes_and_redatuming(changes, numbers):
    system, batch = made(**changes).eval(), records()
    coherent, nuisance = system.codes(batch.x, 5 - 3 * batch.group)  # any whole numbers are groups
    assert coherent.shape == (8, 3) and nuisance.shape == (8, numbers)
    assert torch.equal(coherent[0], coherent[5]) and not torch.equal(coherent[0], coherent[6])
    y = system.redatum(coherent[[6, 0]], nuisance[[0, 6]])
    assert y.shape == (2, 1, 96)
    torch.testing.assert_close(y.mean(2), torch.zeros(2, 1), rtol=0, atol=1e-5)
    torch.testing.assert_close(y.square().mean((1, 2)), torch.ones(2))
    torch.testing.assert_close(system.embed(batch.x)[:1], system.codes(batch.x[:1], batch.group[:1])[0], msg="a group of one")
    order = torch.tensor([3, 7, 0, 6, 5, 1, 4, 2])
    again = system.codes(batch.x[order], batch.group[order])
    for a, b in zip(again, (coherent, nuisance), strict=True):
        torch.testing.assert_close(a, b[order], rtol=0, atol=1e-5)
    with pytest.raises(SeislatentError, match=r"give \[batch 3\] and"):
        system.redatum(coherent, nuisance[:, :-1])


def test_the_time_of_a_group_belongs_to_its_coherent_code():
    system, batch = made().eval(), records()
    coherent, nuisance = system.codes(batch.x, batch.group)
    before = system.redatum(coherent, nuisance)
    with torch.no_grad():
        system.origin[-1].bias += 0.5  # all groups later: records are less late beside them, and stand where they stood
    again = system.codes(batch.x, batch.group)
    torch.testing.assert_close(again[1][:, -1], nuisance[:, -1] - 0.5)
    torch.testing.assert_close(system.shifts_s(batch.x, batch.group), again[1][:, -1])
    torch.testing.assert_close(system.redatum(*again), before, rtol=0, atol=1e-4)


@pytest.mark.parametrize("scale", [1e12, 1.0, 1e-12])
def test_amplitude_and_offset_are_no_information(scale):
    system, batch = made().eval(), records()
    for a, b in zip(system.codes((batch.x + 3) * scale, batch.group), system.codes(batch.x, batch.group), strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-3)


def test_ten_thousand_records_of_one_group_in_pieces(monkeypatch):
    system, x = made().eval(), pulses(64).repeat(157, 1, 1)[:10_000]
    group, seen = torch.zeros(10_000, dtype=torch.long), []
    inner = system.evidence
    monkeypatch.setattr(system, "evidence", lambda part: seen.append(len(part)) or inner(part))
    whole = system.accumulate(x, group)
    assert max(seen) == 256 and sum(seen) == 10_000 and whole.records.tolist() == [10_000]
    some = system.accumulate(x[:500], group[:500])
    halves = system.accumulate(x[:333], group[:333], 1) + system.accumulate(x[333:500], group[333:500], 1)
    torch.testing.assert_close(halves.precision, some.precision, rtol=1e-6, atol=0)  # networks in float32, sums in float64
    torch.testing.assert_close(halves.posterior().mean, some.posterior().mean, rtol=0, atol=1e-6)


def test_dead_records_tell_nothing_and_break_nothing():
    system, batch = made(), records()
    x = batch.x.clone()
    x[[1, 7]] = torch.tensor([5.0, 0.0])[:, None, None]  # constant, silent
    coherent, _ = system.eval().codes(x, batch.group)
    keep = torch.tensor([0, 2, 3, 4, 5, 6])
    torch.testing.assert_close(coherent[keep], system.codes(x[keep], batch.group[keep])[0])
    assert not system.codes(x[7:], batch.group[7:])[0].any(), "a group of dead records is the prior"
    h = system.informativeness(x, batch.group)
    assert h[7] >= h[6] and bool(torch.isfinite(h).all())
    torch.testing.assert_close(h[1], kl_to_standard(*system.accumulate(x, batch.group)[0].posterior())[0])
    (turn,) = system.train().turns(Batch(x=x, group=batch.group))
    assert all(bool(torch.isfinite(v).all()) for v in turn.terms.values()) and not turn.terms["waveform"][[1, 7]].any()
    sum(v.mean() for v in turn.terms.values()).backward()
    assert all(p.grad is None or bool(torch.isfinite(p.grad).all()) for p in system.parameters())


def test_terms():
    system, batch = made(nuisance_dropout=0.0), records()
    (turn,) = system.turns(batch)
    assert set(turn.terms) == set(system.config.weights) and all(v.shape == (8,) for v in turn.terms.values())
    x = system.standard(batch.x)
    aligned, _ = system.aligned(x)
    q = Accumulated.of(system.evidence(aligned), batch.group, 2).posterior()
    torch.testing.assert_close(turn.terms["coherent"].sum(), kl_to_standard(*q).sum().float(), msg="once per group")
    torch.testing.assert_close(turn.terms["nuisance"], kl_to_standard(*system.nuisance_encoder(aligned)))
    own = system.codes(batch.x, batch.group)[1][:, -1]
    torch.testing.assert_close(turn.terms["shift"], own.square(), rtol=1e-4, atol=1e-6, msg="beside its group")
    r = torch.tensor([-0.5, 0.0, 0.6, 1.0])
    left, n = torch.tensor([1.25, 1.0, 0.64, 0.0]), 15.36
    expected = n / 2 * (torch.log(left.clamp_min(0.01)) + torch.tensor([1.0, 1.0, 1.0, 0.0]))
    torch.testing.assert_close(system.misfit(r), expected)
    (alone,) = made(coherent_first=2000).turns(batch)
    assert not alone.terms["nuisance"].any(), "at first without the nuisance code"
    assert not made(shift_s=0.0).measures(batch)["shift"].any() and "correlation" in system.eval().measures(batch)


def test_what_is_not_valid_has_no_part():
    system, batch = made().eval(), records()
    valid = torch.ones_like(batch.x, dtype=torch.bool)
    valid[2, :, 80:] = False
    x = batch.x.clone()
    x[2, :, 80:] = 1e3
    other = torch.where(valid, x, -7.0)
    torch.manual_seed(0)
    one = system.measures(Batch(x=x, valid=valid, group=batch.group))
    torch.manual_seed(0)
    two = system.measures(Batch(x=other, valid=valid, group=batch.group))
    torch.testing.assert_close(one["waveform"], two["waveform"])
    y = standardised(x, valid)
    assert not y[2, :, 80:].any() and correlation(y, y).tolist() == pytest.approx([1.0] * 8)


@pytest.mark.parametrize("shape", [(2, 1, 95), (2, 1, 200), (2, 3, 96), (2, 96)])
def test_other_lengths_are_refused(shape):
    with pytest.raises(SeislatentError, match="1 components of 96 samples at 10 Hz"):
        made().codes(torch.randn(*shape), torch.tensor([0, 0]))


@pytest.mark.parametrize("changes", [{"shift_s": -1.0}, {"coherent": 0}])
def test_settings_that_cannot_be(changes):
    with pytest.raises(SeislatentError, match="1 or more"):
        made(**changes)


def test_two_processes_do_what_one_does():
    """Whole groups on each: gradients of the means over all records, from the sums of the two."""
    batch = records(dtype=torch.float64)

    def gradients(parts):
        system = made(dtype=torch.float64)
        with torch.no_grad():
            system.localiser.template.normal_(0, 1, generator=torch.Generator().manual_seed(3))
        for rows, groups in parts:
            share = Batch(x=batch.x[rows], group=batch.group[rows] - groups[0], step=batch.step)
            with SameNoise(rows, groups):
                (turn,) = system.turns(share)
            sum(system.config.weights[k] * v.sum() / 8 for k, v in turn.terms.items()).backward()
        return {k: p.grad for k, p in system.named_parameters()}

    one = gradients([([*range(8)], [0, 1])])
    two = gradients([([*range(6)], [0]), ([6, 7], [1])])
    for name, value in one.items():
        torch.testing.assert_close(two[name], value, rtol=0, atol=1e-11, msg=name)


def test_it_overfits_eight_records():
    torch.manual_seed(0)
    system, batch = made(width=16, nuisance=4, nuisance_dropout=0.0, independent_per_s=4.0), records()
    engine = Engine(system, Recipe(rates={"model": 5e-3}, clip=5.0, steps=300), Fabric(accelerator="cpu", devices=1))
    for _ in range(300):
        engine.step(Batch(x=batch.x, group=batch.group))
    r = system.eval().measures(batch)["correlation"]
    assert r.min() > 0.9, r
