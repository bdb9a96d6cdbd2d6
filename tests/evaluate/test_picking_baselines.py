import math
import os
from pathlib import Path

import numpy as np
import pytest

from seislatent.errors import SeislatentError
from seislatent.evaluate.baselines.picking import PICKERS, ArrivalPicks, aic_picks, ar_picks, sta_lta_picks
from seislatent.waveform import Channel, Waveform

RATE, P, S = 100.0, 1500, 1900


def earthquake(amplitude=1.0, seed=0, n=4000, p=P, s=S, components="ZNE", rate=RATE, size=20):
    """Noise of unit standard deviation times `amplitude`; P mostly on Z, a stronger S mostly on the horizontals."""
    rng = np.random.default_rng(seed)
    t = np.arange(n) / rate
    x = rng.normal(size=(len(components), n))

    def wave(at, decay_s):
        since = np.maximum(t - at / rate, 0)
        return np.where(t >= at / rate, np.exp(-since / decay_s), 0) * rng.normal(size=n)

    first, second = wave(p, 2.0), wave(s, 4.0)
    for row, code in zip(x, components, strict=True):
        row += (size * first + 20 * second) if code == "Z" else (size / 4 * first + 80 * second)
    return Waveform(data=amplitude * x, sampling_rate_hz=rate, channels=tuple(Channel(component=c) for c in components))


@pytest.mark.parametrize("name", PICKERS)
@pytest.mark.parametrize("amplitude", [1e-9, 1.0, 1e6])
def test_p_and_s_are_found_at_any_amplitude(name, amplitude):
    picks = [PICKERS[name](earthquake(amplitude, seed)) for seed in range(5)]
    p, s = (np.abs([getattr(q, f"{phase}_sample") - true for q in picks]) for phase, true in (("p", P), ("s", S)))
    assert (p <= 10).all(), p
    assert np.median(s) <= 20 and (s <= 100).all(), s


def test_the_highest_trigger_counts_and_not_the_first():
    x = earthquake()
    click = x.data.copy()
    click[0, 600:630] += 5 * np.random.default_rng(9).normal(size=30)
    picks = sta_lta_picks(x.with_data(click, did="a click"))
    assert abs(picks.p_sample - P) < 10
    assert sta_lta_picks(x, on=1e6).p_sample is None


def test_aic_moves_a_late_trigger_back():
    rough, fine = ([pick(earthquake(seed=k, size=4, s=4000)).p_sample - P for k in range(8)] for pick in (sta_lta_picks, aic_picks))
    assert np.mean(rough) > 2 and np.mean(np.abs(fine)) < 0.7 * np.mean(np.abs(rough))
    assert np.median([aic_picks(earthquake(seed=k)).p_sample for k in range(8)]) == P


def test_components_in_any_order_and_without_horizontals():
    one, other = earthquake(components="ZNE"), earthquake(components="ZNE")
    other = other.select([2, 1, 0])
    for pick in PICKERS.values():
        assert pick(one).p_sample == pick(other).p_sample
    alone = one.select([0])
    assert sta_lta_picks(alone).p_sample == sta_lta_picks(one).p_sample and sta_lta_picks(alone).s_sample is None
    assert aic_picks(alone).s_sample is None and ar_picks(alone) == ArrivalPicks()
    dead = one.with_data(one.data * [[1], [0], [1]], did="dead")
    assert sta_lta_picks(dead).s_sample is None and ar_picks(dead) == ArrivalPicks()


@pytest.mark.parametrize("rate", [20.0, 50.0, 250.0])
def test_other_rates(rate):
    p, s = round(15 * rate), round(21 * rate)
    x = earthquake(rate=rate, n=round(40 * rate), p=p, s=s)
    for name, pick in PICKERS.items():
        if rate > 20 or name != "ar_pick":  # whose windows then hold two samples
            assert abs(pick(x).p_sample - p) <= 0.15 * rate


@pytest.mark.parametrize("n", [0, 1, 2, 30, 499, 501])
@pytest.mark.parametrize("name", PICKERS)
def test_short_and_silent_records_have_no_picks(name, n):
    channels = tuple(Channel(component=c) for c in "ZNE")
    for value in (0.0, 7.0):
        x = Waveform(data=np.full((3, n), value), sampling_rate_hz=RATE, channels=channels)
        assert PICKERS[name](x) == ArrivalPicks()
    loud = Waveform(data=np.random.default_rng(0).normal(size=(3, n)), sampling_rate_hz=RATE, channels=channels)
    assert PICKERS[name](loud).s_sample is None or n > 500


@pytest.mark.parametrize("name", PICKERS)
def test_bad_input_is_told(name):
    x = earthquake()
    with pytest.raises(SeislatentError, match="no vertical"):
        PICKERS[name](x.select([1, 2]))
    broken = x.data.copy()
    broken[2, 7] = math.nan
    with pytest.raises(SeislatentError, match="NaN or infinity"):
        PICKERS[name](x.with_data(broken, did="nan"))
    with pytest.raises(SeislatentError, match="STA must be shorter"):
        sta_lta_picks(x, sta_s=6.0)
    with pytest.raises(SeislatentError, match="must rise"):
        ar_picks(x, band_hz=(30.0, 20.0))


@pytest.mark.skipif("SEISLATENT_RECORDS" not in os.environ, reason="SEISLATENT_RECORDS names no folder with real records")
def test_share_of_manual_picks_reached():
    """What a first attempt reached is a lower bound (benchmarks/pick_baselines.py has the figures)."""
    from seislatent.io.seisbench import SeisBenchFile

    records = SeisBenchFile(Path(os.environ["SEISLATENT_RECORDS"]) / "ncedc_phasenet")
    rng = np.random.default_rng(0)
    apart = {name: [] for name in PICKERS}
    for i in range(len(records)):
        x = records[i]
        if len(x.data) != 3 or (np.ptp(x.data, axis=1) == 0).any():
            continue
        lead = int(rng.integers(600, 2500))
        first = int(x.metadata["trace_p_arrival_sample"]) - lead
        cut = x.with_data(x.data[:, first : first + 3000], did="cut")
        for name, pick in PICKERS.items():
            p = pick(cut).p_sample
            apart[name].append(math.inf if p is None else abs(p - lead) / RATE)
    shares = {name: [np.mean(np.asarray(a) <= t + 1e-6) for t in (0.1, 0.5)] for name, a in apart.items()}
    assert shares["sta_lta"][0] >= 0.75 and shares["sta_lta"][1] >= 0.88, shares
    assert shares["aic"][0] >= 0.82 and shares["ar_pick"][0] >= 0.7, shares
