"""How a system learns: everything about training that is not the system and not its records."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from seislatent.errors import UsageError, unknown

FREE = ("stage_minutes", "workers", "devices", "log_every", "save_every_minutes")
"""What may differ when a run is resumed: nothing of it changes what is learned from one step to the next."""


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How to learn. Stages are recipes: a player without a learning rate rests, in eval mode and without gradients."""

    rates: dict[str, float]
    """Learning rate of each player that learns, at its highest."""
    betas: tuple[float, float] = (0.8, 0.99)
    """Decay of AdamW's two running moments, per step."""
    decay: float = 0.0
    """AdamW's weight decay."""
    clip: float | dict[str, float] = 1.0
    """Largest norm of a player's gradient, one for all or per player; 0, or a player left out: no limit."""
    average: float = 0.999
    """Decay per step of the running mean of the weights; less in the first steps, so that the start is soon forgotten."""
    balance: float = 0.99
    """Decay per step of the balancer's running mean of gradient norms."""
    warmup_steps: int = 0
    """Steps over which the learning rates rise linearly from 0."""
    schedule: str = "constant"
    """`constant`, or `cosine`: from the learning rate to 0 at the last step."""
    steps: int = 100_000
    """Steps in all, over all stages in time."""
    stage_minutes: float = 0.0
    """Save and leave after this many minutes; the same command goes on from there. 0: no limit."""
    batch: int = 32
    """Records per step, over all processes."""
    accumulate: int = 1
    """Parts in which a process takes its share of a step, in lockstep: the gradients of the whole batch."""
    seed: int = 0
    """Of weights, records and noise."""
    precision: str = "32-true"
    """`32-true`, or `bf16-mixed`: networks in bfloat16, weights and sums over records in float32."""
    devices: int = 1
    """Processes, one device each; `torchrun` overrides it."""
    accelerator: str = "auto"
    """`cpu`, `cuda`, `mps`, or `auto`: the best there is."""
    validate_every: int = 0
    """Steps between validations; 0: none."""
    monitor: str = ""
    """Name of the validation's metric by which the best checkpoint is kept; empty: none is kept."""
    mode: str = "max"
    """Whether `max` or `min` of the monitored metric is best."""
    patience: int = 0
    """Stop after this many validations in a row without a better metric; 0: never."""
    save_every_minutes: float = 10.0
    """Minutes between saves of the resume state."""
    workers: int = 0
    """Processes that read batches ahead; 0: read in the training process."""
    log_every: int = 50
    """Steps between lines of the log; each holds the mean of its steps."""

    def __post_init__(self) -> None:
        if self.precision.startswith("16") or self.precision in ("float16", "fp16", "half"):
            raise UsageError(f"precision '{self.precision}': float16 needs a loss scaler, and turns have none; use 'bf16-mixed'")
        choices = {"precision": ("32-true", "bf16-mixed"), "schedule": ("constant", "cosine"), "mode": ("max", "min")}
        for name, known in choices.items():
            if getattr(self, name) not in known:
                raise UsageError(unknown(name, getattr(self, name), known))
        for name in ("steps", "batch", "accumulate", "devices", "log_every"):
            if getattr(self, name) < 1:
                raise UsageError(f"recipe: {name} is {getattr(self, name)}, must be at least 1")
        if not self.rates:
            raise UsageError("recipe: rates is empty, so nobody learns; give a learning rate to at least one player")
        if self.patience and not self.monitor:
            raise UsageError("recipe: patience needs a metric to watch; set monitor to its name")
        if self.monitor and not self.validate_every:
            raise UsageError(f"recipe: monitor '{self.monitor}' is never measured; set validate_every")

    def rate(self, player: str, step: int) -> float:
        """Learning rate of a player at a step, counted from 0."""
        if step < self.warmup_steps:
            return self.rates[player] * (step + 1) / self.warmup_steps
        if self.schedule == "constant":
            return self.rates[player]
        share = (step - self.warmup_steps) / max(1, self.steps - self.warmup_steps)
        return self.rates[player] * 0.5 * (1 + math.cos(math.pi * min(share, 1.0)))

    def limit(self, player: str) -> float:
        """Largest norm of a player's gradient."""
        limit = self.clip.get(player, 0.0) if isinstance(self.clip, Mapping) else self.clip
        return limit or math.inf

    def differences(self, saved: Mapping[str, Any]) -> list[str]:
        """The fields in which a saved recipe differs so that its run cannot be resumed with this one, told in words."""
        mine = plain(self)
        free = {*FREE, "steps"} if mine["schedule"] == saved.get("schedule") == "constant" else {*FREE}
        names = [f.name for f in fields(self) if f.name not in free]
        return [f"{n} was {saved.get(n)!r}, is {mine[n]!r}" for n in names if saved.get(n) != mine[n]]


def plain(record: Any) -> dict[str, Any]:
    """A dataclass as what JSON gives back: tuples are lists."""
    return json.loads(json.dumps(asdict(record)))
