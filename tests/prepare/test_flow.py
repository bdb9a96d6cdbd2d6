import random

import numpy as np
import pytest

from seislatent.prepare.flow import Flow, length
from seislatent.prepare.resample import resample


@pytest.mark.parametrize(("rate_in", "rate_out"), [(100.0, 40.0), (20.0, 40.0), (40.0, 40.0), (62.5, 40.0), (40.0, 99.9871)])
def test_pieces_give_the_bits_of_the_whole(rate_in, rate_out):
    rng = random.Random(1)
    for n in (1, 40, 3001, 30000):
        x = np.random.default_rng(n).normal(size=n) + 1e6
        for longest in (50, 5000, n):
            flow, out, at = Flow(rate_in, rate_out), [], 0
            while at < n:
                step = rng.randint(1, longest)
                out.append(flow.feed(x[at : at + step]))
                at += step
            out.append(flow.close())
            assert np.array_equal(np.concatenate(out), resample(x, rate_in, rate_out))
        assert sum(map(len, out)) == length(n, rate_in, rate_out)


@pytest.mark.parametrize("rate", [20.0, 62.5, 100.0, 99.9871])
def test_a_stream_that_starts_late_keeps_its_place(rate):
    t = np.arange(40 * 90) / 40
    x = np.sin(2 * np.pi * 0.9 * t)
    late = Flow(40.0, rate, first=1601)
    y0 = late.feed(x[1601:2800])
    y = np.concatenate([y0, late.feed(x[2800:3203]), late.close(late.reached())])
    place = late.next - len(y)
    at = (place + np.arange(len(y))) / rate
    assert 1601 / 40 <= at[0] < 1601 / 40 + 1 / rate and 3202 / 40 - 1 / rate < at[-1] <= 3202 / 40
    inner = (at > 1601 / 40 + 3.5) & (at < 3202 / 40 - 3.5)
    assert np.abs(y - np.sin(2 * np.pi * 0.9 * at))[inner].max() < 1e-3


def test_nothing_gives_nothing():
    assert len(Flow(100.0, 40.0).close()) == 0 and len(Flow(100.0, 40.0).feed(np.empty(0))) == 0
