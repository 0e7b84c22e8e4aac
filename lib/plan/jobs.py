"""How far the long jobs are: one row a job, rewritten."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, bindparam, select
from sqlalchemy.orm import Session

from lib.plan.tables import ProgressRow

STALE = timedelta(minutes=5)  # a running job that has not spoken for this long was killed
# Built once: putting a statement together costs more than SQLite takes to answer it.
_PROGRESS = select(
    ProgressRow.state, ProgressRow.done, ProgressRow.message, ProgressRow.started, ProgressRow.at
).where(ProgressRow.job == bindparam("wanted"))


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
