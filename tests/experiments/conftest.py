"""Small stores of records that a head can learn from, and a small encoder."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from seislatent import catalog
from seislatent.data.recipe import Made
from seislatent.data.shards import ShardWriter, finish
from seislatent.waveform import Channel, Waveform

SAMPLES, RATE_HZ = 64, 20.0


def window(rng, number, label, split, **told):
    """Noise, from P on ten times as large in an earthquake; an explosion's second half is small again."""
    x, p = rng.normal(size=(3, SAMPLES)), int(rng.integers(12, 40))
    if label != "noise":
        x[:, p:] *= 20
        told = {"trace_p_arrival_sample": float(p), "trace_s_arrival_sample": p + 10.0, **told}
    if label == "explosion":
        x[:, p + 8 :] /= 8
    told = {"trace_name": f"{label}{number}", "label": label, "split": split, "source_id": f"e{number}", **told}
    channels = tuple(Channel(network="XX", station=f"S{number % 5}", code=f"BH{c}", component=c) for c in "ZNE")
    return Waveform(
        data=(x / np.abs(x).max()).astype(np.float32), sampling_rate_hz=RATE_HZ, channels=channels, unit="1",
        start_ns=(1_500_000_000 + 3600 * number) * 10**9, metadata=told,
    )  # fmt: skip


def write_store(path, records):
    with ShardWriter(path, 0) as shard:
        for record in records:
            shard.add(Made(record=record))
    finish(path, {"recipe": "test"})
    return path


@pytest.fixture(scope="session")
def make_store(tmp_path_factory):
    """`make_store(labels, count)` gives a store with so many events, one record of each label; every third for the test."""

    def make(labels, count, **told):
        rng = np.random.default_rng(0)
        records = [
            window(rng, k, label, "test" if k % 3 == 0 else "train", **told) for k in range(count) for label in labels
        ]  # fmt: skip
        return write_store(tmp_path_factory.mktemp("experiment") / "store", records)

    return make


@pytest.fixture(scope="session")
def quakes(make_store):
    """24 earthquakes and their noise."""
    return make_store(("noise", "earthquake"), 24)


@pytest.fixture(scope="session")
def many(make_store):
    """75 earthquakes and their noise."""
    return make_store(("noise", "earthquake"), 75)


@pytest.fixture(scope="session")
def shots(make_store):
    """24 pairs of an earthquake and an explosion."""
    return make_store(("earthquake", "explosion"), 24)


@pytest.fixture(scope="session")
def weights(tmp_path_factory):
    """A small encoder with first weights, in a file."""
    torch.manual_seed(3)
    small = {"samples": SAMPLES, "bottleneck": 16, "first": [8], "maps": 16}
    system = catalog.build("features/autoencoder", small)
    return catalog.save(tmp_path_factory.mktemp("encoder") / "small.safetensors", system, "features/autoencoder")
