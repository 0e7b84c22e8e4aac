"""How far a command is, for whoever waits for it."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

EVERY_S = 10.0  # between two lines where there is no terminal to draw a bar in


@contextmanager
def progress_bar(console: Console) -> Iterator[Callable[[float, str], None]]:
    """A bar with the time left, gone at the end; in a log file a line every ten seconds at most.

    Yields:
        Shows the share done, 0 to 1, and what is being done.
    """
    printed = -math.inf

    def write(done: float, message: str) -> None:
        nonlocal printed
        if time.monotonic() - printed >= EVERY_S:
            printed = time.monotonic()
            console.print(f"{done:4.0%} {message}", markup=False, highlight=False)

    if not console.is_terminal:
        yield write
        return
    columns = TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn()
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task("starting", total=1.0)
        yield lambda done, message: progress.update(task, completed=done, description=escape(message))
