"""Sample numbers in the metadata (`trace_p_arrival_sample`, ...), which must move when the samples do."""

from __future__ import annotations

import math
from typing import Any


def moved(metadata: dict[str, Any], *, offset: int = 0, ratio: float = 1.0, length: int | None = None) -> dict[str, Any]:
    """A copy whose every `trace_*_sample` is (sample - offset) * ratio, NaN where that lies outside [0, length)."""
    changed = dict(metadata)
    for name, value in metadata.items():
        if name.startswith("trace_") and name.endswith("_sample") and isinstance(value, int | float) and math.isfinite(value):
            sample = value - offset if ratio == 1 else (value - offset) * ratio
            outside = length is not None and not 0 <= sample < length
            changed[name] = math.nan if outside else sample
    return changed
