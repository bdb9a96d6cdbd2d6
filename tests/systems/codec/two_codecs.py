"""Run under torchrun by test_eqcodec.py: six steps of each case on this process's share. Argument: a folder."""

import sys

import torch
from lightning_fabric import Fabric
from small_codec import CASES, six_steps, state

from seislatent.engine import checkpoint

torch.set_num_threads(1)
fabric = Fabric(accelerator="cpu", devices=2, strategy="ddp")
fabric.launch()
for case in CASES:
    engine, log = six_steps(case, fabric)
    checkpoint.write(f"{sys.argv[1]}/{case}.{fabric.global_rank}", state(engine), log)
fabric.barrier()
torch.distributed.destroy_process_group()
