"""EQcodec in a size for tests, and records for it; imported by tests and by the processes that they start."""

from __future__ import annotations

import functools
from contextlib import contextmanager
from dataclasses import replace
from unittest import mock

import numpy as np
import torch

from seislatent.batch import Batch
from seislatent.data.synthetic import mixture
from seislatent.engine.recipe import Recipe
from seislatent.engine.trainer import Engine
from seislatent.systems.codec.eqcodec import EQCodec, EQCodecConfig
from seislatent.systems.codec.lending import PART

FRAME, MARGIN = 40, 160
TINY = EQCodecConfig(width=4, lstm_layers=1, latent=PART + 2, books=3, entries=16, decay=0.5, discriminator_width=4)
JUDGED = frozenset({"real", "fake", "fool", "features"})
ALONE = {k: v for k, v in TINY.weights.items() if k not in JUDGED}
"""Weights without discriminator."""


@functools.cache
def mixtures(n, frames, seed=0):
    """Synthetic records [n 1 time] with context on both sides."""
    rng = np.random.default_rng(seed)
    rows = [mixture(rng, frames * FRAME + 2 * MARGIN, 40.0) for _ in range(n)]
    return torch.from_numpy(np.stack(rows)).double()[:, None]


def made(seed=0, **changes):
    """A system whose strided path and codebooks are not at their quiet start."""
    torch.manual_seed(seed)
    system = EQCodec(replace(TINY, **changes))
    for layer in (system.encoder.project, system.decoder.out):
        torch.nn.init.normal_(layer.weight, std=0.1)
    quantizer = system.quantizer
    if system.config.lend:  # the fine books are noise already, in a unit that is foretold
        quantizer.coarse.normal_()
    else:
        fineness = 0.5 ** torch.arange(system.books)[:, None, None]
        quantizer.codebooks.copy_(torch.randn(quantizer.codebooks.shape) * fineness)
    quantizer.started.fill_(1)
    return system.eval()


def coders(system):
    """The players that are no discriminators."""
    return tuple(name for name in system.players() if name != "discriminator")


def recipe(system, rate=1e-3, **rules):
    """For the players that there are."""
    return Recipe(**({"rates": dict.fromkeys(system.players(), rate), "accelerator": "cpu", "average": 0.9} | rules))


@contextmanager
def wide():
    """float64 throughout: what the codec narrows to float32 stays as wide as it is."""
    with mock.patch.object(torch.Tensor, "float", torch.Tensor.double):
        yield


def shares(world):
    """Ten records, shared out unequally over two processes."""
    return {1: [list(range(10))], 2: [list(range(6)), list(range(6, 10))]}[world]


CASES = {
    "all": {"full_level": 1.0},
    "levels": {},
    "plain": {"full_level": 1.0, "balanced": False},
    "alone": {"full_level": 1.0, "weights": ALONE},
    "lend": {"lend": True},
}


def six_steps(case, fabric):
    """An engine in float64 after six steps on this process's share of ten records, and the log of the last one."""
    torch.manual_seed(fabric.global_rank)  # ranks start apart: the first one's weights must win
    system = EQCodec(replace(TINY, **CASES[case])).double()
    index = shares(fabric.world_size)[fabric.global_rank]
    system.ends = lambda n, device: torch.arange(20).view(10, 2)[index] % 3 == 0
    if case in ("levels", "lend"):
        system.levels = lambda n, device: torch.arange(10)[index] % 3 + 1
    with wide():
        engine = Engine(system, recipe(system), fabric)
        for step in range(6):
            log = engine.step(Batch(x=mixtures(10, 12, seed=step % 2)[index]))
    return engine, log


def state(engine):
    """Everything that learns or follows, and the last gradients."""
    told = engine.system.state_dict() | {f"average/{k}": v for k, v in engine.average.state_dict().items()}
    return told | {f"gradient/{k}": p.grad for k, p in engine.system.named_parameters() if p.grad is not None}
