"""Where a run's figures go: `log.jsonl`, TensorBoard, and the screen (a bar on a terminal, plain lines elsewhere)."""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Mapping
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from seislatent.errors import SeislatentError


class Log:
    """Figures of a run, step by step. On all processes but the first it keeps quiet."""

    def __init__(self, folder: Path, start: int, steps: int, leads: bool = True):
        self.leads, self.path, self.steps = leads, folder / "log.jsonl", steps
        self.sums: dict[str, list[float]] = {}
        self.since, self.from_step = time.monotonic(), start
        if not leads:
            return
        from torch.utils.tensorboard import SummaryWriter  # slow to import

        forget(self.path, after=start)
        self.board = SummaryWriter(str(folder / "tensorboard"), purge_step=start + 1)  # type: ignore[no-untyped-call]
        self.screen = Console(stderr=True)
        told = TextColumn("{task.fields[told]}", markup=False)
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(), told)
        self.bar = Progress(*columns, console=self.screen, disable=not self.screen.is_terminal)
        self.task = self.bar.add_task("step", total=steps, completed=start, told="")
        self.bar.start()

    def add(self, step: int, figures: Mapping[str, float]) -> None:
        """Keeps one step's figures for the next line."""
        for name, value in figures.items():
            entry = self.sums.setdefault(name, [0.0, 0])
            entry[0], entry[1] = entry[0] + value, entry[1] + 1
        if self.leads:
            self.bar.update(self.task, completed=step)

    def line(self, step: int, more: Mapping[str, float]) -> None:
        """Writes the means of the kept figures, and `more`."""
        now = time.monotonic()
        speed = {"steps_per_second": (step - self.from_step) / max(now - self.since, 1e-9)}
        means = {name: total / n for name, (total, n) in self.sums.items()}
        self.sums, self.since, self.from_step = {}, now, step
        self.write(step, means | speed | dict(more), "train")

    def write(self, step: int, figures: Mapping[str, float], group: str) -> None:
        """Writes figures now, everywhere; `group` is `train` or `validation`."""
        if not self.leads:
            return
        self.append({"step": step, "group": group} | {k: v if math.isfinite(v) else None for k, v in figures.items()})
        for name, value in figures.items():
            self.board.add_scalar(f"{group}/{name}", value, step)  # type: ignore[no-untyped-call]
        told = "  ".join(f"{k} {v:.4g}" for k, v in figures.items() if "/" not in k)
        if self.screen.is_terminal:
            self.bar.update(self.task, told=told[: max(10, self.screen.width - 60)])
        else:
            self.say(f"{group} {step}/{self.steps}  {told}")

    def event(self, step: int, text: str) -> None:
        """One thing that happened to the run."""
        if self.leads:
            self.append({"step": step, "group": "event", "event": text})
            self.say(f"step {step}/{self.steps}: {text}")

    def append(self, record: Mapping[str, object]) -> None:
        """One line of `log.jsonl`."""
        with open(self.path, "a", encoding="utf-8") as file:
            file.write(json.dumps(record) + "\n")

    def say(self, text: str) -> None:
        """One line on the screen, as it is."""
        self.screen.print(text, markup=False, highlight=False, soft_wrap=True)

    def close(self) -> None:
        """Ends the bar and the TensorBoard file."""
        if self.leads:
            self.bar.stop()
            self.board.close()  # type: ignore[no-untyped-call]


def forget(path: Path, after: int) -> None:
    """Takes the lines of later steps out: a run that was killed goes on from its last save and writes them again."""
    if not path.exists():
        return
    kept = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            if json.loads(line)["step"] <= after:
                kept.append(line + "\n")
        except ValueError:
            continue  # cut short by the kill
        except (KeyError, TypeError):
            raise SeislatentError(f"{path} is not the log of a run; give a new folder") from None
    part = path.with_name(path.name + ".part")
    part.write_text("".join(kept), encoding="utf-8")
    os.replace(part, path)
