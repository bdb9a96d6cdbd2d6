"""The angle between two records, whatever their amplitudes."""

from __future__ import annotations

from jaxtyping import Bool, Float
from torch import Tensor

from seislatent.losses.pairs import pair
from seislatent.losses.precision import in_full

FLOOR = 1e-4
"""Root mean square under which a channel counts as silent: 80 dB below unit variance."""


@in_full
def hyper_spherical(
    estimate: Float[Tensor, "batch channel time"],
    reference: Float[Tensor, "batch channel time"],
    floor: float = FLOOR,
    *,
    valid: Bool[Tensor, "batch channel time"] | None = None,
) -> Float[Tensor, " batch"]:
    """(1 - cos angle)^2 between the samples of estimate and reference, mean over the channels of a record.

    Seed 004, equation 2.55, takes the absolute value of the scalar product and so loses the sign of the cosine; here it stays, as
    in Mettes et al. (2019, "Hyperspherical prototype networks"). Without it a record upside down would be a perfect
    estimate. Each channel has one sample of `floor` (its root mean square) joined on, so that silence has a direction too:

        cos = (mean x y + floor^2) / root((mean x^2 + floor^2) (mean y^2 + floor^2)).

    No unit, 0 (same direction; also silence met by silence) through 1 (at right angles; also silence met by signal) to 4 (upside
    down). Blind to amplitude above `floor` (in the unit of the records), and flat near 0, as the fourth power of the angle: at
    20 dB signal-to-noise ratio it is 2.5e-5. Join it with a loss that knows amplitude.
    """
    both = pair(estimate, reference, valid)
    x, y = both.estimate, both.reference
    share = 1.0 if both.valid is None else both.valid.to(x).mean(-1).clamp_min(1 / x.shape[-1])
    a = (x.square().mean(-1) / share + floor**2).sqrt()
    b = (y.square().mean(-1) / share + floor**2).sqrt()
    # 1 - cos as half the squared distance of unit vectors: the difference of two numbers near 1 would lose all digits
    apart = (x / a[..., None] - y / b[..., None]).square().mean(-1) / share + floor**2 * (1 / a - 1 / b).square()
    value = (apart / 2).square()
    if both.valid is None:
        return value.mean(-1)
    seen = both.valid.any(-1).to(value)  # a channel without valid samples is neither right nor wrong
    return (value * seen).sum(-1) / seen.sum(-1).clamp_min(1)
