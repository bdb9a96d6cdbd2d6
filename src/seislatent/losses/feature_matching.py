"""Distance between what a discriminator sees in two records."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from seislatent.errors import SeislatentError
from seislatent.losses.precision import in_full


@in_full
def feature_matching(
    estimate: Sequence[Float[Tensor, "batch ..."]], reference: Sequence[Float[Tensor, "batch ..."]], *, relative: bool = False
) -> Float[Tensor, " batch"]:
    """Sum over layers of the mean |D_i(estimate) - D_i(reference)|: seed 004, equation 2.70; Kumar et al. (2019, "MelGAN").

    Give the outputs of each layer of a discriminator (of all of them, in one list), the score left out. Gradients stop at those
    of the reference. `relative` divides each layer by its mean |D_i(reference)| and the sum by the number of layers (Défossez et
    al. 2022, equation 2), so that a layer counts the same whatever its scale; below 1e-8 that mean counts as 1e-8.

    0 to infinity; unit of the features, or none where `relative`. Blind to what the discriminator does not look at: its null
    space, and everything while it has not learned. A discriminator can shrink it by shrinking its features: hold its parameters
    still (`systems.base.still`) while this one trains the generator.

    Raises SeislatentError where the lists or shapes of layers differ.
    """
    if not estimate or [f.shape for f in estimate] != [f.shape for f in reference]:
        raise SeislatentError(
            f"features of {len(estimate)} and {len(reference)} layers, or of different shapes: give the same layers of both records"
        )
    terms = []
    for fake, real in zip(estimate, reference, strict=True):
        real = real.detach()
        term = (fake - real).flatten(1).abs().mean(1)
        if relative:
            term = term / real.flatten(1).abs().mean(1).clamp_min(1e-8) / len(estimate)
        terms.append(term)
    return torch.stack(terms).sum(0)
