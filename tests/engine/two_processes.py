"""Run under torchrun by test_processes.py: five steps of every system on this process's share. Argument: a folder."""

import sys

import torch
from lightning_fabric import Fabric
from small_systems import SYSTEMS, five_steps, make, records, state

from seislatent.engine import checkpoint
from seislatent.engine.trainer import Engine
from seislatent.errors import SeislatentError
from seislatent.nn.processes import gathered, total
from seislatent.systems.base import Turn

torch.set_num_threads(1)
folder, fabric = sys.argv[1], Fabric(accelerator="cpu", devices=2, strategy="ddp")
fabric.launch()
rank = fabric.global_rank
for name in SYSTEMS:
    engine, log = five_steps(name, fabric)
    checkpoint.write(f"{folder}/{name}.{rank}", state(engine), log)

# a gradient on both processes, on one, on none
both, lone, idle = (torch.nn.Parameter(torch.ones(2)) for _ in range(3))
both.grad = torch.full((2,), float(rank))
lone.grad = torch.ones(2) if rank == 0 else None
engine.share([both, lone, idle])
assert both.grad.tolist() == lone.grad.tolist() == [0.5, 0.5] and idle.grad is None

# rows in rank order, in unequal numbers, none at all included; a total of which both losses are functions
assert gathered(torch.full((3 * rank + 1, 2), float(rank))).tolist() == [[0, 0]] + 4 * [[1, 1]]
assert gathered(torch.ones(rank, 2)).tolist() == [[1, 1]]
x = torch.tensor([1.0 + rank], requires_grad=True)
summed = total(x)
((rank + 1) * summed).sum().backward()
assert summed.item() == 3 and x.grad.item() == 3

# idleness that depends on the process would leave the other one waiting
system, recipe = make("autoencoder")
system.turns = lambda batch: iter([Turn("model", waveform=system.decoder(system.encoder(batch.x)) if rank == 0 else None)])
try:
    Engine(system, recipe, fabric).step(records())
except SeislatentError as error:
    assert "term 'waveform' is idle on some processes only" in str(error)
else:
    raise AssertionError("not refused")
fabric.barrier()
torch.distributed.destroy_process_group()
