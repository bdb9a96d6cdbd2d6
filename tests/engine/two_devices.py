"""Run by test_processes.py: `train` starts its own second process. Argument: a folder."""

import sys

import torch
import torch.distributed as dist
from small_systems import Shares, make

from seislatent.engine.train import train

torch.set_num_threads(1)
for steps in (3, 6):  # the second call goes on from the first one's folder
    system, recipe = make("codec", torch.float64, devices=2, steps=steps, validate_every=2, monitor="height")
    if steps == 3:
        train(system, recipe, Shares(torch.float64), sys.argv[1], validate=lambda system: {"height": 1.0})
        assert not dist.is_initialized()
    else:
        train(system, recipe, Shares(torch.float64), sys.argv[1], validate=lambda system: {"height": 1.0})
