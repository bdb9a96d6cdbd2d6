"""Residual vector quantisation in which quiet seconds lend their tokens to loud ones.

    z [b d f] --book 1, a token a frame--> coarse sum, and from its indices, in whole numbers, how much each frame has left to tell
    books 2 ... : as many tokens again a level, each given to the frame that has most left; a frame's next token is its next book

A constant rate of tokens, yet bits where the energy is, which is what a transform coder with an entropy coder lives on. Who gets
a token follows from whole numbers alone (indices of book 1, scale steps of `seislatent.signal.gain`), so every decoder agrees;
level k of the code is a prefix of level k + 1, as in the plain quantiser (`quantizer.py`).

Fine books count in the unit that the coarse sum foretells (`Spread`): what is left after a few books is noise of a spectrum and an
envelope that can be guessed, and 1024 entries need not hold every such shape. Tokens beyond the last book use it again, smaller.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from seislatent.errors import SeislatentError
from seislatent.nn.processes import full, gathered, total
from seislatent.systems.codec.quantizer import EARLIER, nearest

STEPS_PER_OCTAVE = 16
"""Energies are compared in sixteenths of an octave (0.19 dB)."""
WORTH = 8
"""What a token takes off a frame's energy, in these steps: 1.5 dB."""
LOUDER = 6
"""What a step of a frame's scale counts: three quarters of its energy, so that a quiet piece keeps tokens beside a loud one."""
MOST = 32
"""Further tokens that a frame may get."""


@dataclass(frozen=True)
class Lent:
    """What one pass of the quantiser says."""

    value: Float[Tensor, "batch latent frame"]
    """Sum of the chosen entries; its gradient goes straight through to the input."""
    commit: Float[Tensor, "batch frame step"]
    """Mean square that is left after book 1, and after all tokens, with gradient to the input."""
    spread: Float[Tensor, "batch frame"]
    """Negative logarithm of the likelihood of what book 1 leaves, in the foretold unit: what `Spread` learns from."""
    coarse: tuple[Tensor, Tensor, Tensor]
    """For book 1: vectors [row latent], indices [row], energies left [row]."""
    fine: list[tuple[int, Tensor, Tensor, Tensor, Tensor]]
    """For each round: book, vectors and weights [row latent], indices [row], errors [row].

    Vectors are relative to the round's size and errors are not: late rounds must not pass for the worst, or their entries grow.
    """


class Spread(nn.Module):
    """Foretells the size of the rest from the coarse sum around it, as a natural logarithm."""

    def __init__(self, latent: int, width: int = 64):
        super().__init__()
        wide, narrow = nn.Conv1d(latent, width, 3, padding=1), nn.Conv1d(width, latent, 1)
        self.layers = nn.Sequential(wide, nn.ELU(), nn.Conv1d(width, width, 3, padding=1), nn.ELU(), narrow)

    def forward(self, coarse: Tensor) -> Tensor:
        """[b f d] -> [b f d]."""
        return self.layers(torch.log(coarse.square() + 1e-3).transpose(1, 2)).transpose(1, 2).clamp(-7, 3)


class LendingQuantizer(nn.Module):
    """`books` codebooks of `entries` vectors. `forward` is pure; `update` moves the codebooks, the same on every process."""

    codebooks: Tensor
    share: Tensor
    mass: Tensor
    energy: Tensor
    started: Tensor

    def __init__(self, books: int, entries: int, latent: int, decay: float = 0.99, alive: float = 0.1):
        super().__init__()
        if books > MOST + 1:
            raise SeislatentError(f"{books} books that lend: a frame alone would need a token of each; give at most {MOST + 1}")
        self.decay, self.alive = decay, alive
        self.spread = Spread(latent)
        self.register_buffer("codebooks", torch.zeros(books, entries, latent))
        self.register_buffer("share", torch.ones(books, entries))
        """Running use of an entry, relative to 1 / entries."""
        self.register_buffer("mass", torch.ones(books, entries, latent))
        """Running weight of what an entry is the mean of."""
        self.register_buffer("energy", torch.ones(entries))
        """Running mean of what an entry of book 1 leaves."""
        self.register_buffer("started", torch.zeros(()))

    # -- who gets a token

    def ranks(self, first: Int[Tensor, "batch frame"], scale: Int[Tensor, "batch frame"]) -> Int[Tensor, "batch frame token"]:
        """The order in which further tokens are given out, from 0: the first f of f frames make level 2, and so on."""
        # in float64: logarithms in float32 differ in their last digit from machine to machine, and then so may what they round to
        steps = (STEPS_PER_OCTAVE * self.energy.double().clamp(1e-30, 1e30).log2()).round().long()
        left = steps[first] + LOUDER * scale
        wish = left[..., None] - WORTH * torch.arange(MOST, device=first.device)
        order = wish.flatten(1).sort(dim=1, descending=True, stable=True).indices
        places = torch.arange(order.shape[1], device=first.device).expand_as(order)
        return torch.empty_like(order).scatter_(1, order, places).view_as(wish)

    def slots(self, ranks: Int[Tensor, "batch frame token"], level: int) -> Int[Tensor, "batch stored"]:
        """Which frame * MOST + token stands in each place of books 2 to `level`: level by level, then by time."""
        frames = ranks.shape[1]
        flat = ranks.flatten(1)
        where = torch.arange(flat.shape[1], device=ranks.device)
        key = torch.where(flat < (level - 1) * frames, flat // frames, level) * flat.shape[1] + where
        return key.sort(1).values[:, : (level - 1) * frames] % flat.shape[1]

    def book(self, token: int) -> tuple[int, float]:
        """Book of a frame's further token, and its size relative to the foretold unit."""
        last = len(self.codebooks) - 2
        return 1 + min(token, last), 2 ** (-max(0, token - last) * WORTH / STEPS_PER_OCTAVE / 2)

    # -- coding

    def forward(self, z: Tensor, level: Int[Tensor, " batch"], scale: Int[Tensor, "batch frame"]) -> Lent:
        """Quantises z [batch latent frame] to each record's level; greedy, nearest entry first."""
        rows = z.transpose(1, 2).float()
        held = rows.detach()
        first = nearest(held, self.codebooks[0])
        rest = held - nn.functional.embedding(first, self.codebooks[0])
        told = full(self.spread(held - rest))
        unit = told.detach().exp().flatten(0, 1)
        weight = _weight(unit)
        count = (self.ranks(first, scale) < (level[:, None, None] - 1) * rows.shape[1]).sum(2).flatten()
        left, fine = rest.flatten(0, 1) / unit, []
        for token in range(int(count.max())):
            here = (count > token).nonzero()[:, 0]
            k, size = self.book(token)
            x, w = left[here] / size, weight[here]
            index = nearest_weighted(x, self.codebooks[k], w)
            after = x - self.codebooks[k][index]
            left = left.index_copy(0, here, after * size)
            fine.append((k, x, w, index, size**2 * (w * after.square()).sum(1)))
        value = held - (left * unit).view_as(held)
        likelihood = (told + 0.5 * (rest * torch.exp(-told)).square()).mean(2)
        commit = torch.stack([(rows - (held - rest)).square().mean(2), (rows - value).square().mean(2)], 2)
        coarse = (held.flatten(0, 1), first.flatten(), rest.square().sum(2).flatten())
        return Lent((rows + (value - held)).transpose(1, 2), commit, likelihood, coarse, fine)

    def decode(
        self, indices: Int[Tensor, "batch book frame"], scale: Int[Tensor, "batch frame"]
    ) -> Float[Tensor, "batch latent frame"]:
        """Sum of the chosen entries of the books given."""
        level = indices.shape[1]
        coarse = nn.functional.embedding(indices[:, 0], self.codebooks[0])
        if level == 1:
            return coarse.transpose(1, 2)
        slots = self.slots(self.ranks(indices[:, 0], scale), level)
        frame, token = slots // MOST, slots % MOST
        books, sizes = zip(*map(self.book, range(MOST)), strict=True)
        chosen = self.codebooks[torch.tensor(books, device=token.device)[token], indices[:, 1:].flatten(1)]
        chosen = chosen * torch.tensor(sizes, device=token.device)[token][..., None]
        # token by token, so that sums are taken in one order everywhere
        fine = torch.zeros_like(coarse)
        for t in range(int(token.max()) + 1):
            row, place = (token == t).nonzero(as_tuple=True)
            fine[row, frame[row, place]] += chosen[row, place]
        return (coarse + self.spread(coarse).exp() * fine).transpose(1, 2)

    def search(self, z: Tensor, beam: int, scale: Int[Tensor, "batch frame"]) -> Int[Tensor, "batch book frame"]:
        """Indices of all books for z [batch latent frame], by a beam search over each frame's further tokens.

        A sum is judged by its squared error and by `EARLIER` times those of the shorter sums within it.
        """
        rows = z.transpose(1, 2).float()
        batch, frames = rows.shape[:2]
        first = nearest(rows, self.codebooks[0])
        coarse = nn.functional.embedding(first, self.codebooks[0])
        unit = self.spread(coarse).exp().flatten(0, 1)
        ranks = self.ranks(first, scale)
        books = len(self.codebooks)
        count = (ranks < (books - 1) * frames).sum(2).flatten()
        found = self._beam((rows - coarse).flatten(0, 1) / unit, _weight(unit), count, beam)
        slots = self.slots(ranks, books)
        fine = found.view(batch, frames * MOST).gather(1, slots)
        return torch.cat([first[:, None], fine.view(batch, books - 1, frames)], 1)

    def _beam(self, x: Tensor, weight: Tensor, count: Tensor, beam: int) -> Int[Tensor, "row token"]:
        """Best indices of `count` tokens for each row of x [row latent], in the foretold unit."""
        found = torch.zeros(len(x), MOST, dtype=torch.long, device=x.device)
        order = count.argsort(descending=True, stable=True)
        x, weight, count = x[order], weight[order, None], count[order]
        left, past = x[:, None], x.new_zeros(len(x), 1)
        chosen = torch.zeros(len(x), 1, 0, dtype=torch.long, device=x.device)
        for token in range(int(count.max())):
            active = int((count > token).sum())
            found[order[active : len(left)], :token] = chosen[active:, 0]
            left, past, chosen, w = left[:active], past[:active], chosen[:active], weight[:active]
            k, size = self.book(token)
            book = size * self.codebooks[k]
            apart = torch.matmul(w * left, -2 * book.T) + w @ book.square().T  # [row kept entry], less a term without entry
            best, entry = apart.topk(min(beam, len(book)), 2, largest=False)
            best = best + (w * left.square()).sum(2, keepdim=True)
            _, flat = (best + past[..., None]).flatten(1).topk(min(beam, best[0].numel()), largest=False)
            parent, entry = flat // best.shape[2], entry.flatten(1).gather(1, flat)
            past = past.gather(1, parent) + EARLIER * best.flatten(1).gather(1, flat)
            left = left.gather(1, parent[..., None].expand(-1, -1, left.shape[2])) - book[entry]
            chosen = torch.cat([chosen.gather(1, parent[..., None].expand(-1, -1, chosen.shape[2])), entry[..., None]], 2)
        found[order[: len(left)], : chosen.shape[2]] = chosen[:, 0]
        return found

    # -- learning

    @torch.no_grad()
    def update(self, step: Lent) -> None:
        """Moves the codebooks to what they stood for. An entry hardly used becomes a worst-quantised vector of all processes."""
        x, index, error = step.coarse
        if not self.started:
            self.start(full(x))
            return
        energy, count = (
            total(torch.zeros_like(self.energy).index_add(0, index, error)),
            self._move(0, [(x, torch.ones_like(x), index, error)]),
        )
        seen = count > 0
        keep = self.decay ** count.clamp_max(100.0)
        self.energy.copy_(torch.where(seen, keep * self.energy + (1 - keep) * energy / count.clamp_min(1), self.energy))
        for k in range(1, len(self.codebooks)):
            self._move(k, [(x, w, i, e) for book, x, w, i, e in step.fine if book == k])

    def _move(self, k: int, taught: list[tuple[Tensor, Tensor, Tensor, Tensor]]) -> Float[Tensor, " entry"]:
        """One book towards the weighted means of its vectors; how often each entry was used."""
        book, share, mass = self.codebooks[k], self.share[k], self.mass[k]
        empty = book.new_zeros(0, book.shape[1])
        rows = [torch.cat(parts) for parts in zip(*taught, strict=True)] or [empty, empty, empty[:, 0].long(), empty[:, 0]]
        x, weight, index, error = full(rows[0]), full(rows[1]), rows[2], full(rows[3])
        count = total(torch.bincount(index, minlength=len(book)).to(share))
        weights = total(torch.zeros_like(book).index_add(0, index, weight))
        summed = total(torch.zeros_like(book).index_add(0, index, weight * x))
        if count.sum() > 0:
            rate = (1 - self.decay) * len(book) / count.sum()
            summed = self.decay * mass * book + rate * summed
            mass.mul_(self.decay).add_(rate * weights)
            share.mul_(self.decay).add_(rate * count)
            book.copy_(summed / mass.clamp_min(1e-9))
        every_x, every_error = gathered(x), gathered(error)
        dead = (share < self.alive).nonzero()[:, 0][: len(every_error)]
        book[dead] = every_x[every_error.topk(len(dead)).indices]
        share[dead], mass[dead] = 1.0, 1.0
        return count

    def start(self, x: Float[Tensor, "row latent"], rounds: int = 10) -> None:
        """Book 1 by k-means on the first batch of all processes; the fine books by its residuals, in their mean size."""
        left = gathered(x)
        for book in self.codebooks:
            book.copy_(left[torch.linspace(0, len(left) - 1, len(book), device=left.device).long()])
            for _ in range(rounds):
                index = nearest(left, book)
                count = torch.bincount(index, minlength=len(book)).to(left)[:, None]
                summed = torch.zeros_like(book).index_add(0, index, left)
                book.copy_(torch.where(count > 0, summed / count.clamp_min(1), book))
            left = left - book[nearest(left, book)]
            if not self.started:  # after book 1: count in units of what is left
                left = left / left.square().mean().sqrt().clamp_min(1e-9)
                self.started.fill_(1)

    def usage(self) -> dict[str, float]:
        """Per book: perplexity of the running use (at most the number of entries) and the share of dead entries."""
        p = self.share / self.share.sum(1, keepdim=True)
        perplexity = torch.exp(-(p * p.clamp_min(1e-12).log()).sum(1))
        dead = (self.share < self.alive).float().mean(1)
        return {f"perplexity/{k + 1}": float(v) for k, v in enumerate(perplexity)} | {
            f"dead/{k + 1}": float(v) for k, v in enumerate(dead)
        }


def nearest_weighted(x: Tensor, book: Tensor, weight: Tensor) -> Int[Tensor, " row"]:
    """Entry with the least weighted squared distance to x [row latent]."""
    return (weight @ book.square().T - 2 * (weight * x) @ book.T).argmin(-1)


def _weight(unit: Tensor) -> Tensor:
    """What a squared error in the unit counts, for each number of the latent: 1 on the mean of a frame."""
    square = unit.square()
    return square / square.mean(-1, keepdim=True)
