"""A small SymAE, and records for it: pulses of a few sources along random paths, shifted."""

from __future__ import annotations

import torch
from torch.overrides import TorchFunctionMode

from seislatent.batch import Batch
from seislatent.systems.symmetric.symae import SymAE, SymAEConfig

SMALL = {
    "samples": 96, "coherent": 3, "nuisance": 2, "halvings": 3, "width": 8, "shift_s": 1.2, "filter_s": 3.2, "coherent_first": 0,
}  # fmt: skip


def made(seed=0, dtype=torch.float32, **changes):
    torch.manual_seed(seed)
    return SymAE(SymAEConfig(**{**SMALL, **changes})).to(dtype)


def pulses(count, source=0, seed=0, samples=96, late=0.0):
    """[count 1 samples] at 10 Hz: one Gaussian pulse or two (source 1), then echoes of random place and size; `late` in s."""
    dice = torch.Generator().manual_seed(seed)
    t = torch.arange(samples) / 10
    late = torch.as_tensor(late).reshape(-1, 1, 1).expand(count, 1, 1)

    def arrival(at, size):
        once = torch.exp(-(((t - at) / 0.25) ** 2))
        return size * (once + source * 0.8 * torch.exp(-(((t - at - 0.8) / 0.25) ** 2)))

    x = arrival(2.5 + late, 1.0)
    for _ in range(3):
        at = 3.5 + 3 * torch.rand(count, 1, 1, generator=dice)
        x = x + arrival(at + late, 0.4 * torch.randn(count, 1, 1, generator=dice))
    return x


def records(seed=0, dtype=torch.float32):
    """Eight records: six of source 0, four of them shifted, and two of source 1."""
    shift = torch.tensor([0.0, 0.0, 0.4, -0.4, 0.2, -0.7])
    x = torch.cat([pulses(6, 0, seed, late=shift), pulses(2, 1, seed + 1)])
    return Batch(x=x.to(dtype), group=torch.tensor([0, 0, 0, 0, 0, 0, 1, 1]), step=torch.tensor(1000))


class SameNoise(TorchFunctionMode):
    """Random numbers that belong to a record or to a group, whoever asks for them: drawn for all, each process gets its rows."""

    def __init__(self, records, groups):
        super().__init__()
        self.rows = {len(rows): torch.as_tensor(rows) for rows in (records, groups)}
        self.calls = 0

    def __torch_function__(self, function, types, args=(), kwargs=None):
        if function not in (torch.randn_like, torch.rand):
            return function(*args, **(kwargs or {}))
        like = args[0] if function is torch.randn_like else torch.empty(args[0], dtype=kwargs["dtype"])
        self.calls += 1
        dice = torch.Generator().manual_seed(self.calls)
        draw = torch.randn if function is torch.randn_like else torch.rand
        return draw(100, *like.shape[1:], dtype=like.dtype, generator=dice)[self.rows[len(like)]]
