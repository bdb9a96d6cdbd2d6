"""Train a system on a folder of records.

The folder RUN then holds best.safetensors (the best validation) or system.safetensors (the last save), last.safetensors (from which
the same command goes on after an interruption), preset.yaml (every setting), log.jsonl and tensorboard/. Keys of the system, the
recipe and the dataset are options too: --system.books 8 --recipe.steps 100 --dataset.KEY VALUE; seislatent info NAME tells them.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

KEYS = ("system", "recipe", "dataset")


def arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the verb."""
    parser.add_argument("name", metavar="NAME", help="preset (seislatent list tells them), or a preset's YAML file")
    parser.add_argument("--data", required=True, metavar="DIR", help="folder of training records; several are separated by commas")
    parser.add_argument("--out", metavar="RUN", help="folder of the run (default: runs/NAME)")
    parser.add_argument("--init-from", metavar="MODEL", help="preset or .safetensors file whose weights are the start")
    parser.add_argument(
        "--resume",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="go on where the same run in RUN stopped; --no-resume refuses instead",
    )
    parser.add_argument("--overwrite", action="store_true", help="start afresh in RUN, whatever run it holds")


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Calls `training.train`."""
    from seislatent import training

    keys: dict[str, dict[str, str]] = {key: {} for key in KEYS}
    for name, value in vars(args).items():
        key, _, rest = name.partition(".")
        if rest:
            keys[key][rest] = value
    preset = Path(args.name)
    out = Path(args.out or Path("runs", preset.stem if preset.suffix else preset))
    path = training.train(
        args.name,
        args.data if Path(args.data).exists() else args.data.split(","),
        out,
        **keys,
        init_from=args.init_from,
        resume=args.resume,
        overwrite=args.overwrite,
    )
    told = Path(out, "log.jsonl").read_text(encoding="utf-8").splitlines()[-1]
    if "stopped by a signal" in told:  # the engine has saved the run; 0 is for runs that went as far as they were asked to
        raise KeyboardInterrupt
    return {"run": str(out), "weights": str(path)}


def text(result: dict[str, Any]) -> str:
    """Where the weights are."""
    return f"weights: {result['weights']}"
