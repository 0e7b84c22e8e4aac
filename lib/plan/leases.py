"""Handing out cases: never two annotators the same one."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, bindparam, delete, insert, select

from lib.plan.database import one_at_a_time
from lib.plan.orm import EventRow, LeaseRow, SetAsideRow

# Built once: putting a statement together costs more than SQLite takes to answer it.
_MADE = (
    select(EventRow.at)
    .where(EventRow.case_id == LeaseRow.case_id, EventRow.kind == "offered")
    .order_by(EventRow.id.desc())
    .limit(1)
    .scalar_subquery()
)
_LEASES = select(LeaseRow.case_id, LeaseRow.annotator, LeaseRow.until, _MADE.label("made"))
_END_LEASE = delete(LeaseRow).where(LeaseRow.case_id == bindparam("ended"))
_LEASE = insert(LeaseRow)
_ASIDE = select(SetAsideRow.case_id).where(SetAsideRow.annotator == bindparam("whose"))
_SET_ASIDE = insert(SetAsideRow)
_TAKE_BACK = delete(SetAsideRow).where(SetAsideRow.annotator == bindparam("whose"))
_EVENT = insert(EventRow)

APART = timedelta(hours=1)  # that the clocks of servers may differ, or one be set back


@dataclass(frozen=True)
class PoolState:
    """The cases of a pool at one moment.

    Attributes:
        served: Ids of those that may be offered.
        labelled: Ids of those among them that have a label.
    """

    served: Set[str]
    labelled: Set[str]

    def is_open(self, case_id: str) -> bool:
        """Whether a case is still to be labelled."""
        return case_id in self.served and case_id not in self.labelled


@dataclass(frozen=True)
class Wish:
    """What an annotator asks for.

    Attributes:
        annotator: Who asks.
        order: Case ids, best first.
        lease: How long the case is kept.
        stop: No case is offered once so many are labelled or in somebody's hands; None for never.
        about: Kept with the event.
    """

    annotator: str
    order: Sequence[str]
    lease: timedelta
    stop: int | None = None
    about: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Lease:
    """A case in one annotator's hands.

    Attributes:
        case_id: Of the case.
        rank: Its place in the order, from 1.
        until: When it is free again.
        spent: Cases labelled or in somebody's hands, this one too.
    """

    case_id: str
    rank: int
    until: datetime
    spent: int


@dataclass(frozen=True)
class Desk:
    """Who is at what, for one annotator who looks.

    Attributes:
        held: (annotator, until) of every case in somebody's hands.
        aside: Cases that this annotator passed over.
    """

    held: Mapping[str, tuple[str, datetime]]
    aside: Set[str]

    @classmethod
    def look(cls, connection: Connection, annotator: str, now: datetime) -> Desk:
        """As it is now; nothing is changed."""
        leases = connection.execute(_LEASES).all()
        aside = set(connection.scalars(_ASIDE, {"whose": annotator}))
        held = {lease.case_id: (lease.annotator, lease.until) for lease in leases if _holds(lease, now)}
        return cls(held, aside)

    @property
    def annotators(self) -> set[str]:
        """Names of all who hold a case."""
        return {who for who, _ in self.held.values()}

    def of(self, annotator: str) -> str | None:
        """The case in an annotator's hands."""
        return next((case for case, (who, _) in self.held.items() if who == annotator), None)


def lease_first(
    connection: Connection, wish: Wish, look: Callable[[], PoolState], now: datetime
) -> Lease | None:
    """Lease the first case of an order that is free, within the connection's transaction.

    Free is: open, in nobody's hands, not set aside by this annotator. A case that this annotator still holds
    is set aside: asking again without a label is passing it over. Once nothing else is left, what was set
    aside comes again. What an expired lease held is free again.

    Args:
        connection: In a transaction that writes.
        wish: What is asked for.
        look: Tells the pool; called once nobody else can lease. A label is saved before its case is
            released, so a case that is in nobody's hands then has its label in what `look` tells.
        now: The time.

    Returns:
        The lease, or None when nothing is left for this annotator or the stop is reached.
    """
    one_at_a_time(connection)
    leases = connection.execute(_LEASES).all()  # as many as there are annotators
    aside = set(connection.scalars(_ASIDE, {"whose": wish.annotator}))
    pool = look()
    held = _end_leases(connection, leases, wish, pool, aside, now)
    spent = len(pool.labelled) + sum(pool.is_open(id) for id in held)
    if wish.stop is not None and spent >= wish.stop:
        return None
    found = first_free(wish.order, pool, held, aside)
    if found is None or found[1] in aside:
        connection.execute(_TAKE_BACK, {"whose": wish.annotator})
    if found is None:
        return None
    rank, case_id = found
    until = now + wish.lease
    connection.execute(_LEASE, [{"case_id": case_id, "annotator": wish.annotator, "until": until}])
    note(connection, now, "offered", case_id, wish.annotator, {"rank": rank, **wish.about})
    return Lease(case_id, rank, until, spent + 1)


def note(
    connection: Connection,
    at: datetime,
    kind: str,
    case_id: str | None = None,
    annotator: str | None = None,
    details: Mapping[str, Any] | None = None,
) -> None:
    """Append an event."""
    row = {"at": at, "kind": kind, "case_id": case_id, "annotator": annotator, "details": dict(details or {})}
    connection.execute(_EVENT, [row])


def _end_leases(
    connection: Connection, leases: Sequence[Any], wish: Wish, pool: PoolState, aside: set[str], now: datetime
) -> set[str]:
    """End the leases that have expired and those of the annotator who asks; the ids of the others.

    What the annotator still held joins `aside`.
    """
    held = set()
    for lease in leases:
        case_id, annotator = lease.case_id, lease.annotator
        if not _holds(lease, now):
            note(connection, now, "expired", case_id, annotator)
        elif annotator != wish.annotator:
            held.add(case_id)
            continue
        elif pool.is_open(case_id):
            note(connection, now, "set aside", case_id, annotator)
            if case_id not in aside:
                connection.execute(_SET_ASIDE, [{"annotator": annotator, "case_id": case_id}])
                aside.add(case_id)
        connection.execute(_END_LEASE, [{"ended": case_id}])
    return held


def _holds(lease: Any, now: datetime) -> bool:
    """Whether a lease has not ended; one that was made in the future was made by a clock that was wrong."""
    return bool(lease.until > now and (lease.made is None or lease.made <= now + APART))


def first_free(
    order: Sequence[str], pool: PoolState, held: Set[str], aside: Set[str]
) -> tuple[int, str] | None:
    """Rank and id of the first open case of an order that others do not hold; of those set aside last."""
    passed_over = None
    for rank, id in enumerate(order, start=1):
        if id not in held and pool.is_open(id):
            if id not in aside:
                return rank, id
            passed_over = passed_over or (rank, id)
    return passed_over
