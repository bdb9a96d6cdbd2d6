"""Time and memory of the measures of distributions at 10,000 x 1,000 features, each in a process of its own.

    python benchmarks/distributions.py [--records 10000] [--features 1000] [--device cpu] [--threads 2] [--only frechet,mmd]

Peak is that of the process above what torch and the features take; the measures' own chunks are 128 MiB.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import time


def cases(x, y, g):
    import torch

    from seislatent.metrics.discrepancy import maximum_mean_discrepancy
    from seislatent.metrics.disentangle import invariance, leak, retrieval
    from seislatent.metrics.diversity import coverage_density, pairwise_distance
    from seislatent.metrics.frechet import frechet_distance, frechet_with_floor
    from seislatent.metrics.memorisation import memorisation, memorisation_of_features
    from seislatent.metrics.normality import normality
    from seislatent.signal.ssa import singular_spectrum

    events = torch.arange(len(x)) // 10
    few = len(x) // 20
    return {
        "frechet": lambda: frechet_distance(x, y),
        "frechet, shrunk": lambda: frechet_distance(x, y, shrink=True),
        "frechet with floor, 5 repeats": lambda: frechet_with_floor(x, y, g, events=events, generated_events=events, repeats=5),
        "mmd, 199 permutations": lambda: maximum_mean_discrepancy(x, y, g, events=events, other_events=events + 10**6),
        "pairwise distance": lambda: pairwise_distance(x),
        "coverage, density": lambda: coverage_density(x, y),
        "memorisation of features": lambda: memorisation_of_features(x[: len(x) // 2], x[len(x) // 2 :], y, g),
        "normality": lambda: normality(x, g, events=events),
        "invariance": lambda: invariance(x, events),
        "retrieval": lambda: retrieval(x, events),
        "leak": lambda: leak(x, y[:, :3], events, g),
        f"memorisation of {few} + {few} waveforms (3 x 2048) among {2 * few}": lambda: memorisation(
            *(torch.randn(n, 3, 2048, generator=g).to(x.device) for n in (few, few, 2 * few)), 100.0, g, max_shift_s=2.0
        ),
        "ssa of 100 x 4096, window 100, 10 components": lambda: singular_spectrum(
            torch.randn(100, 4096, generator=g).to(x.device), 100, 10
        ),
    }


def one(arguments) -> None:
    import torch

    torch.set_num_threads(arguments.threads)
    g = torch.Generator().manual_seed(0)
    x, y = (torch.randn(arguments.records, arguments.features, generator=g).to(arguments.device) for _ in range(2))
    named = cases(x, y, g)
    if arguments.case == "names":
        print("\n".join(named))
        return
    gpu = arguments.device.startswith("cuda")
    before = torch.cuda.memory_allocated() if gpu else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    begin = time.perf_counter()
    named[arguments.case]()
    if gpu:
        torch.cuda.synchronize()
    seconds = time.perf_counter() - begin
    after = torch.cuda.max_memory_allocated() if gpu else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    print(f"| {arguments.case} | {seconds:.2f} | {(after - before) / 2**20:.0f} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--records", type=int, default=10_000)
    parser.add_argument("--features", type=int, default=1_000)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--only", default="")
    parser.add_argument("--case", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.case:
        one(arguments)
        return
    base = [sys.executable, __file__, *(f"--{k}={getattr(arguments, k)}" for k in ("records", "features", "device", "threads"))]
    names = subprocess.run([*base, "--case=names"], capture_output=True, text=True, check=True).stdout.splitlines()
    wanted = [w for w in arguments.only.split(",") if w]
    print(f"{arguments.records} x {arguments.features} beside as many, {arguments.device}, {arguments.threads} threads")
    print("| measure | s | peak MiB |\n|---|---:|---:|", flush=True)
    for name in names:
        if not wanted or any(name.startswith(w) for w in wanted):
            subprocess.run([*base, f"--case={name}"], check=True)


if __name__ == "__main__":
    main()
