"""SZ3 (Liang and others 2023, doi:10.1109/TBDATA.2022.3201176), one-dimensional, with an absolute error bound; needs pysz."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from seislatent.evaluate.baselines.bounded import Bounded
from seislatent.evaluate.baselines.optional import needed

NAME = "baseline/sz3"


def sz3() -> Bounded:
    """The baseline: interpolation or Lorenzo prediction, linear quantiser, Huffman and zstd, as SZ3 chooses by default."""
    return Bounded(NAME, _compress, _expand)


def _compress(x: NDArray[np.float64], tolerance: float) -> bytes:
    pysz = needed("pysz", NAME, "pysz")
    settings = pysz.szConfig(x.shape)
    settings.errorBoundMode, settings.absErrorBound = pysz.szErrorBoundMode.ABS, tolerance
    return bytes(pysz.sz.compress(np.ascontiguousarray(x), settings)[0])


def _expand(data: bytes, samples: int, tolerance: float) -> NDArray[np.float64]:
    pysz = needed("pysz", NAME, "pysz")
    found = pysz.sz.decompress(np.frombuffer(data, np.uint8), np.float64, (samples,))
    return np.asarray(found[0], np.float64).reshape(-1)
