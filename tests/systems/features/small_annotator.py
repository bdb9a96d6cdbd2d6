"""An annotator without weights, whose answers have a known place: how much more moves just after a sample than just before it."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from seislatent.systems.base import Annotator
from seislatent.waveform import Channel, Waveform

DAY_NS = 86_400 * 10**9
START_NS = 18_262 * DAY_NS + 43_200 * 10**9  # 2020-01-01T12:00


class Rise(nn.Module, Annotator):
    """P where the mean absolute change of 0.2 s is many times that of the second before; S the same of the horizontals."""

    phases = ("P", "S")
    sampling_rate_hz, samples, margin, stride = 100.0, 1000, 120, 4
    thresholds = {"P": 0.3, "S": 0.3}  # noqa: RUF012

    def __init__(self):
        super().__init__()
        self.asked = 0

    def probabilities(self, x, valid):
        assert x.dtype == torch.float32 and x.shape[1] == 3 and x.shape == valid.shape and x.shape[2] == self.samples
        assert torch.isfinite(x).all() and (x[~valid] == 0).all()
        self.asked += len(x)
        change = F.pad((x[..., 1:] - x[..., :-1]).abs() * (valid[..., 1:] & valid[..., :-1]), (1, 0))
        before, after = F.avg_pool1d(F.pad(change, (100, -1)), 100, 1), F.avg_pool1d(F.pad(change, (0, 19)), 20, 1)
        ratio = torch.log(after + 1e-12) - torch.log(before + after / 100 + 1e-12)
        ratio = torch.where(after > 0, ratio / np.log(100), 0.0).clamp(0, 1)
        smooth = F.avg_pool1d(F.pad(ratio, (4, 4)), 9, 1)
        return torch.stack([smooth[:, 0], smooth[:, 1:].amax(1)], 1)

    def uncertainty_s(self, phase, probability):
        return 0.1 if phase == "P" else 0.2


def channels(components="ZNE", station="AAA", band="HH"):
    return tuple(Channel(network="XX", station=station, location="00", code=band + c, component=c) for c in components)


def record(
    onsets_s, *, seconds=100.0, rate=100.0, components="ZNE", start_ns=START_NS, seed=0, amplitude=300.0, station="AAA", band="HH"
):
    """Noise of one count with a burst at each onset, the same ground motion at every rate."""
    n = round(seconds * rate)
    t = np.arange(n) / rate
    x = np.random.default_rng(seed).normal(size=(len(components), n))
    for onset in onsets_s:
        later = np.clip(t - onset, 0, None)
        x += (t >= onset) * amplitude * np.exp(-later / 2) * np.sin(2 * np.pi * 4 * later)
    rows = channels(components, station, band)
    return Waveform(data=np.rint(x * 10).astype(np.int32), sampling_rate_hz=rate, channels=rows, start_ns=start_ns, unit="counts")
