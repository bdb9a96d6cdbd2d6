"""zfp (Lindstrom 2014, doi:10.1109/TVCG.2014.2346458), one-dimensional, with an absolute tolerance; needs zfpy."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from seislatent.evaluate.baselines.bounded import Bounded
from seislatent.evaluate.baselines.optional import needed

NAME = "baseline/zfp"


def zfp() -> Bounded:
    """The baseline. Its tolerance bounds the error of every sample; the true error is often several times smaller."""
    return Bounded(NAME, _compress, _expand)


def _compress(x: NDArray[np.float64], tolerance: float) -> bytes:
    # zfp rounds a tolerance down to a power of two: samples in units of it make the error follow it. And without zfp's own header,
    # which is as long as the code of a short record; our file says what is in it.
    return bytes(
        needed("zfpy", NAME, "zfpy").compress_numpy(np.ascontiguousarray(x / tolerance), tolerance=1.0, write_header=False)
    )


def _expand(data: bytes, samples: int, tolerance: float) -> NDArray[np.float64]:
    zfpy = needed("zfpy", NAME, "zfpy")
    return np.asarray(zfpy._decompress(data, zfpy.type_double, (samples,), tolerance=1.0), np.float64) * tolerance
