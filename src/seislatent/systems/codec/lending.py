"""Residual vector quantisation in which quiet seconds lend their tokens to loud ones.

    z [b d f] --book 1, a token a frame--> coarse sum --Spread--> how much each number has left to tell, in whole steps [b f d]
    books 2 ... : as many tokens again a level, each given to the frame that has most left, for the numbers that have most left

A constant rate of tokens, yet bits where the energy is, which is what a transform coder with an entropy coder lives on. Who gets a
token follows from whole numbers alone, so every decoder agrees; level k of the code is a prefix of level k + 1, as in the plain
quantiser (`quantizer.py`). What the rest is like is foretold from the coarse sum by a small network, in float64 and rounded to
sixteenths of an octave, so that machines that differ in the last bit do not differ in the outcome.

A fine token tells of the `PART` numbers of its frame with the largest foretold powers, in units of these, largest first: 1024
entries are many in 10 dimensions and few in 40. Then their powers are worn down as reverse water-filling says it (Cover and Thomas
2006, section 10.3.3), and the frame gets in line again. A frame's next token is its next book; the last book serves all further
ones.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from seislatent.errors import SeislatentError
from seislatent.nn.processes import full, gathered, total
from seislatent.systems.codec.quantizer import EARLIER, nearest, usage

PART = 10
"""Numbers of a frame that a fine token tells of."""
STEPS_PER_OCTAVE = 16
"""Powers are told in sixteenths of an octave (0.19 dB)."""
BITS = 6
"""Of a token's 10 bits, what water-filling counts on: measured, 3.8 dB in 10 numbers."""
LOUDER = 6
"""What a step of a frame's scale counts: three quarters of its power, so that a quiet piece keeps tokens beside a loud one."""
MOST = 40
"""Further tokens that a frame may get."""
AT_ONCE = 512
"""Frames that are searched together: as many as a processor's caches hold."""


@dataclass(frozen=True)
class Lent:
    """What one pass of the quantiser says."""

    value: Float[Tensor, "batch latent frame"]
    """Sum of the chosen entries; its gradient goes straight through to the input."""
    commit: Float[Tensor, "batch frame step"]
    """Mean square that is left after book 1, and after all tokens, with gradient to the input."""
    spread: Float[Tensor, "batch frame"]
    """Negative logarithm of the likelihood of what book 1 leaves, by the foretold powers: what `Spread` learns from."""
    coarse: tuple[Tensor, Tensor, Tensor]
    """For book 1: vectors [row latent], indices [row], errors [row]."""
    fine: list[tuple[int, Tensor, Tensor, Tensor, Tensor]]
    """For each round: book from 0, vectors and weights [row part], indices [row], errors [row]."""


class Spread(nn.Module):
    """Foretells the power of what book 1 leaves, number by number and in octaves, from the coarse sum around it."""

    def __init__(self, latent: int, width: int = 64):
        super().__init__()
        self.layers = nn.ModuleList(
            nn.Conv1d(a, b, k, padding=k // 2) for a, b, k in ((latent, width, 3), (width, width, 3), (width, latent, 1))
        )

    def forward(self, coarse: Tensor) -> Tensor:
        """[b f d] -> powers [b f d] in octaves, -20 to 8, in the precision of the input."""
        h = torch.log(coarse.square() + 1e-3).transpose(1, 2)
        for i, layer in enumerate(self.layers):
            weight, bias = (p.to(h) for p in layer.parameters())
            h = F.conv1d(F.elu(h) if i else h, weight, bias, padding=weight.shape[2] // 2)
        return h.transpose(1, 2).clamp(-20, 8)


class LendingQuantizer(nn.Module):
    """A coarse book of the whole latent, and fine ones of a part. `forward` is pure; `update` moves the books, on all processes.

    `scale` is that of the frames, in whole steps (`signal/gain.py`). Raises SeislatentError for fewer than 2 books, more than
    `MOST` + 1, or a latent below `PART`.
    """

    coarse: Tensor
    fine: Tensor
    share: Tensor
    mass: Tensor
    started: Tensor

    def __init__(self, books: int, entries: int, latent: int, decay: float = 0.99, alive: float = 0.1):
        super().__init__()
        if books < 2 or books - 1 > MOST or latent < PART:
            raise SeislatentError(f"lend: takes 2 to {MOST + 1} books and a latent of at least {PART}, not {books} and {latent}")
        self.decay, self.alive, self.books = decay, alive, books
        self.spread = Spread(latent)
        self.register_buffer("coarse", torch.zeros(entries, latent))
        seeded = torch.Generator().manual_seed(0)
        self.register_buffer("fine", torch.randn(books - 1, entries, PART, generator=seeded))
        self.register_buffer("share", torch.ones(books, entries))
        """Running use of an entry, relative to 1 / entries."""
        self.register_buffer("mass", torch.ones(books - 1, entries, PART))
        """Running weight of what a fine entry is the mean of."""
        self.register_buffer("started", torch.zeros(()))

    # -- who gets a token, and for which numbers

    def foretold(self, coarse: Float[Tensor, "batch frame latent"]) -> Int[Tensor, "batch frame latent"]:
        """Powers of what book 1 leaves, in whole sixteenths of an octave."""
        with torch.autocast(coarse.device.type, enabled=False):
            return (STEPS_PER_OCTAVE * self.spread(coarse.double())).round().long()

    def rounds(self, power: Int[Tensor, "row latent"]) -> tuple[Int[Tensor, "row token part"], Int[Tensor, "row token part"]]:
        """For each token that a frame may get, the numbers it tells of and their powers before it, largest first."""
        power, parts, powers = power.clone(), [], []
        several = torch.arange(1, PART + 1, device=power.device)
        for _ in range(MOST):
            falling, order = power.sort(dim=1, descending=True, stable=True)
            falling, order = falling[:, :PART], order[:, :PART]
            parts.append(order)
            powers.append(falling)
            level = torch.div(falling.cumsum(1) - 2 * BITS * STEPS_PER_OCTAVE, several, rounding_mode="floor")
            shared = (falling > level).sum(1, keepdim=True).clamp_min(1)
            power = power.scatter(1, order, torch.minimum(falling, level.gather(1, shared - 1)))
        return torch.stack(parts, 1), torch.stack(powers, 1)

    def ranks(
        self, powers: Int[Tensor, "batch frame token part"], scale: Int[Tensor, "batch frame"]
    ) -> Int[Tensor, "batch frame token"]:
        """The order in which further tokens are given out, from 0: the first f of f frames make level 2, and so on."""
        wish = powers[..., 0] + LOUDER * scale[..., None]
        order = wish.flatten(1).sort(dim=1, descending=True, stable=True).indices
        places = torch.arange(order.shape[1], device=order.device).expand_as(order)
        return torch.empty_like(order).scatter_(1, order, places).view_as(wish)

    def slots(self, ranks: Int[Tensor, "batch frame token"], level: int) -> Int[Tensor, "batch stored"]:
        """Which frame * MOST + token stands in each place of books 2 to `level`: level by level, then by time."""
        frames = ranks.shape[1]
        flat = ranks.flatten(1)
        where = torch.arange(flat.shape[1], device=ranks.device)
        key = torch.where(flat < (level - 1) * frames, flat // frames, level) * flat.shape[1] + where
        return key.sort(1).values[:, : (level - 1) * frames] % flat.shape[1]

    def book(self, token: int) -> int:
        """Fine book, from 0, of a frame's further token."""
        return min(token, self.books - 2)

    # -- coding

    def forward(self, z: Tensor, level: Int[Tensor, " batch"], scale: Int[Tensor, "batch frame"]) -> Lent:
        """Quantises z [batch latent frame] to each record's level; greedy, nearest entry first."""
        rows = z.transpose(1, 2).float()
        held = rows.detach()
        first = nearest(held, self.coarse)
        value = F.embedding(first, self.coarse)
        rest, told = held - value, full(self.spread(value))
        likelihood = 0.5 * (told * 0.6931 + rest.square() * torch.exp2(-told)).mean(2)  # 0.6931: ln 2
        parts, powers = self.rounds(self.foretold(value).flatten(0, 1))
        ranks = self.ranks(powers.unflatten(0, held.shape[:2]), scale)
        count = (ranks < (level[:, None, None] - 1) * rows.shape[1]).sum(2).flatten()
        left, fine = rest.flatten(0, 1).clone(), []
        for token in range(int(count.max())):
            here = (count > token).nonzero()[:, 0]
            part, unit, weight = parts[here, token], *_unit(powers[here, token])
            k, whole = self.book(token), left[here]
            x = whole.gather(1, part) / unit
            index = nearest_weighted(x, self.fine[k], weight)
            after = x - self.fine[k][index]
            left[here] = whole.scatter(1, part, after * unit)
            fine.append((k, x, weight, index, (weight * after.square()).sum(1)))
        final = held - left.view_as(held)
        commit = torch.stack([(rows - value).square().mean(2), (rows - final).square().mean(2)], 2)
        coarse = (held.flatten(0, 1), first.flatten(), rest.square().sum(2).flatten())
        return Lent((rows + (final - held)).transpose(1, 2), commit, likelihood, coarse, fine)

    def decode(self, indices: Int[Tensor, "batch book frame"], scale: Int[Tensor, "batch frame"]) -> Tensor:
        """Sum [batch latent frame] of the chosen entries at the level that `indices` reach; their order is that of `slots`."""
        level = indices.shape[1]
        value = F.embedding(indices[:, 0], self.coarse)
        if level == 1:
            return value.transpose(1, 2)
        parts, powers = self.rounds(self.foretold(value).flatten(0, 1))
        parts, powers = parts.unflatten(0, value.shape[:2]), powers.unflatten(0, value.shape[:2])
        slots = self.slots(self.ranks(powers, scale), level)
        frame, token = slots // MOST, slots % MOST
        chosen = self.fine[token.clamp_max(self.books - 2), indices[:, 1:].flatten(1)]
        value = value.clone()
        for t in range(int(token.max()) + 1):  # one by one, so that sums are taken in one order everywhere
            row, place = (token == t).nonzero(as_tuple=True)
            at = frame[row, place]
            unit, _ = _unit(powers[row, at, t])
            value[row, at] = value[row, at].scatter_add(1, parts[row, at, t], unit * chosen[row, place])
        return value.transpose(1, 2)

    def search(self, z: Tensor, beam: int, scale: Int[Tensor, "batch frame"]) -> Int[Tensor, "batch book frame"]:
        """Indices of all books for z [batch latent frame], by a beam search over each frame's further tokens.

        A sum is judged by its squared error and by `EARLIER` times those of the shorter sums within it.
        """
        rows = z.transpose(1, 2).float()
        first = nearest(rows, self.coarse)
        value = F.embedding(first, self.coarse)
        parts, powers = self.rounds(self.foretold(value).flatten(0, 1))
        ranks = self.ranks(powers.unflatten(0, first.shape), scale)
        count = (ranks < (self.books - 1) * first.shape[1]).sum(2).flatten()
        rest, some = (rows - value).flatten(0, 1), [slice(a, a + AT_ONCE) for a in range(0, count.numel(), AT_ONCE)]
        found = torch.cat([self._beam(rest[i], parts[i], powers[i], count[i], beam) for i in some])
        fine = found.view(len(z), -1).gather(1, self.slots(ranks, self.books))
        return torch.cat([first[:, None], fine.view(len(z), self.books - 1, -1)], 1)

    def _beam(self, x: Tensor, parts: Tensor, powers: Tensor, count: Tensor, beam: int) -> Int[Tensor, "row token"]:
        """Best indices [row MOST] of the first `count` [row] tokens of x [row latent]; zeros behind them."""
        found = torch.zeros(len(x), MOST, dtype=torch.long, device=x.device)
        order = count.argsort(descending=True, stable=True)
        x, parts, powers, count = x[order], parts[order], powers[order], count[order]
        left, past = x[:, None], x.new_zeros(len(x), 1)
        chosen = torch.zeros(len(x), 1, 0, dtype=torch.long, device=x.device)
        for token in range(int(count.max())):
            active = int((count > token).sum())
            found[order[active : len(left)], :token] = chosen[active:, 0]
            left, past, chosen = left[:active], past[:active], chosen[:active]
            book, (unit, _) = self.fine[self.book(token)], _unit(powers[:active, token])
            part = parts[:active, token, None].expand(-1, left.shape[1], -1)
            told = left.gather(2, part)
            apart = torch.matmul(unit[:, None] * told, -2 * book.T) + (unit.square() @ book.square().T)[:, None]
            best, entry = apart.topk(min(beam, len(book)), 2, largest=False)  # [row kept kept], less a term without entry
            best = best + left.square().sum(2, keepdim=True)
            _, flat = (best + past[..., None]).flatten(1).topk(min(beam, best[0].numel()), largest=False)
            parent, entry = flat // best.shape[2], entry.flatten(1).gather(1, flat)
            past = past.gather(1, parent) + EARLIER * best.flatten(1).gather(1, flat)
            left = left.gather(1, parent[..., None].expand(-1, -1, left.shape[2]))
            part = parts[:active, token, None].expand(-1, left.shape[1], -1)
            left = left.scatter_add(2, part, -unit[:, None] * book[entry])
            chosen = torch.cat([chosen.gather(1, parent[..., None].expand(-1, -1, chosen.shape[2])), entry[..., None]], 2)
        found[order[: len(left)], : chosen.shape[2]] = chosen[:, 0]
        return found

    # -- learning

    @torch.no_grad()
    def update(self, step: Lent) -> None:
        """Moves the books to what they stood for. An entry hardly used becomes a worst-quantised vector of all processes."""
        x, index, error = step.coarse
        if not self.started:
            self.start(full(x))
            return
        self._move(self.coarse, self.share[0], self.share[0][:, None], [(x, torch.ones_like(x), index, error)])
        for k, (book, mass) in enumerate(zip(self.fine, self.mass, strict=True)):
            self._move(book, self.share[k + 1], mass, [(x, w, i, e) for at, x, w, i, e in step.fine if at == k])

    def _move(self, book: Tensor, share: Tensor, mass: Tensor, taught: list[tuple[Tensor, Tensor, Tensor, Tensor]]) -> None:
        """One book [entry n] towards the weighted means of its vectors: x and weights [row n], indices and errors [row].

        `share` [entry] and `mass` ([entry n], or for plain means `share` as [entry 1]) are its running statistics.
        """
        empty = book.new_zeros(0, book.shape[1])
        rows = [torch.cat(parts) for parts in zip(*taught, strict=True)] or [empty, empty, empty[:, 0].long(), empty[:, 0]]
        x, weight, index, error = full(rows[0]), full(rows[1]), rows[2], full(rows[3])
        count = total(torch.bincount(index, minlength=len(book)).to(share))
        weights = total(torch.zeros_like(book).index_add(0, index, weight))
        summed = total(torch.zeros_like(book).index_add(0, index, weight * x))
        if count.sum() > 0:
            rate = (1 - self.decay) * len(book) / count.sum()
            summed = self.decay * mass * book + rate * summed
            grown = self.decay * mass + rate * weights
            share.mul_(self.decay).add_(rate * count)
            if mass.shape == book.shape:
                mass.copy_(grown)
            book.copy_(summed / grown.clamp_min(1e-9))
        every_x, every_error = gathered(x), gathered(error)
        dead = (share < self.alive).nonzero()[:, 0][: len(every_error)]
        book[dead] = every_x[every_error.topk(len(dead)).indices]
        share[dead] = 1.0
        if mass.shape == book.shape:
            mass[dead] = 1.0

    def start(self, x: Float[Tensor, "row latent"], rounds: int = 10) -> None:
        """The coarse book by k-means on the first batch of all processes; the fine ones stay the noise they start as."""
        left, book = gathered(x), self.coarse
        book.copy_(left[torch.linspace(0, len(left) - 1, len(book), device=left.device).long()])
        for _ in range(rounds):
            index = nearest(left, book)
            count = torch.bincount(index, minlength=len(book)).to(left)[:, None]
            summed = torch.zeros_like(book).index_add(0, index, left)
            book.copy_(torch.where(count > 0, summed / count.clamp_min(1), book))
        self.started.fill_(1)

    def usage(self) -> dict[str, float]:
        """Of each book, see `quantizer.usage`."""
        return usage(self.share, self.alive)


def nearest_weighted(x: Tensor, book: Tensor, weight: Tensor) -> Int[Tensor, " row"]:
    """Entry with the least weighted squared distance to x [row part]."""
    return (weight @ book.square().T - 2 * (weight * x) @ book.T).argmin(-1)


def _unit(power: Int[Tensor, "row part"]) -> tuple[Float[Tensor, "row part"], Float[Tensor, "row part"]]:
    """The size that a power in whole steps means, and what a squared error in it counts: 1 on the mean of the part."""
    square = torch.exp2(power.float() / STEPS_PER_OCTAVE)
    return square.sqrt(), square / square.mean(-1, keepdim=True)
