"""Memory that preparing takes at its peak, against the size of the records that a process holds at a time.

OMP_NUM_THREADS=1 python benchmarks/prepare_memory.py

Made records in STEAD's layout: three components, 60 s at 100 Hz, float32. What Python and NumPy allocate while one piece is made.
"""

from __future__ import annotations

import tempfile
import tracemalloc
from pathlib import Path

from prepare_speed import records

from seislatent import stores
from seislatent.data.preparing import AT_ONCE, made_plan, make_piece
from seislatent.data.splits import SplitConfig
from seislatent.io.native_hdf5 import write_native


def main() -> None:
    held = AT_ONCE * 3 * 6000 * 4
    with tempfile.TemporaryDirectory() as folder:
        source, out = Path(folder, "stead.hdf5"), Path(folder, "store")
        write_native(source, records(2 * AT_ONCE, "HN"), layout="stead")
        for number, name in enumerate(("data/pairs", "data/marmara")):
            keys = {"beyond": "move", "length_s": 50} if name == "data/marmara" else {}
            recipe = stores.recipe(stores.preset(name), keys)
            plan = made_plan(recipe, [source], {"split": {"by": "event"}}, SplitConfig(), 0)
            make_piece(recipe, plan.records.excerpt(range(2)), 0, out, 2 * number)  # compiles, imports
            tracemalloc.start()
            make_piece(recipe, plan.records, 0, out, 2 * number + 1)
            peak = tracemalloc.get_traced_memory()[1]
            tracemalloc.stop()
            print(f"{name}: {peak / 1e6:.0f} MB at the peak for {AT_ONCE} records of {held / 1e6:.1f} MB, {peak / held:.1f} times")


if __name__ == "__main__":
    main()
