"""Arrays as tensors; from a worker of a loader, in memory that it shares with training.

What costs time between processes is pages: each one that a process touches for the first time is a call to the system's kernel,
which clears it (2 to 3 microseconds per 4096 bytes where it was measured, longer than the arithmetic on it). So a worker keeps the
memory that it frees, and writes finished arrays into shared memory as into a file, which touches none; training maps 16 at a time.
"""

from __future__ import annotations

import ctypes
import os
from functools import cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import get_worker_info

from seislatent.errors import SeislatentError

_MMAP_THRESHOLD, _TRIM_THRESHOLD = -3, -1  # parameters of mallopt, <malloc.h>


def tensor(values: NDArray[Any]) -> Tensor:
    """The array as a tensor of its type and shape: itself where it may be, or a copy in shared memory.

    Raises:
        SeislatentError: there is not enough shared memory.
    """
    whole = np.ascontiguousarray(values)
    if get_worker_info() is None or not whole.nbytes or torch.multiprocessing.get_sharing_strategy() != "file_descriptor":
        return torch.from_numpy(whole)
    keep_freed_memory()
    storage = torch.UntypedStorage._new_using_fd_cpu(whole.nbytes)
    file, _ = storage._share_fd_cpu_()
    left, place = whole.reshape(-1).view(np.uint8).data, 0
    try:
        while place < whole.nbytes:
            place += os.pwrite(file, left[place:], place)
    except OSError as error:
        raise SeislatentError(
            f"no shared memory for {whole.nbytes} bytes of a batch ({error.strerror}): make /dev/shm larger, or take fewer workers"
        ) from error
    return torch.empty(0, dtype=torch.from_numpy(whole[:0]).dtype).set_(storage).view(whole.shape)


@cache
def keep_freed_memory() -> None:
    """Tell glibc to keep what this process frees, up to 2 GB, instead of giving it back and getting it anew page by page.

    Called by workers only; elsewhere the user decides (docs/how-to/train.md). Another C library goes on as it is.
    """
    try:
        setting = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError, TypeError):
        return
    setting(_MMAP_THRESHOLD, 2**25)
    setting(_TRIM_THRESHOLD, 2**31 - 1)
