"""Leases of cases to annotators: two annotators never get the same case."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, bindparam, delete, func, insert, select

from lib.plan.database import one_at_a_time
from lib.plan.orm import EventRow, LeaseRow, SetAsideRow

# Built once: building a statement takes longer than SQLite needs to answer it.
_OFFERED_AT = (
    select(EventRow.at)
    .where(EventRow.case_id == LeaseRow.case_id, EventRow.kind == "offered")
    .order_by(EventRow.id.desc())
    .limit(1)
    .scalar_subquery()
)
_OFFER = (
    select(func.max(EventRow.id))
    .where(EventRow.case_id == LeaseRow.case_id, EventRow.kind == "offered")
    .scalar_subquery()
)
_LEASES = select(
    LeaseRow.case_id,
    LeaseRow.annotator,
    LeaseRow.until,
    _OFFERED_AT.label("offered_at"),
    _OFFER.label("offer"),
)
_LEASE_OF = _LEASES.where(LeaseRow.case_id == bindparam("case"))
_END_LEASE = delete(LeaseRow).where(LeaseRow.case_id == bindparam("ended"))
_LEASE = insert(LeaseRow)
_ASIDE = select(SetAsideRow.case_id).where(SetAsideRow.annotator == bindparam("by"))
_SET_ASIDE = insert(SetAsideRow)
_CLEAR_SET_ASIDE = delete(SetAsideRow).where(SetAsideRow.annotator == bindparam("by"))
_EVENT = insert(EventRow)

MAX_PASSED_OVER = 4  # cases that are kept for an annotator name after it asked for the next one
MAX_CLOCK_SKEW = timedelta(hours=1)  # between servers, or after a clock was set back


@dataclass(frozen=True)
class PoolState:
    """Cases of a pool at one moment.

    Attributes:
        served: Ids of the cases that may be offered.
        labelled: Ids of the served cases that have a label.
    """

    served: Set[str]
    labelled: Set[str]

    def is_open(self, case_id: str) -> bool:
        """Whether a case is still to be labelled."""
        return case_id in self.served and case_id not in self.labelled


@dataclass(frozen=True)
class LeaseRequest:
    """Request of an annotator for the next case.

    Attributes:
        annotator: Name of the annotator.
        order: Case ids, best first.
        lease: Duration of the lease.
        stop: Number of cases, labelled or leased, after which no more are offered; None for no limit.
        about: Details recorded with the event.
    """

    annotator: str
    order: Sequence[str]
    lease: timedelta
    stop: int | None = None
    about: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Lease:
    """A case that one annotator holds.

    Attributes:
        case_id: Id of the case.
        rank: Rank of the case in the order, from 1.
        until: End of the lease.
        spent: Number of cases labelled or leased, including this one.
        held_since: Time of the earlier offer to the same annotator, where no other case was left.
        passed_over: Id of the case that the annotator held and did not label; empty if there is none.
    """

    case_id: str
    rank: int
    until: datetime
    spent: int
    held_since: datetime | None = None
    passed_over: str = ""


@dataclass(frozen=True)
class Assignments:
    """Cases that the annotators hold now, and the cases that one annotator has set aside.

    Attributes:
        held: Annotator and end of the lease, by id of each leased case; the last case that each annotator was
            offered comes before those that the annotator passed over.
        aside: Ids of the cases that this annotator set aside.
    """

    held: Mapping[str, tuple[str, datetime]]
    aside: Set[str]

    @classmethod
    def read(cls, connection: Connection, annotator: str, now: datetime) -> Assignments:
        """Read the leases; the database is not changed."""
        leases = connection.execute(_LEASES).all()
        aside = set(connection.scalars(_ASIDE, {"by": annotator}))
        valid = sorted((lease for lease in leases if _is_held(lease, now)), key=_newest_first)
        return cls({lease.case_id: (lease.annotator, lease.until) for lease in valid}, aside)

    @property
    def annotators(self) -> set[str]:
        """Names of the annotators who hold a case."""
        return {who for who, _ in self.held.values()}

    def case_of(self, annotator: str) -> str | None:
        """Id of the case that an annotator was last offered; None if there is none."""
        return next((case for case, (who, _) in self.held.items() if who == annotator), None)

    @property
    def at_work(self) -> set[str]:
        """Ids of the cases that annotators were last offered; the others were passed over."""
        return {case for case, (who, _) in self.held.items() if case == self.case_of(who)}


def offered_at(connection: Connection, case_id: str, annotator: str) -> datetime | None:
    """Time of the offer of a case to the annotator who holds it; None if this annotator does not hold it."""
    lease = connection.execute(_LEASE_OF, {"case": case_id}).one_or_none()
    return lease.offered_at if lease is not None and lease.annotator == annotator else None


def lease_first(
    connection: Connection, request: LeaseRequest, read_pool: Callable[[], PoolState], now: datetime
) -> Lease | None:
    """Lease the first free case of an order, within the connection's transaction.

    A case is free if it is open, nobody holds it, and this annotator has not set it aside. A case that this
    annotator still holds is set aside: a new request without a label passes it over. The lease stays all the
    same, because two clients may send one name, or none, and the other may be at work on it; only the last
    `MAX_PASSED_OVER` cases are kept so, and they spend no budget. Cases that were set aside come again once
    no other case is left, and after them those that this annotator still holds, the one offered first before
    the others. A case whose lease has expired is free again.

    Args:
        connection: Connection in a transaction that writes.
        request: Request of the annotator.
        read_pool: Returns the state of the pool; called when no other transaction can lease. A label is
            saved before the lease of its case ends, so a case without a lease has its label in this state.
        now: Current time.

    Returns:
        The lease, or None when nothing is left for this annotator or the stop is reached.
    """
    one_at_a_time(connection)
    leases = connection.execute(_LEASES).all()  # at most one an annotator
    aside = set(connection.scalars(_ASIDE, {"by": request.annotator}))
    pool = read_pool()
    held = _end_leases(connection, leases, request, pool, aside, now)
    at_work = {lease.annotator: lease.case_id for lease in reversed(held) if pool.is_open(lease.case_id)}
    passed_over = at_work.pop(request.annotator, "")
    spent = len(pool.labelled) + len(at_work)
    if request.stop is not None and spent >= request.stop:
        return None
    found, since = first_free(request.order, pool, {lease.case_id for lease in held}, aside), None
    if found is None or found[1] in aside:
        connection.execute(_CLEAR_SET_ASIDE, {"by": request.annotator})
    if found is None and (own := _longest_held(held, request, pool)):
        connection.execute(_END_LEASE, {"ended": own.case_id})
        found, since = (request.order.index(own.case_id) + 1, own.case_id), own.offered_at
    if found is None:
        return None
    rank, case_id = found
    until = now + request.lease
    connection.execute(_LEASE, [{"case_id": case_id, "annotator": request.annotator, "until": until}])
    record_event(connection, now, "offered", case_id, request.annotator, {"rank": rank, **request.about})
    return Lease(case_id, rank, until, spent + 1, since, passed_over if passed_over != case_id else "")


def _longest_held(held: Sequence[Any], request: LeaseRequest, pool: PoolState) -> Any:
    """Lease that the requesting annotator has held the longest; None if there is none."""
    own = (lease for lease in reversed(held) if lease.annotator == request.annotator)
    return next((lease for lease in own if lease.case_id in request.order), None)


def record_event(
    connection: Connection,
    at: datetime,
    kind: str,
    case_id: str | None = None,
    annotator: str | None = None,
    details: Mapping[str, Any] | None = None,
) -> None:
    """Append an event to the record."""
    row = {"at": at, "kind": kind, "case_id": case_id, "annotator": annotator, "details": dict(details or {})}
    connection.execute(_EVENT, [row])


def _end_leases(
    connection: Connection,
    leases: Sequence[Any],
    request: LeaseRequest,
    pool: PoolState,
    aside: set[str],
    now: datetime,
) -> list[Any]:
    """End the leases that expired or have their label; return the leases that stay, the newest first.

    Open cases that the requesting annotator still holds are added to `aside`.
    """
    held, passed_over = [], 0
    for lease in sorted(leases, key=_newest_first):
        case_id, annotator = lease.case_id, lease.annotator
        if not _is_held(lease, now):
            record_event(connection, now, "expired", case_id, annotator)
        elif annotator != request.annotator:
            held.append(lease)
            continue
        elif pool.is_open(case_id):
            if case_id not in aside:
                record_event(connection, now, "set aside", case_id, annotator)
                connection.execute(_SET_ASIDE, [{"annotator": annotator, "case_id": case_id}])
                aside.add(case_id)
            passed_over += 1
            if passed_over <= MAX_PASSED_OVER:
                held.append(lease)
                continue
        connection.execute(_END_LEASE, [{"ended": case_id}])
    return held


def _newest_first(lease: Any) -> tuple[int, str]:
    return -(lease.offer or 0), lease.case_id


def _is_held(lease: Any, now: datetime) -> bool:
    """Whether a lease is still valid; a lease from the future was made under a wrong clock and is not."""
    return bool(lease.until > now and (lease.offered_at is None or lease.offered_at <= now + MAX_CLOCK_SKEW))


def first_free(
    order: Sequence[str], pool: PoolState, held: Set[str], aside: Set[str]
) -> tuple[int, str] | None:
    """Rank and id of the first open case that nobody else holds; cases that were set aside come last."""
    passed_over = None
    for rank, id in enumerate(order, start=1):
        if id not in held and pool.is_open(id):
            if id not in aside:
                return rank, id
            passed_over = passed_over or (rank, id)
    return passed_over
