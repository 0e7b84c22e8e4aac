"""How far the long jobs are: one row a job, rewritten."""

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

Progress = Callable[[float, str], None]  # told the share done and what is being done
_KEEP_S = 1.0  # between two tellings that are kept
STALE = timedelta(minutes=5)  # a running job that has not spoken for this long was killed
# Built once: putting a statement together costs more than SQLite takes to answer it.
_PROGRESS = select(
    ProgressRow.state, ProgressRow.done, ProgressRow.message, ProgressRow.started, ProgressRow.at
).where(ProgressRow.job == bindparam("wanted"))


@contextmanager
def telling(
    keep: Callable[..., None], job: str, on_progress: Progress | None = None, *, goes_on: str
) -> Iterator[Progress]:
    """Keep how far a job is, once a second, and why it ended before its end.

    Args:
        keep: `PlanStore.report`.
        job: Its name.
        on_progress: Told everything.
        goes_on: What happens after a stop, for who stopped it.

    Yields:
        To be told the share done and what is being done.
    """
    kept = -math.inf

    def tell(done: float, message: str) -> None:
        nonlocal kept
        if time.monotonic() - kept >= _KEEP_S:
            kept = time.monotonic()
            keep(job, state="running", done=done, message=message)
        if on_progress:
            on_progress(done, message)

    try:
        yield tell
    except KeyboardInterrupt:
        keep(job, state="interrupted", done=0.0, message=f"stopped; {goes_on}")
        raise
    except Exception as err:
        keep(job, state="failed", done=0.0, message=str(err))
        raise


def report(session: Session, told: ProgressRow, now: datetime) -> None:
    """Keep what a job tells; it began when it first told so since it last ended, or fell behind itself."""
    row = session.get(ProgressRow, told.job)
    goes_on = row is not None and row.state == "running" and told.done >= row.done and now - row.at <= STALE
    told.started = row.started if row is not None and goes_on else now
    told.at = now
    session.merge(told)


def progress(connection: Connection, job: str, now: datetime) -> dict[str, Any]:
    """State, share done, message and seconds left of a job; empty where it never ran."""
    row = connection.execute(_PROGRESS, {"wanted": job}).one_or_none()
    if row is None:
        return {}
    state = "interrupted" if row.state == "running" and now - row.at > STALE else row.state
    answer: dict[str, Any] = {"state": state, "done": round(row.done, 3), "message": row.message}
    if state == "running" and row.done > 0.02:
        elapsed = (row.at - row.started).total_seconds()
        answer["seconds_left"] = round(elapsed * (1.0 - row.done) / row.done, 1)
    return answer
