"""A small model, and the command line run in this process."""

from __future__ import annotations

import json

import pytest

from seislatent import catalog
from seislatent.cli import main as command


@pytest.fixture(scope="session")
def weights(tmp_path_factory):
    """Untrained weights of a small codec, in a file."""
    import torch

    torch.manual_seed(0)
    small = {"width": 4, "lstm_layers": 1, "latent": 8, "discriminator_width": 4, "entries": 16}
    path = tmp_path_factory.mktemp("weights") / "small.safetensors"
    return catalog.save(path, catalog.build("codec/eqcodec", small), "codec/eqcodec", {"name": "small"})


@pytest.fixture
def run(capsys):
    """`run("list", "--json")` gives exit code, standard output and standard error; the output parsed where it is JSON."""

    def call(*words):
        code = command.main([str(w) for w in words])
        out, err = capsys.readouterr()
        return code, json.loads(out) if "--json" in words and code == 0 else out, err

    return call
