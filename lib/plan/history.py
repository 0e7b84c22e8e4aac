"""Events of a case, as recorded in the plan's database."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Engine, bindparam, func, select

from lib.plan.database import writing
from lib.plan.leases import record_event
from lib.plan.orm import EventRow

_EVENT_COLUMNS = (EventRow.at, EventRow.kind, EventRow.annotator, EventRow.details)
_LAST_SHOWN = (
    select(*_EVENT_COLUMNS)
    .where(EventRow.case_id == bindparam("case"), EventRow.kind == "segmented")
    .where(EventRow.annotator.is_(None) | (EventRow.annotator == bindparam("by")))
    .order_by(EventRow.id.desc())
    .limit(1)
)


@dataclass(frozen=True)
class Event:
    """One recorded event.

    Attributes:
        at: Time of the event.
        kind: `planned` (the whole pool), `offered`, `set aside`, `given back`, `expired`, `segmented`,
            `labelled`, `superseded` (by another reader's label), `restored`,
            `released` (from quarantine), `held back` (again).
        annotator: Annotator who requested or labelled the case.
        details: Rank and strategy of an offer, version and size of a plan.
    """

    at: datetime
    kind: str
    annotator: str | None
    details: Mapping[str, Any]


class EventLog:
    """Events of the cases; they are only appended."""

    def __init__(self, engine: Engine, now: Callable[[], datetime]) -> None:
        """Use the plan's database."""
        self._engine, self._writing, self._now = engine, writing(engine), now

    def record(self, kind: str, case_id: str, annotator: str | None, details: Mapping[str, Any]) -> None:
        """Record an event of a case."""
        with self._writing.begin() as connection:
            record_event(connection, self._now(), kind, case_id, annotator, details)

    def of_case(self, case_id: str, *, limit: int) -> list[Event]:
        """Events of a case and of the whole pool, newest first."""
        ours = (EventRow.case_id == case_id) | EventRow.case_id.is_(None)
        rows = select(*_EVENT_COLUMNS).where(ours).order_by(EventRow.id.desc()).limit(limit)
        with self._engine.connect() as connection:
            return [Event(*row) for row in connection.execute(rows)]

    def last_shown(self, case_id: str, annotator: str) -> Event | None:
        """Last pre-segmentation of a case that was shown to an annotator, or to a client without a name."""
        with self._engine.connect() as connection:
            row = connection.execute(_LAST_SHOWN, {"case": case_id, "by": annotator}).one_or_none()
        return None if row is None else Event(*row)

    def superseded(self, annotator: str) -> list[tuple[str, Event]]:
        """Labels by this annotator that others replaced since the last offer: case and event of each."""
        last_offer = select(func.coalesce(func.max(EventRow.id), 0)).where(
            EventRow.annotator == annotator, EventRow.kind == "offered"
        )
        rows = (
            select(EventRow.case_id, *_EVENT_COLUMNS)
            .where(EventRow.annotator == annotator, EventRow.kind == "superseded")
            .where(EventRow.id > last_offer.scalar_subquery())
            .order_by(EventRow.id)
        )
        with self._engine.connect() as connection:
            return [(case_id or "", Event(*rest)) for case_id, *rest in connection.execute(rows)]
