"""Tensors and metadata go out and come back; whatever else lies there is refused in one line."""

import os
import pickle

import pytest
import torch

from seislatent.engine import checkpoint
from seislatent.errors import SeislatentError


def test_round_trip(tmp_path):
    weight = torch.randn(3, 4)
    tensors = {
        "a": weight,
        "tied": weight,
        "view": weight.T,
        "half": torch.randn(2).to(torch.bfloat16),
        "flag": torch.tensor([True, False]),
        "count": torch.tensor(7),
        "double": torch.randn(2, dtype=torch.float64),
    }
    about = {"system": "codec/eqcodec", "config": {"width": 3, "nested": {"system": "x"}}, "version": "0.1.0"}
    checkpoint.write(tmp_path / "new" / "a.safetensors", tensors, about)
    again, told = checkpoint.read(tmp_path / "new" / "a.safetensors")
    assert told == about and again.keys() == tensors.keys()
    assert all(torch.equal(again[k], v) and again[k].dtype == v.dtype for k, v in tensors.items())
    assert os.listdir(tmp_path / "new") == ["a.safetensors"]
    assert checkpoint.digest(again) == checkpoint.digest(dict(reversed(tensors.items())))


def test_digest_sees_names_types_shapes_and_values():
    x = torch.arange(6.0)
    others = [{"b": x}, {"a": x.double()}, {"a": x.view(2, 3)}, {"a": x + 1e-6}, {"a": x, "b": x}]
    assert len({checkpoint.digest(t) for t in [{"a": x}, *others]}) == 6
    assert checkpoint.digest({"a": x.view(2, 3).T}) == checkpoint.digest({"a": x.view(2, 3).T.contiguous()})


def test_failed_write_leaves_the_former_file(tmp_path, monkeypatch):
    path = tmp_path / "a.safetensors"
    checkpoint.write(path, {"a": torch.ones(3)}, {})

    def fail(tensors, path, metadata):
        path.write_bytes(b"half")
        raise OSError("no space left on device")

    monkeypatch.setattr(checkpoint, "save_file", fail)
    with pytest.raises(OSError):
        checkpoint.write(path, {"a": torch.zeros(3)}, {})
    assert checkpoint.read(path)[0]["a"].tolist() == [1, 1, 1]


class Hostile:
    def __reduce__(self):
        return (os._exit, (7,))


def test_what_is_no_checkpoint_is_refused(tmp_path):
    checkpoint.write(tmp_path / "a.safetensors", {"a": torch.ones(1000)}, {"steps": 1})
    whole = (tmp_path / "a.safetensors").read_bytes()
    from safetensors.torch import save

    wrong = {
        "cut": whole[: len(whole) // 2],
        "head": whole[:5],
        "empty": b"",
        "pickle": pickle.dumps(Hostile()),
        "foreign": save({"a": torch.ones(3)}),
        "text": save({"a": torch.ones(3)}, {"about": "no json"}),
    }
    for name, content in wrong.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(SeislatentError, match=name):
            checkpoint.read(tmp_path / name)
    with pytest.raises(SeislatentError, match="no checkpoint at"):
        checkpoint.read(tmp_path / "absent")
