"""Autoencoders that learn on one process or two; run under torchrun by test_self_supervised.py. Argument: a folder."""

from __future__ import annotations

import sys

import torch
from lightning_fabric import Fabric

from seislatent import catalog
from seislatent.batch import Batch
from seislatent.engine import checkpoint
from seislatent.engine.recipe import Recipe
from seislatent.engine.trainer import Engine

SMALL = {"bottleneck": 68, "first": [4], "maps": 6}
NAMES = ("features/autoencoder", "features/masked")


def batch(rows):
    """Noise whose later records lack samples, and holes, fixed per record: what a masked autoencoder draws differs by process."""
    dice = torch.Generator().manual_seed(5)
    x = torch.randn(10, 3, 540, generator=dice, dtype=torch.float64)
    time = torch.arange(540)
    valid = (time < 540 - 20 * torch.arange(10)[:, None, None]).expand_as(x)
    mask = ((time + 31 * torch.arange(10)[:, None, None]) % 60 > 20).expand_as(x)
    return Batch(x=x[rows], valid=valid[rows], mask=mask[rows])


def five_steps(name, fabric):
    """Weights after five steps on this process's share: six records and four, or all ten."""
    torch.manual_seed(0)
    system = catalog.build(name, SMALL).double()
    engine = Engine(system, Recipe(rates={"model": 3e-3}, accelerator="cpu", steps=5), fabric)
    share = range(10) if fabric.world_size == 1 else (range(6), range(6, 10))[fabric.global_rank]
    log = [engine.step(batch([*share])) for _ in range(5)]
    return dict(engine.system.state_dict()), {"log": log}


if __name__ == "__main__":
    torch.set_num_threads(1)
    here = Fabric(accelerator="cpu", devices=2, strategy="ddp")
    here.launch()
    for one in NAMES:
        checkpoint.write(f"{sys.argv[1]}/{one.replace('/', '_')}.{here.global_rank}", *five_steps(one, here))
    here.barrier()
    torch.distributed.destroy_process_group()
