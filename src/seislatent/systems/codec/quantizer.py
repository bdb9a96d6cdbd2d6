"""Residual vector quantisation with codebooks that follow the data.

    z [b d f] --book 1--> i1 --residual--> book 2 --> i2 ... --> quantised [b d f] = sum of the chosen entries

Zeghidour et al. (2021), arXiv:2107.03312; moving averages and revival as Défossez et al. (2022), arXiv:2210.13438, section 3.2.
Ours: sums over all processes, revival by the worst quantised vectors of all processes (no dice, so ranks never drift apart), the
statistics of a revived entry start afresh, and a beam search for encoding.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from seislatent.nn.processes import full, gathered, total

EARLIER = 0.05
"""What the error of a lower level counts, relative to that of the level at hand, in a beam search."""


@dataclass(frozen=True)
class Quantized:
    """What one pass of the quantiser says."""

    value: Float[Tensor, "batch latent frame"]
    """Sum of the chosen entries; its gradient goes straight through to the input."""
    indices: Int[Tensor, "batch book frame"]
    residuals: Float[Tensor, "step batch frame latent"]
    """What is left before book 1, before book 2, ... and after the last: books + 1 steps."""
    used: Float[Tensor, "book batch 1"]
    """1 where a record's level reaches the book."""

    @property
    def commit(self) -> Float[Tensor, "book batch frame"]:
        """Mean square of what each book in use leaves, with gradient to the input."""
        return self.residuals[1:].square().mean(-1) * self.used


class ResidualQuantizer(nn.Module):
    """`books` codebooks of `entries` vectors. `forward` is pure; `update` moves the codebooks, the same on every process."""

    codebooks: Tensor
    share: Tensor
    started: Tensor

    def __init__(self, books: int, entries: int, latent: int, decay: float = 0.99, alive: float = 0.1):
        super().__init__()
        self.decay, self.alive = decay, alive
        self.register_buffer("codebooks", torch.zeros(books, entries, latent))
        self.register_buffer("share", torch.ones(books, entries))
        """Running use of an entry, relative to 1 / entries."""
        self.register_buffer("started", torch.zeros(()))

    def forward(self, z: Float[Tensor, "batch latent frame"], level: Int[Tensor, " batch"], scale: object = None) -> Quantized:
        """Quantises each record with its first `level` books; greedy, nearest entry first. The frames' scale plays no part."""
        left = [z.transpose(1, 2).float()]
        indices, used = [], []
        for k, book in enumerate(self.codebooks):
            index = nearest(left[-1].detach(), book)
            use = (level > k).to(z)[:, None]
            indices.append(index)
            used.append(use)
            left.append(left[-1] - nn.functional.embedding(index, book) * use[..., None])
        value = z - left[-1].detach().transpose(1, 2)
        return Quantized(value, torch.stack(indices, 1), torch.stack(left), torch.stack(used))

    def decode(self, indices: Int[Tensor, "batch book frame"], scale: object = None) -> Float[Tensor, "batch latent frame"]:
        """Sum of the chosen entries of the books given."""
        chosen = [nn.functional.embedding(index, book) for index, book in zip(indices.unbind(1), self.codebooks, strict=False)]
        return torch.stack(chosen).sum(0).transpose(1, 2)

    def search(self, z: Float[Tensor, "batch latent frame"], beam: int, scale: object = None) -> Int[Tensor, "batch book frame"]:
        """Indices of all books by a beam search: after each book the `beam` best sums are kept, at the end the best of all.

        A sum is judged by its squared error, and by `EARLIER` times the squared errors of the shorter sums within it: a file may be
        cut at any level, so the lower ones must not be given away. With a beam of 1 it is the greedy search.
        """
        rows = z.transpose(1, 2).reshape(-1, z.shape[1])
        left, past = rows[:, None], rows.new_zeros(len(rows), 1)
        chosen = torch.zeros(len(rows), 1, 0, dtype=torch.long, device=z.device)
        for book in self.codebooks:
            apart = torch.addmm(book.square().sum(1), left.flatten(0, 1), book.T, alpha=-2).unflatten(0, left.shape[:2])
            best, entry = apart.topk(min(beam, len(book)), 2, largest=False)  # [row beam beam], less a term without entry
            best = best + left.square().sum(2, keepdim=True)
            _, flat = (best + past[..., None]).flatten(1).topk(min(beam, best[0].numel()), largest=False)
            parent, entry = flat // best.shape[2], entry.flatten(1).gather(1, flat)
            past = past.gather(1, parent) + EARLIER * best.flatten(1).gather(1, flat)
            left = left.gather(1, parent[..., None].expand(-1, -1, left.shape[2])) - book[entry]
            chosen = torch.cat([chosen.gather(1, parent[..., None].expand(-1, -1, chosen.shape[2])), entry[..., None]], 2)
        return chosen[:, 0].unflatten(0, (len(z), -1)).transpose(1, 2)

    @torch.no_grad()
    def update(self, step: Quantized) -> None:
        """Moves the codebooks to what they stood for. An entry hardly used becomes a worst-quantised vector of all processes."""
        if not self.started:
            self.start(full(step.residuals[0]).flatten(0, 1))
            return
        for k, (book, share) in enumerate(zip(self.codebooks, self.share, strict=True)):
            here = step.used[k].bool()[:, 0]
            x = full(step.residuals[k][here]).flatten(0, 1)
            index = step.indices[here, k].flatten()
            count = total(torch.bincount(index, minlength=len(book)).to(share))
            summed = total(torch.zeros_like(book).index_add(0, index, x))
            rate = (1 - self.decay) * len(book) / count.sum().clamp_min(1)
            mass = self.decay * share[:, None] * book + rate * summed
            share.mul_(self.decay).add_(rate * count)
            book.copy_(mass / share[:, None].clamp_min(1e-9))
            self.revive(book, share, x, full(step.residuals[k + 1][here]).flatten(0, 1).square().sum(1))

    def revive(self, book: Tensor, share: Tensor, x: Tensor, error: Tensor) -> None:
        """Replaces entries whose share fell below `alive` by the worst quantised vectors, at a mean share."""
        every_x, every_error = gathered(x), gathered(error)
        dead = (share < self.alive).nonzero()[:, 0][: len(every_error)]
        book[dead] = every_x[every_error.topk(len(dead)).indices]
        share[dead] = 1.0

    def start(self, x: Float[Tensor, "row latent"], rounds: int = 10) -> None:
        """k-means on the first batch of all processes, book after book."""
        left = gathered(x)
        for book in self.codebooks:
            spread = torch.linspace(0, len(left) - 1, len(book), device=left.device).long()
            book.copy_(left[spread])
            for _ in range(rounds):
                index = nearest(left, book)
                count = torch.bincount(index, minlength=len(book)).to(left)[:, None]
                summed = torch.zeros_like(book).index_add(0, index, left)
                book.copy_(torch.where(count > 0, summed / count.clamp_min(1), book))
            left = left - book[nearest(left, book)]
        self.started.fill_(1)

    def usage(self) -> dict[str, float]:
        """Of each book, see `usage`."""
        return usage(self.share, self.alive)


def nearest(x: Float[Tensor, "*row latent"], book: Float[Tensor, "entry latent"]) -> Int[Tensor, "*row"]:
    """Entry with the least squared distance."""
    return (book.square().sum(1) - 2 * x @ book.T).argmin(-1)


def usage(share: Float[Tensor, "book entry"], alive: float) -> dict[str, float]:
    """Per book: perplexity of the running use (at most the number of entries), and the part of entries below the share `alive`."""
    p = share / share.sum(1, keepdim=True)
    perplexity = torch.exp(-(p * p.clamp_min(1e-12).log()).sum(1))
    dead = (share < alive).float().mean(1)
    return {f"perplexity/{k + 1}": float(v) for k, v in enumerate(perplexity)} | {
        f"dead/{k + 1}": float(v) for k, v in enumerate(dead)
    }
