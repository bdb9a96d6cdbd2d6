"""How fast a day of three-component 100 Hz data is picked, and what of it is the network: ours, and SeisBench's PhaseNet beside it.

    python benchmarks/pick_speed.py [--hours 24] [--threads 2] [--system features/picker]

Every leg is a process of its own: wall clock, processor time, peak memory, without the start of the interpreter. Random weights
do for time where the package has none. `ours` reads miniSEED, picks, and writes QuakeML; `ours in memory` is annotate alone on a
stream that is read already, and `seisbench` PhaseNet.annotate on the same stream. `limit` is the time that the operations of the
network alone take at the speed at which the same threads multiply matrices.

Processor time tells the speed where other work shares the cores; wall clock where they are idle.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

RATE_HZ = 100.0


def make_day(path: Path, hours: float) -> None:
    """Noise with a burst every ten minutes, three components, Steim2."""
    import numpy as np
    from obspy import Stream, Trace, UTCDateTime

    rng, n = np.random.default_rng(0), round(hours * 3600 * RATE_HZ)
    stream = Stream()
    for component in "ZNE":
        x = rng.normal(size=n) * 100
        x[1:] += 0.8 * x[:-1]
        for at in range(30_000, n - 6000, 60_000):
            t = np.arange(6000) / RATE_HZ
            x[at : at + 6000] += 3000 * np.exp(-t / 8) * np.sin(2 * np.pi * 4 * t)
        header = {"network": "XX", "station": "DAY", "channel": f"HH{component}", "sampling_rate": RATE_HZ}
        stream.append(Trace(x.astype(np.int32), header | {"starttime": UTCDateTime(2020, 1, 1)}))
    stream.write(str(path), format="MSEED", encoding="STEIM2")


def picker(name: str):
    """The packaged picker, or one of its size with random weights."""
    import torch

    from seislatent import catalog
    from seislatent.errors import SeislatentError

    try:
        return catalog.load(name), "its weights"
    except SeislatentError:
        torch.manual_seed(0)
        return catalog.wrap(catalog.build(name, catalog.preset(name).config), name), "random weights"


def ours(day: Path, name: str) -> dict:
    """From the file to the file."""
    from seislatent.bulk.pick import pick
    from seislatent.io.pick_files import write_picks

    model, which = picker(name)
    begun = time.perf_counter(), time.process_time()
    found = pick(model, day, parts=day.with_suffix(".parts"))
    write_picks(day.with_suffix(".xml"), found.table, found.about, overwrite=True)
    return spent(begun) | {"weights": which, "picks": len(found.table)}


def in_memory(day: Path, name: str) -> dict:
    """Probabilities of a stream that is read."""
    import obspy

    model, which = picker(name)
    stream = obspy.read(str(day), format="MSEED")
    begun = time.perf_counter(), time.process_time()
    traces = model.annotate(stream)
    return spent(begun) | {"weights": which, "samples": int(sum(t.stats.npts for t in traces))}


def seisbench(day: Path, name: str) -> dict:
    """PhaseNet with random weights, as its users call it."""
    import obspy

    try:
        import seisbench.models as models
    except ImportError as error:
        return {"left_out": f"SeisBench is not installed ({error}): pip install seisbench"}
    model = models.PhaseNet(phases="NPS")
    stream = obspy.read(str(day), format="MSEED")
    begun = time.perf_counter(), time.process_time()
    traces = model.annotate(stream)
    return spent(begun) | {"samples": int(sum(t.stats.npts for t in traces))}


def limit(day: Path, name: str) -> dict:
    """Operations of the network over a day at the speed of products of matrices, and of a product that it cannot beat."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    from seislatent.systems.features.annotate import windows

    model, _ = picker(name)
    system = model.system.eval()
    x = torch.randn(1, 3, system.samples)
    with torch.inference_mode(), FlopCounterMode(display=False) as counter:
        system.probabilities(x, torch.ones_like(x, dtype=torch.bool))
    a = torch.randn(1024, 1024)
    best = float("inf")
    for _ in range(20):
        begun = time.process_time() if torch.get_num_threads() == 1 else time.perf_counter()
        a @ a
        best = min(best, (time.process_time() if torch.get_num_threads() == 1 else time.perf_counter()) - begun)
    speed = 2 * 1024**3 / best
    flops = counter.get_total_flops() * 24 * 3600 * float(system.sampling_rate_hz) / windows(system).hop
    return {"gflop_per_day": round(flops / 1e9), "gflop_per_s": round(speed / 1e9, 1), "seconds_per_day": flops / speed}


def spent(begun: tuple[float, float]) -> dict:
    """Wall clock, processor time and peak memory."""
    wall, cpu = time.perf_counter() - begun[0], time.process_time() - begun[1]
    return {"wall_s": wall, "cpu_s": cpu, "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}


LEGS = {"ours": ours, "ours in memory": in_memory, "seisbench": seisbench, "limit": limit}


def main() -> None:
    """All legs, one after the other."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--hours", type=float, default=24.0)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--system", default="features/picker")
    parser.add_argument("--legs", default=",".join(LEGS))
    parser.add_argument("--leg", help=argparse.SUPPRESS)
    parser.add_argument("--day", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.leg:
        import torch

        torch.set_num_threads(args.threads)
        print(json.dumps(LEGS[args.leg](Path(args.day), args.system)))
        return
    with tempfile.TemporaryDirectory() as folder:
        day = Path(folder) / "day.mseed"
        make_day(day, args.hours)
        for leg in args.legs.split(","):
            words = ["--leg", leg, "--day", str(day), "--threads", str(args.threads), "--system", args.system]
            done = subprocess.run([sys.executable, __file__, *words], capture_output=True, text=True, check=False)
            if done.returncode:
                print(f"{leg}: {(done.stderr.strip().splitlines() or ['failed'])[-1]}")
                continue
            told = json.loads(done.stdout.strip().splitlines()[-1])
            if "cpu_s" in told:
                for kind in ("wall", "cpu"):
                    share = 1 if kind == "wall" else args.threads  # processor time of all threads together
                    told[f"times_real_time_by_{kind}"] = round(args.hours * 3600 / (told[f"{kind}_s"] / share))
            print(leg, json.dumps({k: round(v, 2) if isinstance(v, float) else v for k, v in told.items()}), flush=True)


if __name__ == "__main__":
    main()
