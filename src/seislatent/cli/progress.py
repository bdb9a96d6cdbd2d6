"""How far a long command has come: a bar on a terminal, a line for each tenth in a log."""

from __future__ import annotations

import sys
from collections.abc import Callable

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn


class Bar:
    """`with Bar("records") as tell: tell(done, total)`, on standard error."""

    def __init__(self, what: str) -> None:
        self.what, self.tenth = what, -1
        screen = Console(stderr=True)
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        self.progress = Progress(*columns, console=screen) if screen.is_terminal else None

    def __enter__(self) -> Callable[[int, int], None]:
        if self.progress is not None:
            self.task = self.progress.add_task(self.what, total=None)
            self.progress.start()
        return self.tell

    def tell(self, done: int, total: int) -> None:
        """So many of so many."""
        if self.progress is not None:
            self.progress.update(self.task, completed=done, total=total)
        elif (tenth := 10 * done // max(total, 1)) > self.tenth:
            self.tenth = tenth
            print(f"{done} of {total} {self.what}", file=sys.stderr, flush=True)

    def __exit__(self, *_: object) -> None:
        if self.progress is not None:
            self.progress.stop()
