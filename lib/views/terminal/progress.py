"""Progress of a command in the terminal."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn

from lib.runtime.progress import OnProgress, TimeLeft

_LINE_EVERY_S = 30.0  # where no terminal can show a bar; the first plan of a demo takes minutes


@contextmanager
def progress_bar(console: Console) -> Iterator[OnProgress]:
    """Show a progress bar with the time left, removed at the end; in a log file a line every half minute.

    Yields:
        A function to call with the share done, 0 to 1, and a message.
    """
    written = -math.inf

    def write(done: float, message: str) -> None:
        nonlocal written
        if time.monotonic() - written >= _LINE_EVERY_S:
            written = time.monotonic()
            console.print(f"{done:4.0%} {message}", markup=False, highlight=False)

    if not console.is_terminal:
        yield write
        return
    columns = (
        TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TextColumn("{task.fields[left]}")
    )  # fmt: skip
    time_left = TimeLeft()
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task("starting", total=1.0, left="")

        def show(done: float, message: str) -> None:
            seconds = time_left(done)
            left = "" if seconds is None else f"{timedelta(seconds=round(seconds))} left"
            progress.update(task, completed=done, description=escape(message), left=left)

        yield show
