"""Where presets and packaged weights lie."""

from pathlib import Path

_HERE = Path(__file__).parent

PRESETS = _HERE / "presets" if (_HERE / "presets").is_dir() else _HERE.parents[1] / "presets"
"""One folder per family; in the package, or beside the sources of a checkout."""
WEIGHTS = _HERE / "weights"
"""One folder per family of systems."""
