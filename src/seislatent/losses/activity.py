"""A price on codes that are not sparse."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor

from seislatent.losses.precision import in_full


@in_full
def activity(code: Float[Tensor, "batch ..."]) -> Float[Tensor, " batch"]:
    """Sum of |z| over a record's code (l1 norm; seed 002, overcomplete autoencoder, weight 10e-5, which is 1e-4).

    A sum, as Keras's `activity_regularizer` takes it, so that the published weight keeps its meaning. 0 to infinity, in the unit
    of the code; gradient -1, 0 (at 0) or 1. Blind to how the sum is spread: ten activities of 0.1 cost what one of 1 costs; and a
    decoder with larger weights buys a smaller code, so hold those (weight decay) or the code's scale.
    """
    return code.flatten(1).abs().sum(1)
