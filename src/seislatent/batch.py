"""The one form in which records reach a system."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class Batch:
    """Records of one process: tensors only, what is absent is None.

    Groups of records stay flat: `group[i]` is the group of record i, counted from 0; whole groups stand on one process.
    The engine fills `step` (a scalar), for terms that are idle at some steps.
    """

    x: Float[Tensor, "batch channel time"]
    mask: Bool[Tensor, "batch channel time"] | None = None
    """True where a sample is given, False where it is hidden from the system."""
    valid: Bool[Tensor, "batch channel time"] | None = None
    """False where a sample is padding, a gap or a dead component."""
    scale: Float[Tensor, "batch channel"] | None = None
    """What `x` was divided by, in the record's own unit."""
    target: Float[Tensor, "batch channel time"] | None = None
    label: Tensor | None = None
    condition: Float[Tensor, "batch condition"] | None = None
    group: Int[Tensor, " batch"] | None = None
    step: Tensor | None = None

    def to(self, device: torch.device | str) -> Batch:
        """The same batch on another device."""
        given = {f.name: value for f in fields(self) if (value := getattr(self, f.name)) is not None}
        return replace(self, **{name: value.to(device, non_blocking=True) for name, value in given.items()})
