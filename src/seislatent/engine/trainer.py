"""One step of learning, for any system: the engine knows `players()`, `frozen()` and `turns()`, and no family by name.

    parts of a batch --system.turns, in lockstep--> Turn --means over all processes--> weigh or balance --backward-->
    these players' gradients --mean over processes--> clip --> step --> next turn

No module is wrapped. See docs/decisions/0001-turns.md.
"""

from __future__ import annotations

import contextlib
import copy
import itertools
import random
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import is_dataclass, replace
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from lightning_fabric import Fabric
from torch import Tensor, nn

from seislatent.batch import Batch
from seislatent.engine import checkpoint
from seislatent.engine.balancer import Balancer
from seislatent.engine.recipe import Recipe, plain
from seislatent.errors import SeislatentError, unknown
from seislatent.nn.processes import full, several
from seislatent.systems.base import System, Turn


class Engine:
    """Trains any system by its turns.

    `average` is a copy of the system whose weights, and floating-point buffers such as codebooks, are running means over steps.
    """

    def __init__(self, system: System, recipe: Recipe, fabric: Fabric):
        self.recipe, self.fabric, self.system, self.steps = recipe, fabric, system.to(fabric.device), 0
        self.players = owned_once(system)
        for name in [*recipe.rates, *(recipe.clip if isinstance(recipe.clip, dict) else ())]:
            known("player", name, self.players)
        if several():
            for tensor in everything(system):
                dist.broadcast(tensor, 0)
        resting = [m for name, modules in system.players().items() if name not in recipe.rates for m in modules]
        system.requires_grad_(True).train()
        for module in [*system.frozen(), *resting]:
            module.requires_grad_(False).eval()  # eval: no running moment of a held module may move either
        self.optimizers = {
            name: torch.optim.AdamW(self.players[name], rate, recipe.betas, weight_decay=recipe.decay)
            for name, rate in recipe.rates.items()
        }
        self.average = copy.deepcopy(system).requires_grad_(False).eval()
        self.balancer = Balancer(recipe.balance)
        self.checked: set[tuple[str, ...]] = set()
        self.wide = torch.float32 if fabric.device.type == "mps" else torch.float64

    def step(self, *parts: Batch) -> dict[str, float]:
        """All turns of one step, on one batch or on several parts of it.

        Returns:
            By term, its mean over the values of all parts and processes; by `gradient/player`, the norm before clipping.

        Raises:
            SeislatentError: terms, weights and players do not fit together, or a gradient is not finite.
        """
        self.sow()
        now = torch.tensor(self.steps, device=self.fabric.device)
        parts = tuple(replace(part.to(self.fabric.device), step=now) for part in parts)
        log: dict[str, list[float]] = {}
        yielded: set[str] = set()
        for turns in self.lockstep(parts):
            for name in turns[0].players:
                known("player", name, self.players)
            for name in turns[0].terms:
                known("loss term", name, self.system.config.weights)
            yielded |= turns[0].terms.keys()
            for name, value in self.take(turns).items():
                log.setdefault(name, []).append(value)
        for name in self.system.config.weights:
            known("weight", name, yielded, "no loss term has this name; a term that is idle at a step is None")
        self.follow()
        self.steps += 1
        return {name: sum(values) / len(values) for name, values in log.items()}

    def sow(self) -> None:
        """Seeds every global generator from (seed, step, rank): no generator's state need ever be saved."""
        words = np.random.SeedSequence([self.recipe.seed, self.steps, self.fabric.global_rank]).generate_state(2)
        torch.manual_seed(int(words[0]) << 32 | int(words[1]))
        np.random.seed(words[0])
        random.seed(int(words[1]))

    def lockstep(self, parts: tuple[Batch, ...]) -> Iterator[list[Turn]]:
        """The same turn of every part. Only the system's code runs under autocast, not what the engine does between two turns."""
        offload = len(parts) > 1 and self.fabric.device.type == "cuda"
        generators = [self.system.turns(part) for part in parts]
        while True:
            spare = torch.autograd.graph.save_on_cpu(pin_memory=True) if offload else contextlib.nullcontext()
            with self.fabric.autocast(), spare:
                turns = [turn for generator in generators if (turn := next(generator, None)) is not None]
            if not turns:
                return
            shapes = {(turn.players, tuple((k, v is None) for k, v in turn.terms.items())) for turn in turns}
            if len(turns) < len(parts) or len(shapes) > 1:
                raise SeislatentError(f"step {self.steps}: the parts of a batch take different turns; only the step may decide")
            yield turns

    def take(self, turns: list[Turn]) -> dict[str, float]:
        """One turn: its terms' means, and the step of its players."""
        players = turns[0].players
        terms = {k: [full(t.terms[k]) for t in turns] for k, v in turns[0].terms.items() if v is not None}  # type: ignore[arg-type]
        sums, counts = self.counted(turns[0], terms)
        values = dict(zip(terms, (sums / counts).tolist(), strict=True))
        active = {name: self.players[name] for name in players if name in self.optimizers}
        if not (active and terms):
            return values
        losses = {k: [v.sum() / n.to(v) for v in parts] for (k, parts), n in zip(terms.items(), counts, strict=True)}
        self.backward(losses, turns, list(itertools.chain(*active.values())))
        for name, parameters in active.items():
            self.share(parameters)
            if all(p.grad is None for p in parameters):
                raise SeislatentError(f"none of the terms {', '.join(terms)} reaches player '{name}', which takes this turn")
            norm = nn.utils.clip_grad_norm_(parameters, self.recipe.limit(name)).item()
            if not np.isfinite(norm):
                told = ", ".join(f"{k} = {v:.4g}" for k, v in values.items())
                raise SeislatentError(
                    f"step {self.steps}: the gradient of player '{name}' is not finite ({told}); "
                    "lower its learning rate, or look for non-finite or huge samples in this step's records"
                )
            for group in self.optimizers[name].param_groups:
                group["lr"] = self.recipe.rate(name, self.steps)
            self.optimizers[name].step()
            values[f"gradient/{name}"] = norm
        return values

    def counted(self, turn: Turn, terms: dict[str, list[Tensor]]) -> tuple[Tensor, Tensor]:
        """Sum of each term's values and their count, both averaged over processes; a count is never 0."""
        if not terms:
            nothing = torch.zeros(0, dtype=self.wide, device=self.fabric.device)
            sums, counts = nothing, nothing
        else:
            sums = torch.stack([torch.stack([v.detach().sum().to(self.wide) for v in parts]).sum() for parts in terms.values()])
            counts = sums.new_tensor([sum(v.numel() for v in parts) for parts in terms.values()])
        if several():
            # one row per declared term, idle ones included: the rows agree on all processes even if idleness does not
            rows = sums.new_zeros(3, len(turn.terms))
            where = [i for i, name in enumerate(turn.terms) if name in terms]
            rows[:, where] = torch.stack([sums, counts, torch.ones_like(sums)])
            rows = self.mean(rows)
            for name, share in zip(turn.terms, rows[2].tolist(), strict=True):
                if 0 < share < 1:
                    raise SeislatentError(f"term '{name}' is idle on some processes only; let the step decide, not the records")
            sums, counts = rows[0, where], rows[1, where]
        return sums, counts + (counts == 0)  # no value on any process: the term is 0, and so is its gradient

    def mean(self, x: Tensor) -> Tensor:
        """Over processes. Fabric reduces in place: hand it only what nobody else holds."""
        return self.fabric.all_reduce(x, reduce_op="mean") if several() else x  # type: ignore[return-value]

    def backward(self, losses: dict[str, list[Tensor]], turns: list[Turn], parameters: Sequence[Tensor]) -> None:
        """Gradients of the weighed or balanced terms, into these parameters only."""
        for p in parameters:
            p.grad = None
        weights = self.system.config.weights
        meeting = [turn.at for turn in turns if turn.at is not None and turn.at.requires_grad]
        slopes: dict[str, list[Tensor]] = {}
        if meeting:
            for name, parts in losses.items():
                pairs = zip(parts, meeting, strict=True)
                found = [
                    torch.autograd.grad(v, y, retain_graph=True, allow_unused=True)[0] if v.requires_grad else None
                    for v, y in pairs
                ]
                if all(slope is not None for slope in found):
                    slopes[name] = found  # type: ignore[assignment]
        roots: list[tuple[Tensor, Tensor | None]] = [
            (weights[name] * v, None) for name, parts in losses.items() if name not in slopes for v in parts
        ]
        if slopes:
            self.refuse_ways_around({name: losses[name][0] for name in slopes}, turns[0], parameters)
            roots += zip(meeting, self.balancer(slopes, weights, self.mean), strict=True)
        if roots := [root for root in roots if root[0].requires_grad]:
            tensors, gradients = zip(*roots, strict=True)
            torch.autograd.backward(tensors, gradients, inputs=parameters)

    def refuse_ways_around(self, balanced: dict[str, Tensor], turn: Turn, parameters: Sequence[Tensor]) -> None:
        """A balanced term's way to its players that avoids `at` would be lost in silence. Walked once for each set of terms."""
        if (key := (*turn.players, "", *balanced)) in self.checked:
            return
        for name, loss in balanced.items():
            if reaches(loss.grad_fn, parameters, around=turn.at.grad_fn):  # type: ignore[union-attr]
                raise SeislatentError(f"term '{name}' reaches its players both through `at` and around it; split it into two terms")
        self.checked.add(key)

    def share(self, parameters: Sequence[Tensor]) -> None:
        """Mean over processes. Missing on one counts as zero; missing on all stays missing, so that the optimizer skips it."""
        if not several():
            return
        flat = torch.cat([torch.zeros_like(p).flatten() if p.grad is None else p.grad.flatten() for p in parameters])
        there = flat.new_tensor([p.grad is not None for p in parameters])
        *shared, there = self.mean(torch.cat([flat, there])).split([*(p.numel() for p in parameters), len(parameters)])
        for p, gradient, anywhere in zip(parameters, shared, there.tolist(), strict=True):
            p.grad = gradient.view_as(p).to(p.dtype) if anywhere else None

    @torch.no_grad()
    def follow(self) -> None:
        """Moves the average towards the weights. It keeps at most (1 + n) / (10 + n) after n steps: the start is soon forgotten."""
        keep = min(self.recipe.average, (1 + self.steps) / (10 + self.steps))
        for ours, theirs in zip(everything(self.average), everything(self.system), strict=True):
            if theirs.is_floating_point() or theirs.is_complex():
                ours.lerp_(theirs, 1 - keep)
            else:
                ours.copy_(theirs)

    def pause(self, path: Any, **more: Any) -> None:
        """Writes all that the next step depends on, and `more`, as JSON. Called on every process; one writes."""
        if self.fabric.is_global_zero:
            tensors = {f"system/{k}": v for k, v in self.system.state_dict().items()}
            tensors |= {f"average/{k}": v for k, v in self.average.state_dict().items()}
            for name, optimizer in self.optimizers.items():
                for i, state in optimizer.state_dict()["state"].items():
                    tensors |= {f"optimizer/{name}/{i}/{k}": v for k, v in state.items()}
            about = {"recipe": plain(self.recipe), "config": self.config(), "steps": self.steps, "balancer": self.balancer.sizes}
            checkpoint.write(path, tensors, about | more)
        self.fabric.barrier()

    def resume(self, path: Any) -> dict[str, Any]:
        """Goes on from what `pause` wrote, and gives its JSON back.

        Raises:
            SeislatentError: the file is damaged, or was made with another recipe or system.
        """
        tensors, about = checkpoint.read(path)
        if "balancer" not in about:
            raise SeislatentError(f"{path} holds a model, not a run to go on with; give a new folder")
        ours = self.config()
        wrong = self.recipe.differences(about["recipe"])
        wrong += [f"{k} was {v!r}, is {ours.get(k)!r}" for k, v in about["config"].items() if ours.get(k) != v]
        if wrong:
            raise SeislatentError(f"{path} was made otherwise: {'; '.join(wrong)}; go on as it was made, or give a new folder")

        def under(prefix: str) -> dict[str, Tensor]:
            return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}

        self.system.load_state_dict(under("system/"))
        self.average.load_state_dict(under("average/"))
        for name, optimizer in self.optimizers.items():
            states: dict[int, dict[str, Tensor]] = {}
            for key, value in under(f"optimizer/{name}/").items():
                index, word = key.split("/")
                states.setdefault(int(index), {})[word] = value
            optimizer.load_state_dict({"state": states, "param_groups": optimizer.state_dict()["param_groups"]})
        self.steps, self.balancer.sizes = about["steps"], {k: tuple(v) for k, v in about["balancer"].items()}
        return about

    def config(self) -> dict[str, Any]:
        """The system's configuration, as JSON gives it back."""
        return plain(self.system.config) if is_dataclass(self.system.config) else {}


def everything(system: nn.Module) -> Iterator[Tensor]:
    """Values of all parameters and buffers."""
    return (t.data for t in itertools.chain(system.parameters(), system.buffers()))


def owned_once(system: System) -> dict[str, list[nn.Parameter]]:
    """Each player's parameters.

    Raises:
        SeislatentError: a parameter has two owners or, unless it is frozen, none.
    """
    players = {name: list(dict.fromkeys(p for m in modules for p in m.parameters())) for name, modules in system.players().items()}
    owners: dict[Tensor, list[str]] = {}
    for name, parameters in [*players.items(), ("frozen", list(dict.fromkeys(p for m in system.frozen() for p in m.parameters())))]:
        for p in parameters:
            owners.setdefault(p, []).append(name)
    for name, p in system.named_parameters():
        if len(found := owners.get(p, [])) != 1:
            told = "to " + " and to ".join(f"'{owner}'" for owner in found) if found else "to nobody"
            raise SeislatentError(f"parameter '{name}' belongs {told}; give it one owner in players() or frozen()")
    return players


def known(what: str, name: str, among: Iterable[str], hint: str = "") -> None:
    """Refuses an unknown name with the nearest known one."""
    if name not in among:
        raise SeislatentError(unknown(what, name, among) + (f" ({hint})" if hint else ""))


def reaches(node: Any, leaves: Sequence[Tensor], around: Any) -> bool:
    """Whether the graph leads from `node` to one of the leaves by a way that avoids the node `around`."""
    seen, queue, goals = {around, None}, [node], {id(p) for p in leaves}
    while queue:
        if (node := queue.pop()) not in seen:
            seen.add(node)
            if id(getattr(node, "variable", None)) in goals:
                return True
            queue += [following for following, _ in node.next_functions]
    return False
