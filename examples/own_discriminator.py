"""A discriminator from some 300 labelled records of your own: trained, judged, used. Read it from top to bottom like a notebook.

    python examples/own_discriminator.py FOLDER --out RUN        FOLDER: a subfolder of waveform files per class, or a labels.csv
    python examples/own_discriminator.py --made-up --out RUN     without any files: records are made first, in RUN-records

Every part between two lines of `# %%` is a cell for editors that know them.
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import obspy

import seislatent as sl
from seislatent import training
from seislatent.data.store import Store

# %% Records. Yours: FOLDER/blast/*.mseed and FOLDER/earthquake/*.mseed, in any format that ObsPy reads, at any rate; one file for
# each event and station, or one for each component. Here some are made up: P and S of earthquakes, P and a surface wave of blasts.


def made_up(folder: Path, count: int = 300, seed: int = 0) -> Path:
    """`count` records of 40 s at 50 Hz, three components, in two folders; each an event of its own, some hours apart."""
    dice = np.random.default_rng(seed)
    t = np.arange(2000) / 50
    for k in range(count):
        kind = ("blast", "earthquake")[k % 2]
        p = dice.uniform(8, 12)
        s = p + dice.uniform(3, 6)
        rows = dice.standard_normal((3, t.size))
        later = (0.8, 2.5, 2.5) if kind == "blast" else (1.5, 5.0, 1.5)  # lowest and highest frequency, decay in s
        for onset, low, high, decay, size in ((p, 4, 8, 1.0, 4), (s, *later, 6)):
            since = np.maximum(t - onset, 0)
            wave = np.sin(2 * np.pi * dice.uniform(low, high) * since) * np.exp(-since / decay)
            rows += size * dice.uniform(0.5, 2) * np.array([[1.0], [0.7], [0.6]]) * wave
        start = obspy.UTCDateTime(2024, 1, 1) + 3 * 3600 * k
        head = {"network": "XX", "station": "QRY", "sampling_rate": 50.0, "starttime": start}
        stream = obspy.Stream(
            obspy.Trace((100 * x).astype(np.int32), {**head, "channel": f"HH{c}"}) for c, x in zip("ZNE", rows, strict=True)
        )
        (folder / kind).mkdir(parents=True, exist_ok=True)
        stream.write(str(folder / kind / f"{k:04d}.mseed"), format="MSEED")
    return folder


# %% Training. One call: a store is made of the files (RUN/store), split by event into train, dev and test; the best weights are
# those of the least loss on dev; a temperature and what is unknown are set there; test says what it is worth.


def trained(folder: Path, run: Path, **recipe: Any) -> Path:
    """The weights."""
    weights = training.train("features/blast", str(folder), run, recipe=recipe)
    store = Store(run / "store")
    table = store.columns("label", "split")
    print(f"{len(store)} records in {run / 'store'}:", dict(Counter(zip(table["label"], table["split"], strict=True))))
    return weights


# %% What it is worth. Look at the recall by event and by day, not only by record: fifty stations of one blast are one blast. If
# your blasts have hours of their own, a system may have learnt the noise of the day: compare classes at equal hours.


def told(run: Path) -> dict[str, Any]:
    """The numbers of RUN/report, which also has a page."""
    report: dict[str, Any] = json.loads((run / "report" / "report.json").read_text(encoding="utf-8"))
    it = report["systems"]["features/blast"]
    accuracy = it["balanced_accuracy"]
    print(f"balanced accuracy {accuracy['mean']:.2f} [{accuracy['low']:.2f}, {accuracy['high']:.2f}] on {report['events']} events")
    for name, row in it["confusion"].items():
        recall = it["recall"][name]
        print(f"{name}: called {row}, recall {recall['by_events']:.2f} by event, unknown {it['unknown'][name]:.0%}")
    print(f"expected calibration error {it['reliability']['expected_calibration_error']:.3f}; page: {run}/report/report.html")
    return report


# %% Use. `judge` gives probabilities and whether a record is unlike all that was learnt from; `seislatent classify` does folders.


def used(weights: Path, record: Path) -> None:
    """One record."""
    model = sl.load(weights)
    print(model.predict(obspy.read(str(record))))


def main(words: list[str] | None = None) -> None:
    """All cells in order."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", nargs="?", type=Path, help="a subfolder per class, or a labels.csv, with waveform files")
    parser.add_argument("--made-up", action="store_true", help="make 300 records first")
    parser.add_argument("--records", type=int, default=300, help="how many are made")
    parser.add_argument("--steps", type=int, default=1000, help="of training; fewer where dev does not get better")
    parser.add_argument("--out", required=True, type=Path, help="folder of the run")
    asked = parser.parse_args(words)
    if asked.made_up == (asked.folder is not None):
        parser.error("give a folder, or --made-up")
    folder = made_up(Path(f"{asked.out}-records"), asked.records) if asked.made_up else asked.folder
    weights = trained(folder, asked.out, steps=asked.steps)
    told(asked.out)
    if asked.made_up:
        used(weights, folder / "blast" / "0000.mseed")


if __name__ == "__main__":
    main()
