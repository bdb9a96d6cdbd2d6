"""What a latent of fewer numbers than a frame has samples costs before any quantiser: the lapped transform alone.

    python benchmarks/codec_latent.py [--data DIR] [--windows 100]

On the windows of `codec_rate.py`: SNR in dB of the first 28, 32, 36 and 40 functions of the transform for each frame of 40 samples,
mean and the value that a tenth of the windows stay below. A Markdown table.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

import numpy as np
import torch
from codec_rate import AROUND_FRAMES, cut, sets, snr_db, unseen

from seislatent import catalog
from seislatent.systems.codec.eqcodec import Lapped

LATENTS = (28, 32, 36, 40)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=os.environ.get("SEISLATENT_RECORDS"), help="folder that holds the sets")
    parser.add_argument("--windows", type=int, default=100, help="most windows of a set")
    given = parser.parse_args()
    if given.data is None:
        parser.error("no records: give --data, or set SEISLATENT_RECORDS")
    it = catalog.preset("codec/eqcodec_small")
    system, settings = catalog.build(it.system, it.config), catalog.source(it)[1]
    frame = system.frame
    around = AROUND_FRAMES * frame
    records, split = unseen(Path(given.data), settings)
    print("| set (windows) | " + " | ".join(map(str, LATENTS)) + " |\n|---" + "|---" * len(LATENTS) + "|")
    for name, rows in sets(records, split, settings):
        windows = cut(records, rows, system, name, given.windows, 0)
        if windows is None:
            continue
        wide = torch.from_numpy(windows.wide).float()[:, None]
        cells = []
        for latent in LATENTS:
            lapped = Lapped(frame, latent)
            back = lapped.synthesise(lapped.analyse(wide, frame))  # frames of context, so that the window's own are whole
            skip = around - frame
            snr = snr_db(back[:, 0, skip : back.shape[2] - skip].double().numpy(), windows.wide[:, around:-around])
            cells.append(f"{snr.mean():.1f} ({np.quantile(snr, 0.1):.1f})")
        print(f"| {name} ({len(wide)}) | " + " | ".join(cells) + " |")


if __name__ == "__main__":
    main()
