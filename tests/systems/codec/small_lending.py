"""A quantiser that lends, and its water-filling and allocation in plain Python; imported by tests."""

from __future__ import annotations

import torch

from seislatent.systems.codec.lending import BITS, LOUDER, MOST, PART, STEPS_PER_OCTAVE, LendingQuantizer
from seislatent.systems.codec.quantizer import nearest

LATENT = PART + 4


def vectors(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def drawn(high, *shape, low=0, seed=0):
    return torch.randint(low, high, shape, generator=torch.Generator().manual_seed(seed))


def made(books=4, entries=16, latent=LATENT, **rules):
    """A quantiser with drawn books, that foretells powers which differ by octaves."""
    torch.manual_seed(0)
    it = LendingQuantizer(books, entries, latent, **rules).requires_grad_(False)
    it.coarse.copy_(vectors(entries, latent, seed=1) * torch.exp(0.7 * vectors(entries, 1, seed=2)))
    it.spread.layers[-1].weight.mul_(4)
    it.started.fill_(1)
    return it


def steady(quantizer, octaves):
    """Foretells the same powers [latent] everywhere."""
    quantizer.spread.layers[-1].weight.zero_()
    quantizer.spread.layers[-1].bias.copy_(torch.as_tensor(octaves, dtype=torch.float32))


def coarse_of(quantizer, z):
    """Entries of book 1 nearest to z [batch latent frame], and their sum [batch frame latent]."""
    first = nearest(z.transpose(1, 2), quantizer.coarse)
    return first, quantizer.coarse[first]


def allotted(quantizer, coarse, scale):
    """Parts, powers and ranks, each [batch frame token ...]."""
    parts, powers = (t.unflatten(0, coarse.shape[:2]) for t in quantizer.rounds(quantizer.foretold(coarse).flatten(0, 1)))
    return parts, powers, quantizer.ranks(powers, scale)


def water_filling(power):
    """For each token of a frame the numbers it tells of and their powers: the water sinks by one step until the bits are spent."""
    power, told = list(power), []
    for _ in range(MOST):
        part = sorted(range(len(power)), key=lambda i: (-power[i], i))[:PART]
        told.append((part, [power[i] for i in part]))
        level = power[part[0]]
        while sum(max(0, power[i] - level) for i in part) < 2 * BITS * STEPS_PER_OCTAVE:
            level -= 1
        for i in part:
            power[i] = min(power[i], level)
    return told


def given_out(power, scale, books):
    """Frames in the order in which they get further tokens, one at a time, to whom most is left; the earlier one of two equals."""
    told = [[powers[0] for _, powers in water_filling(p)] for p in power]
    tokens, order = [0] * len(power), []
    for _ in range((books - 1) * len(power)):
        waiting = [f for f in range(len(power)) if tokens[f] < MOST]
        frame = max(waiting, key=lambda f: (told[f][tokens[f]] + LOUDER * scale[f], -f))
        order.append((frame, tokens[frame]))
        tokens[frame] += 1
    return order
