"""Train a system on a folder of records.

The folder RUN then holds best.safetensors (the best validation) or system.safetensors (the last save), last.safetensors (from which
the same command goes on after an interruption), preset.yaml (every setting), log.jsonl and tensorboard/. Keys of the system, the
recipe and the dataset are options too: --system.books 8 --recipe.steps 100 --dataset.KEY VALUE; seislatent info NAME tells them.

A classifier takes the classes that it finds in the column --label of a store; or a folder of waveform files with a labels.csv, or
with a subfolder for each class (earthquake/, blast/). What it is worth on the test split stands in report/.
"""

from __future__ import annotations

import argparse
import json
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
        "--label", metavar="COLUMN", help="column of the store whose texts are the classes of a classifier (2 to 20)"
    )
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
        label=args.label,
        resume=args.resume,
        overwrite=args.overwrite,
    )
    told = Path(out, "log.jsonl").read_text(encoding="utf-8").splitlines()[-1]
    if "stopped by a signal" in told:  # the engine has saved the run; 0 is for runs that went as far as they were asked to
        raise KeyboardInterrupt
    report = out / "report" / "report.json"
    worth = {"report": json.loads(report.read_text(encoding="utf-8"))} if report.exists() else {}
    return {"run": str(out), "weights": str(path), **worth}


def text(result: dict[str, Any]) -> str:
    """Where the weights are, and of a classifier what it is worth on the test split."""
    lines = [f"weights: {result['weights']}"]
    if "report" in result:
        whole = result["report"]
        it = next(iter(whole["systems"].values()))  # the learner; the majority stands behind it
        lines.append(f"test: {whole['records']} records of {whole['events']} events")
        for name in ("accuracy", "balanced_accuracy"):
            ends = f" [{it[name]['low']:.3f}, {it[name]['high']:.3f}]" if it[name]["low"] is not None else ""
            lines.append(f"{name.replace('_', ' ')}: {it[name]['mean']:.3f}{ends}")
        for name, row in it["confusion"].items():
            called = ", ".join(f"{count} {other}" for other, count in row.items() if count)
            lines.append(f"{name}: called {called}" + (f"; {it['unknown'][name]:.1%} unknown" if it["unknown"] else ""))
        lines.append(f"expected calibration error: {it['reliability']['expected_calibration_error']:.3f}")
        lines.append(f"report: {result['run']}/report/report.html")
    return "\n".join(lines)
