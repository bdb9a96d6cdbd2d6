"""Run by test_train.py: a training that is killed. Arguments: a folder, and `step` (in the middle of one) or `save`."""

import os
import signal
import sys

import torch
from small_systems import Drawn, make

from seislatent.engine import checkpoint
from seislatent.engine.train import train

torch.set_num_threads(1)
folder, where = sys.argv[1:]


class Deadly(Drawn):
    def batch(self, step, rank, world):
        if step == 4 and where == "step":
            os.kill(os.getpid(), signal.SIGKILL)
        return super().batch(step, rank, world)


whole, count = checkpoint.save_file, 0


def half(tensors, path, metadata):
    global count
    whole(tensors, path, metadata)
    count += str(path).endswith("last.safetensors.part")
    if count == 4:
        os.truncate(path, os.path.getsize(path) // 2)
        os.kill(os.getpid(), signal.SIGKILL)


if where == "save":
    checkpoint.save_file = half
train(*make("codec", save_every_minutes=0.0, log_every=1), Deadly(), folder)
