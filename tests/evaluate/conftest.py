"""The codec and the records of these tests."""

from __future__ import annotations

import numpy as np
import pytest
from knowncodec import KnownModel, square

from seislatent.io.seisbench import write_seisbench


@pytest.fixture
def known():
    return KnownModel()


@pytest.fixture
def folder(tmp_path):
    """Four good records of three events, one with a dead channel, one with a NaN, one silent; and one of another split."""
    rng = np.random.default_rng(0)
    dead, broken = square(rows=3, event="two", start=2 * 10**18), square(event="three", start=3 * 10**18)
    dead.data[1] = 7
    nan = broken.data.astype(np.float32)
    nan[0, 5] = np.nan
    noisy = square(event="four", start=4 * 10**18)
    records = [
        square(rows=3),
        dead,
        square(event="three", amplitude=300, start=3 * 10**18, station="BBB"),
        noisy.with_data(np.round(noisy.data + rng.normal(0, 10, noisy.data.shape)).astype(np.int32), did="noise"),
        broken.with_data(nan, did="a NaN"),
        square(amplitude=0, event="five", start=5 * 10**18),
        square(event="six", split="train", start=6 * 10**18),
    ]
    return write_seisbench(tmp_path / "records", records)
