"""The stochastic method alone and hybrid summation."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch

from seislatent.errors import SeislatentError
from seislatent.evaluate.baselines.broadband import Circumstances, Hybrid, Stochastic, matched
from seislatent.signal.filters import Butterworth

RATE, N = 50.0, 1024
LOW = Butterworth(kind="lowpass", corners_hz=1.0, rate_hz=RATE)


def known(records=2, scale=1.0, low=True, **columns):
    rng = np.random.default_rng(0)
    x = LOW(rng.standard_normal((records, 3, N)))
    table = pd.DataFrame({"trace_p_arrival_sample": np.full(records, 200.0), **columns}, index=range(records))
    return Circumstances(
        table=table, samples=N, sampling_rate_hz=RATE, unit="m/s^2", scale=np.full(records, scale),
        low=torch.from_numpy(x) if low else None, low_pass=LOW if low else None,
    )  # fmt: skip


def seeded(seed=1):
    return torch.Generator().manual_seed(seed)


def test_nothing_moves_before_p_and_draws_differ():
    made = Stochastic().draw(known(), 3, seeded())
    assert made.shape == (2, 3, 3, N)
    assert (made[..., :200] == 0).all() and (made[..., 210:].abs().amax(-1) > 0).all()
    assert not torch.equal(made[0, 0], made[0, 1]) and not torch.equal(made[0, 0], made[1, 0])
    assert torch.equal(made, Stochastic().draw(known(), 3, seeded()))
    assert not torch.equal(made, Stochastic().draw(known(), 3, seeded(2)))


def test_a_larger_nearer_earthquake_moves_more_and_scale_divides():
    def peak(scale=1.0, **columns):
        made = Stochastic().draw(known(4, scale, **columns), 4, seeded())
        return made.abs().amax((-2, -1)).log().mean()

    small, large = peak(source_magnitude=4.0), peak(source_magnitude=6.0)
    assert large - small > 1.5
    assert peak(path_ep_distance_km=20.0) - peak(path_ep_distance_km=100.0) > 1.0
    assert peak(scale=10.0) == pytest.approx(float(peak()) - np.log(10), abs=1e-6)


def test_what_a_record_does_not_tell_is_said():
    assert Stochastic(magnitude=5.5).told(known())[0] == "magnitude stated as 5.5 for 2 of 2 records"
    full = known(source_magnitude=5.0, path_hyp_distance_km=50.0, source_depth_km=30.0)
    assert Stochastic().told(full) == []
    distance, missing = Stochastic()._values(full.table, "distance_km")
    assert missing == 0 and distance == pytest.approx([40.0, 40.0])
    assert "octave" in Stochastic().told(known(scale=np.nan))[-1]


def test_the_hybrid_is_the_low_side_plus_what_the_low_pass_takes_away():
    """low + g s - G g s: seen through the complement of the crossover in the frequency domain, both parts sum to one."""
    here = known()
    made = Hybrid().draw(here, 2, seeded())
    above = made - here.low[:, None]
    spectrum = torch.fft.rfft(above).abs().square().mean((0, 1, 2))
    f = torch.fft.rfftfreq(N, 1 / RATE)
    assert spectrum[(f > 0) & (f < 0.4)].mean() < 1e-3 * spectrum[(f > 1.5) & (f < 5)].mean()
    raw = Stochastic()._drawn(here, 2, seeded())
    factor = matched(here.low[1].numpy(), raw[1], LOW)[0]
    assert np.allclose(above[1, 0].numpy() + factor * LOW(raw[1, 0]), factor * raw[1, 0])


def test_the_level_is_matched_in_the_octave_below_the_corner():
    here = known()
    raw = Stochastic()._drawn(here, 2, seeded())
    low = here.low[0].numpy()
    factors = matched(low, raw[0], LOW)
    f = np.fft.rfftfreq(N, 1 / RATE)
    inside = (f >= 0.5) & (f <= 1)

    def energy(x):
        return (np.abs(np.fft.rfft(x)[..., inside]) ** 2).sum((-2, -1))

    assert energy(LOW(raw[0] * factors[:, None, None])) == pytest.approx([energy(low)] * 2)
    assert matched(low * 0, raw[0], LOW) == pytest.approx([1, 1])


def test_a_tenfold_low_side_gives_tenfold_draws():
    here = known()
    one = Hybrid().draw(here, 1, seeded())
    ten = Hybrid().draw(replace(here, low=10 * here.low), 1, seeded())
    assert torch.allclose(ten, 10 * one)


def test_a_matching_frequency_of_its_own():
    here = known()
    made = Hybrid(matching_hz=0.5).draw(here, 1, seeded())
    f, window = torch.fft.rfftfreq(N, 1 / RATE), torch.hann_window(N)
    below = torch.fft.rfft(window * (made - here.low[:, None])).abs()[..., (f > 0.05) & (f < 0.2)].mean()
    assert below < 0.02 * torch.fft.rfft(window * here.low).abs()[..., (f > 0.05) & (f < 0.2)].mean()
    assert "0.5 Hz" in Hybrid(matching_hz=0.5).told(here)[-1]


def test_without_a_low_side_there_is_no_hybrid_and_unknown_units_are_refused():
    with pytest.raises(SeislatentError, match="store of pairs"):
        Hybrid().draw(known(low=False), 1, seeded())
    with pytest.raises(SeislatentError, match="counts"):
        Stochastic().draw(replace(known(), unit="counts"), 1, seeded())


def test_without_unit_and_low_side_the_peak_is_one():
    made = Stochastic().draw(known(scale=np.nan, low=False), 2, seeded())
    assert made.abs().amax((-2, -1)).flatten().tolist() == pytest.approx([1.0] * 4)
