"""The plan in its database: written once for a scoring, read and leased from for each Next Sample."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from sqlalchemy import create_engine, delete, event, func, insert, select
from sqlalchemy.engine import Engine
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from lib.plan.tables import Base, EventRow, LeaseRow, PlanRow, ProgressRow, RankRow, ScoreRow, SetAsideRow

STALE = timedelta(minutes=5)  # a running job that has not spoken for this long was killed


@dataclass(frozen=True)
class CaseScore:
    """What a plan knows of a case.

    Attributes:
        difference: Standardised modality difference; None where the pool could not be scored.
        percentile: Share of the pool with a smaller difference, 0 to 100.
        details: JSON: nats by pair, the pair that differs most, warnings.
    """

    difference: float | None = None
    percentile: float | None = None
    details: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Offer:
    """A case for an annotator, and why."""

    case_id: str
    rank: int
    of: int
    score: CaseScore
    until: datetime


class PlanStore:
    """Plans, scores, leases and events in any database that SQLAlchemy takes."""

    def __init__(self, url: str, *, now: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        """Open the database, making its tables if it has none.

        Args:
            url: `sqlite:///…` or another SQLAlchemy URL.
            now: The clock.
        """
        self._engine = create_engine(url)
        self._now = now
        if self._engine.dialect.name == "sqlite":
            _make_sqlite_safe(self._engine)
        Base.metadata.create_all(self._engine)
        self._orders: dict[tuple[int, str], tuple[str, ...]] = {}

    @classmethod
    def beside(cls, folder: Path) -> PlanStore:
        """The SQLite database of a work folder."""
        folder.mkdir(parents=True, exist_ok=True)
        return cls(f"sqlite:///{folder / 'plan.sqlite'}")

    def write(
        self,
        *,
        content: str,
        seed: int,
        scores: Mapping[str, CaseScore],
        orders: Mapping[str, Sequence[str]],
        about: Mapping[str, Any],
    ) -> int:
        """Store a whole plan in one transaction: a reader sees the old one or this one.

        Args:
            content: Hash of what was scored and how.
            seed: Of the scoring.
            scores: By case.
            orders: Strategy name to case ids, best first.
            about: Gates, warnings, software; JSON.

        Returns:
            The plan's version.

        Raises:
            ValueError: If a score is not finite.
        """
        for case_id, score in scores.items():
            if any(
                value is not None and not math.isfinite(value)
                for value in (score.difference, score.percentile)
            ):
                raise ValueError(
                    f"scores must be finite; case {case_id} has {score.difference}. Check its images."
                )
        with self._transaction() as session:
            plan = PlanRow(created=self._now(), content=content, seed=seed, about=dict(about))
            session.add(plan)
            session.flush()
            if scores:
                session.execute(
                    insert(ScoreRow),
                    [
                        {
                            "plan_id": plan.id,
                            "case_id": id,
                            "difference": s.difference,
                            "percentile": s.percentile,
                            "details": dict(s.details),
                        }
                        for id, s in scores.items()
                    ],
                )
            ranks = [
                {"plan_id": plan.id, "strategy": strategy, "rank": rank, "case_id": id}
                for strategy, order in orders.items()
                for rank, id in enumerate(order, start=1)
            ]
            if ranks:
                session.execute(insert(RankRow), ranks)
            self._note(session, "planned", details={"plan": plan.id, "cases": len(scores)})
            return plan.id

    def current(self) -> PlanRow | None:
        """The newest plan."""
        with Session(self._engine) as session:
            return session.scalar(select(PlanRow).order_by(PlanRow.id.desc()).limit(1))

    def order(self, strategy: str) -> tuple[str, ...]:
        """Case ids of the newest plan, best first; empty where there is no plan for this strategy."""
        with Session(self._engine) as session:
            version = session.scalar(select(func.max(PlanRow.id)))
            if version is None:
                return ()
            if (version, strategy) not in self._orders:
                self._orders = {key: order for key, order in self._orders.items() if key[0] == version}
                self._orders[version, strategy] = tuple(
                    session.scalars(
                        select(RankRow.case_id)
                        .where(RankRow.plan_id == version, RankRow.strategy == strategy)
                        .order_by(RankRow.rank)
                    )
                )
            return self._orders[version, strategy]

    def lease_next(
        self, order: Sequence[str], *, annotator: str, is_open: Callable[[str], bool], lease: timedelta
    ) -> Offer | None:
        """Lease the first case of an order that is free, in one transaction.

        Free is: open, in nobody's hands, not set aside by this annotator. A case that this
        annotator still holds is set aside: asking again without a label is passing it over. Once nothing
        else is left, what was set aside comes again. What an expired lease held is free again.

        Args:
            order: Case ids, best first.
            annotator: Who asks.
            is_open: Whether a case is still to be labelled: not labelled, quarantined or gone.
            lease: How long the case is kept.

        Returns:
            The offer, or None when nothing is left for this annotator.
        """
        for _ in range(5):
            try:
                with self._transaction() as session:
                    return self._lease(session, order, annotator, is_open, lease)
            except IntegrityError:  # another server leased the same case between our read and our write
                continue
        return None

    def release(self, case_id: str, *, annotator: str | None, kind: str = "labelled") -> None:
        """End a case's lease because of what happened to it."""
        with self._transaction() as session:
            session.execute(delete(LeaseRow).where(LeaseRow.case_id == case_id))
            self._note(session, kind, case_id, annotator)

    def report(self, job: str, *, state: str, done: float, message: str) -> None:
        """Say how far a job is."""
        now = self._now()
        with self._transaction() as session:
            row = session.get(ProgressRow, job)
            if row is None or row.state != "running":
                session.merge(
                    ProgressRow(job=job, state=state, done=done, message=message, started=now, at=now)
                )
            else:
                row.state, row.done, row.message, row.at = state, done, message, now

    def progress(self, job: str) -> dict[str, Any]:
        """State, share done, message and seconds left of a job; empty where it never ran."""
        with Session(self._engine) as session:
            row = session.get(ProgressRow, job)
        if row is None:
            return {}
        started, at = _utc(row.started), _utc(row.at)
        state = "interrupted" if row.state == "running" and self._now() - at > STALE else row.state
        answer: dict[str, Any] = {"state": state, "done": round(row.done, 3), "message": row.message}
        if state == "running" and row.done > 0.02:
            elapsed = (at - started).total_seconds()
            answer["seconds_left"] = round(elapsed * (1.0 - row.done) / row.done, 1)
        return answer

    def _lease(
        self,
        session: Session,
        order: Sequence[str],
        annotator: str,
        is_open: Callable[[str], bool],
        lease: timedelta,
    ) -> Offer | None:
        now = self._now()
        session.execute(delete(LeaseRow).where(LeaseRow.until <= now))
        for held in session.scalars(select(LeaseRow.case_id).where(LeaseRow.annotator == annotator)).all():
            if is_open(held):
                session.merge(SetAsideRow(annotator=annotator, case_id=held))
                self._note(session, "set aside", held, annotator)
            session.execute(delete(LeaseRow).where(LeaseRow.case_id == held))
        leased = set(session.scalars(select(LeaseRow.case_id)))
        mine = SetAsideRow.annotator == annotator
        aside = set(session.scalars(select(SetAsideRow.case_id).where(mine)))
        taken = leased | aside
        found = _first(order, lambda id: id not in taken and is_open(id))
        again = found is None
        if again:
            found = _first(order, lambda id: id in aside and id not in leased and is_open(id))
        if found is None:
            return None
        rank, case_id = found
        if again:
            session.execute(delete(SetAsideRow).where(mine))
        until = now + lease
        session.add(LeaseRow(case_id=case_id, annotator=annotator, until=until))
        self._note(session, "offered", case_id, annotator, {"rank": rank})
        session.flush()
        return Offer(case_id, rank, len(order), self._score(session, case_id), until)

    def _score(self, session: Session, case_id: str) -> CaseScore:
        newest = select(func.max(PlanRow.id)).scalar_subquery()
        row = session.scalar(select(ScoreRow).where(ScoreRow.plan_id == newest, ScoreRow.case_id == case_id))
        return CaseScore(row.difference, row.percentile, row.details) if row else CaseScore()

    def _note(
        self,
        session: Session,
        kind: str,
        case_id: str | None = None,
        annotator: str | None = None,
        details: Mapping[str, Any] | None = None,
    ) -> None:
        session.add(
            EventRow(
                at=self._now(), kind=kind, case_id=case_id, annotator=annotator, details=dict(details or {})
            )
        )

    @contextmanager
    def _transaction(self) -> Iterator[Session]:
        with Session(self._engine, expire_on_commit=False) as session, session.begin():
            yield session


def _first(order: Sequence[str], fits: Callable[[str], bool]) -> tuple[int, str] | None:
    """Rank and id of the first case that fits."""
    return next(((rank, id) for rank, id in enumerate(order, start=1) if fits(id)), None)


def _utc(moment: datetime) -> datetime:
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)  # SQLite keeps no time zone


def _make_sqlite_safe(engine: Engine) -> None:
    """WAL, so that readers never wait; a transaction takes the write lock when it begins, not later."""

    @event.listens_for(engine, "connect")
    def prepare(connection: Any, _: Any) -> None:
        connection.isolation_level = None  # SQLAlchemy begins transactions itself, below
        cursor = connection.cursor()
        for pragma in ("journal_mode=WAL", "synchronous=NORMAL", "busy_timeout=30000", "foreign_keys=ON"):
            cursor.execute(f"PRAGMA {pragma}")
        cursor.close()

    @event.listens_for(engine, "begin")
    def begin(connection: Any) -> None:
        connection.exec_driver_sql("BEGIN IMMEDIATE")
