"""Progress of the long jobs: one row a job, overwritten at each report."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, bindparam, select
from sqlalchemy.orm import Session

from lib.plan.orm import ProgressRow
from lib.runtime.progress import OnProgress, TimeLeft

RECORD_EVERY_S = 1.0  # at most one progress report a second is recorded
STALE_AFTER = timedelta(minutes=5)  # a running job without a report for this long was killed
# Built once: building a statement takes longer than SQLite needs to answer it.
_PROGRESS = select(
    ProgressRow.state, ProgressRow.done, ProgressRow.message, ProgressRow.seconds_left, ProgressRow.at
).where(ProgressRow.job == bindparam("wanted"))


@contextmanager
def recording_progress(
    record: Callable[..., None], job: str, on_progress: OnProgress | None = None, *, after_stop: str
) -> Iterator[OnProgress]:
    """Record the progress of a job once a second, and the reason if it ends early.

    Args:
        record: `PlanStore.report`.
        job: Name of the job.
        on_progress: Called with every report.
        after_stop: Consequence of a stop, in words for the person who stopped the job.

    Yields:
        Callable that takes the share done and the current step.
    """
    recorded, time_left = -math.inf, TimeLeft()

    def tell(done: float, message: str) -> None:
        nonlocal recorded
        if time.monotonic() - recorded >= RECORD_EVERY_S:
            recorded = time.monotonic()
            record(job, state="running", done=done, message=message, seconds_left=time_left(done))
        if on_progress:
            on_progress(done, message)

    try:
        yield tell
    except KeyboardInterrupt:
        record(job, state="interrupted", done=0.0, message=f"stopped; {after_stop}")
        raise
    except Exception as err:
        record(job, state="failed", done=0.0, message=str(err))
        raise


def report(session: Session, reported: ProgressRow, now: datetime) -> None:
    """Record a progress report."""
    reported.at = now
    session.merge(reported)


def progress(connection: Connection, job: str, now: datetime) -> dict[str, Any]:
    """State, share done, message and seconds left of a job; empty if it never ran."""
    row = connection.execute(_PROGRESS, {"wanted": job}).one_or_none()
    if row is None:
        return {}
    state = "interrupted" if row.state == "running" and now - row.at > STALE_AFTER else row.state
    answer: dict[str, Any] = {"state": state, "done": round(row.done, 3), "message": row.message}
    if state == "running" and row.seconds_left is not None:
        answer["seconds_left"] = round(row.seconds_left, 1)
    return answer
