"""Events of a case, as recorded in the plan's database."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, select

from lib.plan.orm import EventRow


@dataclass(frozen=True)
class Event:
    """One recorded event.

    Attributes:
        at: Time of the event.
        kind: `planned` (the whole pool), `offered`, `set aside`, `expired`, `labelled`.
        annotator: Annotator who requested or labelled the case.
        details: Rank and strategy of an offer, version and size of a plan.
    """

    at: datetime
    kind: str
    annotator: str | None
    details: Mapping[str, Any]


def history(connection: Connection, case_id: str, *, limit: int) -> list[Event]:
    """Events of a case and of the whole pool, newest first."""
    ours = (EventRow.case_id == case_id) | EventRow.case_id.is_(None)
    rows = (
        select(EventRow.at, EventRow.kind, EventRow.annotator, EventRow.details)
        .where(ours)
        .order_by(EventRow.id.desc())
        .limit(limit)
    )
    return [Event(*row) for row in connection.execute(rows)]
