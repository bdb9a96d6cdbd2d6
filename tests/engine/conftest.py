import os
import sys
from pathlib import Path

import pytest
import torch
from lightning_fabric import Fabric

sys.path.insert(0, str(Path(__file__).parent))


@pytest.fixture(autouse=True, scope="session")
def one_thread():
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def fabric():
    return Fabric(accelerator="cpu", devices=1)


@pytest.fixture(scope="session")
def environment():
    """For processes that tests start: one thread each, and the small systems to import."""
    path = os.pathsep.join([str(Path(__file__).parent), *filter(None, [os.environ.get("PYTHONPATH")])])
    return os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": path}
