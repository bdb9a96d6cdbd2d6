"""Tensors and what is known about them, in one safetensors file. Nothing else is ever read: no pickle."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from seislatent.errors import SeislatentError


def write(path: str | Path, tensors: Mapping[str, Tensor], about: Mapping[str, Any]) -> None:
    """Writes the tensors, with `about` as JSON in the file's metadata.

    The file is written beside under another name and moved into place when it is whole and on the disk: a process that is killed
    in between leaves the former file as it was.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    # clone: safetensors refuses tensors that share their memory, such as tied weights
    save_file({k: v.detach().cpu().clone().contiguous() for k, v in tensors.items()}, part, {"about": json.dumps(about)})
    mask = os.umask(0)
    os.umask(mask)
    os.chmod(part, 0o666 & ~mask)  # save_file lets only the owner read
    with open(part, "rb") as file:
        os.fsync(file.fileno())
    os.replace(part, path)


def read(path: str | Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Tensors on the CPU, and what is known about them.

    Raises:
        SeislatentError: the file is absent, damaged, or not one that `write` made.
    """
    try:
        with safe_open(path, "pt") as file:
            about = json.loads((file.metadata() or {})["about"])
            if not isinstance(about, dict):
                raise ValueError("no mapping")
            return {k: file.get_tensor(k) for k in file.keys()}, about  # noqa: SIM118 (not a dictionary)
    except FileNotFoundError:
        raise SeislatentError(f"no checkpoint at {path}") from None
    except (KeyError, ValueError):
        raise SeislatentError(f"{path}: no metadata of seislatent in this safetensors file; give a seislatent checkpoint") from None
    except (SafetensorError, OSError) as error:
        raise SeislatentError(f"{path}: not a whole safetensors file ({error}); only safetensors checkpoints are read") from None


def digest(tensors: Mapping[str, Tensor]) -> str:
    """SHA-256 of names, types, shapes and values, whatever the order and the file: two equal digests are the same weights."""
    sha = hashlib.sha256()
    for name in sorted(tensors):
        values = tensors[name].detach().cpu().contiguous()
        sha.update(f"{name} {values.dtype} {tuple(values.shape)}\n".encode())
        sha.update(values.flatten().view(torch.uint8).numpy().tobytes())
    return sha.hexdigest()
