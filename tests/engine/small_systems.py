"""Small systems that hold the hard cases, and records for them."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import nn
from torch.overrides import TorchFunctionMode

from seislatent.batch import Batch
from seislatent.engine.recipe import Recipe
from seislatent.engine.trainer import Engine
from seislatent.nn.processes import full, gathered, total
from seislatent.systems.base import System, Turn, still

LENGTH = 32
HERE = Path(__file__).parent


@dataclass(frozen=True, kw_only=True)
class Config:
    width: int = 6
    noise: float = 0.1
    weights: dict[str, float] = field(default_factory=dict)


def convolutions(*widths):
    layers = []
    for a, b in itertools.pairwise(widths):
        layers += [nn.Conv1d(a, b, 5, padding=2), nn.GELU()]
    return nn.Sequential(*layers[:-1])


class Autoencoder(System):
    """One player, one term; noise in the middle, and masked samples, so that shares of processes differ in their counts."""

    Config = Config

    def __init__(self, config):
        super().__init__(config)
        self.encoder, self.decoder = convolutions(1, config.width, 2), convolutions(2, config.width, 1)

    def turns(self, batch):
        z = self.encoder(batch.x)
        y = self.decoder(z + self.config.noise * torch.randn_like(z))
        yield Turn("model", waveform=((y - batch.x) ** 2)[batch.valid])


class Book(nn.Module):
    """One codebook. `forward` is pure; `update` moves it by sums over processes, and a hardly used entry to the worst vector."""

    def __init__(self, size, width):
        super().__init__()
        self.register_buffer("entries", torch.randn(size, width))
        self.register_buffer("usage", torch.ones(size))

    def forward(self, z):
        rows = z.transpose(1, 2)
        code = torch.cdist(rows.detach(), self.entries).argmin(-1)
        left = rows - self.entries[code]
        return z - left.detach().transpose(1, 2), left, code

    @torch.no_grad()
    def update(self, rows, left, code):
        rows, left, code = full(rows.transpose(1, 2)).flatten(0, 1), full(left).flatten(0, 1), code.flatten()
        summed = total(torch.zeros_like(self.entries).index_add(0, code, rows.to(self.entries)))
        count = total(code.bincount(minlength=len(self.usage)).to(self.usage))
        mass = 0.5 * self.usage[:, None] * self.entries + 0.5 * summed
        self.usage.lerp_(count, 0.5)
        self.entries.copy_(mass / self.usage[:, None].clamp_min(1e-6))
        dead = (self.usage < 0.3).nonzero()[:, 0]
        error = left.square().sum(-1)
        worst = error.topk(min(len(dead), len(error))).indices
        best = gathered(error[worst]).topk(len(dead)).indices
        self.entries[dead] = gathered(rows[worst])[best].to(self.entries)
        self.usage[dead] = 1.0


class Codec(System):
    """Discriminator, balancer, straight-through quantiser whose book moves after the last turn."""

    Config = Config

    def __init__(self, config):
        super().__init__(config)
        w = config.width
        self.encoder, self.book, self.decoder = convolutions(1, w, 3), Book(8, 3), convolutions(3, w, 1)
        self.discriminator = convolutions(1, w, 1)

    def players(self):
        return {"discriminator": [self.discriminator], "codec": [self.encoder, self.book, self.decoder]}

    def embed(self, x):
        return self.encoder(x).mean(-1)

    def turns(self, batch):
        x, judge = batch.x, self.discriminator
        z = self.encoder(x)
        q, left, code = self.book(z)
        y = self.decoder(q)
        yield Turn("discriminator", real=F.relu(1 - judge(x)), fake=F.relu(1 + judge(y.detach())))
        yield Turn("codec", at=y, waveform=(y - x) ** 2, fool=-judge(y), commit=left**2)
        self.book.update(z, left, code)

    def diagnostics(self):
        return {"usage": float((self.book.usage > 0.3).double().mean())}


class Head(System):
    """A head on a nested codec: what learns is given by the recipe, book and decoder never do. Some records bear no label."""

    Config = Config

    def __init__(self, config):
        super().__init__(config)
        self.nested = Codec(WEIGHED["codec"])
        self.moments = nn.BatchNorm1d(3, affine=False)
        self.head = nn.Linear(3, 2)

    def frozen(self):
        return [self.nested.book, self.nested.decoder, self.nested.discriminator, self.moments]

    def players(self):
        return {"head": [self.head], "encoder": [self.nested.encoder]}

    def turns(self, batch):
        logits, given = self.head(self.moments(self.nested.embed(batch.x))), batch.label >= 0
        yield Turn("head", "encoder", label=F.cross_entropy(logits[given], batch.label[given], reduction="none"))


class Critic(System):
    """A critic with a gradient penalty every second step (`batch.step` decides), a generator, an encoder held still."""

    Config = Config

    def __init__(self, config):
        super().__init__(config)
        self.generator = nn.Sequential(nn.Linear(4, 8), nn.GELU(), nn.Linear(8, LENGTH), nn.Unflatten(1, (1, LENGTH)))
        self.encoder = nn.Sequential(nn.Flatten(), nn.Linear(LENGTH, 4))
        self.critic = nn.Sequential(nn.Flatten(), nn.Linear(LENGTH, 8), nn.GELU(), nn.Linear(8, 1))

    def players(self):
        return {name: [getattr(self, name)] for name in ("critic", "encoder", "generator")}

    def penalty(self, real, fake):
        a = torch.rand(len(real), 1, 1, dtype=real.dtype)
        between = (a * real + (1 - a) * fake).requires_grad_()
        (slope,) = torch.autograd.grad(self.critic(between).sum(), between, create_graph=True)
        return (slope.flatten(1).norm(dim=1) - 1) ** 2

    def turns(self, batch):
        x = batch.x
        z = torch.randn(len(x), 4, dtype=x.dtype)
        fake = self.generator(z)
        penalty = self.penalty(x, fake.detach()) if int(batch.step) % 2 == 0 else None
        yield Turn("critic", real=-self.critic(x), fake=self.critic(fake.detach()), penalty=penalty)
        yield Turn("encoder", waveform=(self.encoder(x) - 1) ** 2)
        back = still(self.encoder)(fake)
        yield Turn("generator", fool=-self.critic(fake), latent=(back - z).abs())


SYSTEMS = {"autoencoder": Autoencoder, "codec": Codec, "head": Head, "critic": Critic}
WEIGHED = {
    "autoencoder": Config(weights={"waveform": 1.0}),
    "codec": Config(weights={"real": 1.0, "fake": 1.0, "waveform": 1.0, "fool": 0.3, "commit": 0.2}),
    "head": Config(weights={"label": 1.0}),
    "critic": Config(weights={"real": 1.0, "fake": 1.0, "penalty": 10.0, "waveform": 1.0, "fool": 1.0, "latent": 0.5}),
}
RATES = {
    "autoencoder": {"model": 3e-3},
    "codec": {"codec": 3e-3, "discriminator": 1e-3},
    "head": {"head": 1e-2},
    "critic": {"critic": 2e-3, "encoder": 2e-3, "generator": 2e-3},
}


def make(name, dtype=torch.float32, seed=0, weights=None, **recipe):
    """A system with its weights drawn from `seed`, and a recipe."""
    torch.manual_seed(seed)
    config = WEIGHED[name] if weights is None else replace(WEIGHED[name], weights=weights)
    recipe = {"rates": RATES[name], "accelerator": "cpu", "average": 0.9, "steps": 6} | recipe
    return SYSTEMS[name](config).to(dtype), Recipe(**recipe)


def records(n=10, dtype=torch.float32, seed=7):
    """Decaying sinusoids of random start, frequency and phase; later records have padding, the last ones bear no label."""
    g = torch.Generator().manual_seed(seed)
    t = torch.arange(LENGTH, dtype=torch.float64)
    start, kind = torch.randint(2, 12, (n, 1, 1), generator=g), torch.arange(n) % 2
    phase = torch.rand(n, 1, 1, generator=g, dtype=torch.float64) + (0.05 + 0.1 * kind[:, None, None]) * (t - start)
    x = torch.sin(2 * torch.pi * phase) * torch.exp(-(t - start).clamp_min(0) / 10) * (t >= start)
    valid = (t < LENGTH - torch.arange(n)[:, None, None]).expand(n, 1, LENGTH)
    return Batch(x=x.to(dtype), valid=valid, label=torch.where(torch.arange(n) < 6, kind, -1))


def rows(batch, index):
    """These records of a batch."""
    return Batch(x=batch.x[index], valid=batch.valid[index], label=batch.label[index])


class Shares:
    """Records by step: the same whatever the number of processes, shared out unequally (6 and 4 of 10 for two)."""

    def __init__(self, dtype=torch.float32):
        self.dtype = dtype

    def batch(self, step, rank, world):
        return rows(records(10, self.dtype, seed=step), self.of(world)[rank])

    @staticmethod
    def of(world):
        return {1: [list(range(10))], 2: [list(range(6)), list(range(6, 10))]}[world]


class Drawn:
    """Eight records by step, in equal shares."""

    def batch(self, step, rank, world):
        return rows(records(8, seed=step), list(range(rank, 8, world)))


class SameNoise(TorchFunctionMode):
    """Random tensors of which each process gets its records' rows: drawn for all ten records from (step, which call)."""

    def __init__(self, step, index):
        super().__init__()
        self.step, self.index, self.calls = step, list(index), 0

    def __torch_function__(self, function, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if function in (
            torch.randint,
            torch.randperm,
            torch.normal,
            torch.bernoulli,
            torch.multinomial,
            torch.rand_like,
            F.dropout,
        ):
            raise NotImplementedError(f"no shared noise for {function.__name__}")
        if function not in (torch.randn, torch.rand, torch.randn_like):
            return function(*args, **kwargs)
        like = function is torch.randn_like
        shape, dtype = (args[0].shape, args[0].dtype) if like else (args, kwargs["dtype"])
        assert shape[0] == len(self.index)
        self.calls += 1
        generator = torch.Generator().manual_seed(1000 * self.step + self.calls)
        return (torch.randn if like else function)(10, *shape[1:], dtype=dtype, generator=generator)[self.index]


def five_steps(name, fabric, dtype=torch.float64):
    """An engine after five steps on this process's share of ten records, and the log of the last one."""
    system, recipe = make(name, dtype, seed=fabric.global_rank)  # ranks start apart: the first one's weights must win
    engine, index = Engine(system, recipe, fabric), Shares.of(fabric.world_size)[fabric.global_rank]
    for step in range(5):
        share = rows(records(10, dtype), index)
        with SameNoise(step, index):
            log = engine.step(share)
    return engine, log


def state(engine):
    """Everything that learns or follows."""
    return engine.system.state_dict() | {f"average/{k}": v for k, v in engine.average.state_dict().items()}
