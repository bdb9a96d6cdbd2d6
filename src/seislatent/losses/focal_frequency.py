"""Squared error per frequency, weighed by itself: what is worst met counts most."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from seislatent.errors import SeislatentError
from seislatent.losses.pairs import pair
from seislatent.losses.precision import in_full


@in_full
def focal_frequency(
    estimate: Float[Tensor, "batch channel time"],
    reference: Float[Tensor, "batch channel time"],
    alpha: float = 1.0,
    *,
    logarithmic: bool = False,
    valid: Bool[Tensor, "batch channel time"] | None = None,
) -> Float[Tensor, " batch"]:
    """1 / N sum over u of w(u) |X(u) - Y(u)|^2, mean over channels; X, Y the discrete Fourier transforms divided by root N.

        w(u) = (|X(u) - Y(u)| / largest of them)^alpha,

    from 0 to 1, its largest value taken per channel of each record and its gradient stopped: the weight says where to look, it is
    not to be made small. Jiang et al. (2021, "Focal frequency loss for image reconstruction and synthesis", equations 8 and 9) in
    one dimension; seed 004, equation 2.58, whose square is restored. `logarithmic` takes log(1 + |X - Y|^alpha) instead of the
    power, which flattens the weights of records that are loud in their unit.

    0 to infinity, in the unit of the records squared; at most their mean squared error, and equal to it for alpha = 0 or an error
    that is an impulse. One tone of amplitude A too much gives A^2 / 2; a second of amplitude B < A adds B^2 / 2 times B / A.
    Blind to when an error comes: one burst and the same spectrum spread over the record weigh the same. Weak frequencies are met
    last: with alpha = 1 an error of a tenth of the worst weighs a tenth of what it does in the mean squared error.
    """
    if not alpha >= 0:
        raise SeislatentError(f"alpha {alpha}: give 0 (plain squared error) or more (1 in the paper)")
    both = pair(estimate, reference, valid)
    n = both.estimate.shape[-1]
    apart = torch.fft.rfft(both.estimate - both.reference, norm="ortho")
    size = apart.detach().abs()
    if logarithmic:
        size = torch.log1p(size**alpha)
        weight = size / size.amax(-1, keepdim=True).clamp_min(torch.finfo(size.dtype).tiny)
    else:
        # the quotient first: a power of small numbers may vanish
        weight = (size / size.amax(-1, keepdim=True).clamp_min(torch.finfo(size.dtype).tiny)) ** alpha
    power = apart.real.square() + apart.imag.square()  # not .abs() ** 2: that has no gradient at 0 to speak of
    fold = torch.full((n // 2 + 1,), 2.0, dtype=size.dtype, device=size.device)  # each stands for its negative frequency too
    fold[0] = 1
    if n % 2 == 0:
        fold[-1] = 1
    return both.mean((fold * weight * power).sum(-1) / n)
