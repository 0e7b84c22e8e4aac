"""The plan in its database: written once a scoring, then read and leased from at each Next Sample."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from sqlalchemy import bindparam, delete, func, insert, select
from sqlalchemy.orm import Session

from lib.plan.budget import Budget
from lib.plan.database import open_database, writing
from lib.plan.history import Event, EventLog
from lib.plan.jobs import progress, report
from lib.plan.label_index import LabelIndex
from lib.plan.leases import (
    Assignments,
    LeaseRequest,
    PoolState,
    lease_first,
    offered_at,
    record_event,
)
from lib.plan.neighbours import Neighbourhood
from lib.plan.orm import Base, LeaseRow, PairScoreRow, PlanRow, ProgressRow, RankRow, ScoreRow, SetAsideRow
from lib.plan.scores import CaseScore, PairScore, check_json, pair_rows, score_rows, unpack_features

__all__ = ["CaseScore", "Event", "Offer", "PairScore", "PlanStore", "PoolState"]

KEPT_PLANS = 10  # older plans are deleted when a new one is written

# Built once: building a statement takes longer than SQLite needs to answer it.
_NEWEST = select(func.max(PlanRow.id))
_SCORE_COLUMNS = (
    ScoreRow.difference,
    ScoreRow.percentile,
    ScoreRow.details,
    ScoreRow.difference_nats,
    ScoreRow.cluster,
)
_SCORE = select(*_SCORE_COLUMNS).where(
    ScoreRow.plan_id == _NEWEST.scalar_subquery(), ScoreRow.case_id == bindparam("case")
)


@dataclass(frozen=True)
class Offer:
    """A case offered to an annotator, with its rank and score.

    Attributes:
        case_id: Id of the case.
        rank: Rank of the case in the order, from 1.
        of: Number of cases in the order.
        score: Scores of the case in the plan.
        until: End of the lease.
        spent: Number of cases labelled or leased, including this one.
        held_since: Time of the earlier offer to the same annotator, where no other case was left.
        passed_over: Id of the case that the annotator held and did not label; empty if there is none.
    """

    case_id: str
    rank: int
    of: int
    score: CaseScore
    until: datetime
    spent: int
    held_since: datetime | None = None
    passed_over: str = ""


class PlanStore:
    """Plans, scores, leases and events, in SQLite or PostgreSQL."""

    def __init__(self, url: str, *, now: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        """Open the database and create its tables, or upgrade those of an earlier release.

        Args:
            url: `sqlite:///…` or `postgresql://…`.
            now: Clock.

        Raises:
            ValueError: If it is another kind of database, or was written by a later release.
        """
        self._engine = open_database(url)
        self._writing = writing(self._engine)
        self._now = now
        self.labels = LabelIndex(self._engine)
        self.events = EventLog(self._engine, now)
        self._plan: PlanRow | None = None
        self._orders: dict[tuple[int, str], tuple[str, ...]] = {}
        self._neighbourhood: tuple[int, Neighbourhood] | None = None

    @classmethod
    def beside(cls, folder: Path) -> PlanStore:
        """Open the SQLite database of a work folder."""
        folder.mkdir(parents=True, exist_ok=True)
        return cls(f"sqlite:///{folder / 'plan.sqlite'}")

    def close(self) -> None:
        """Close the database."""
        self._engine.dispose()

    def write(
        self,
        *,
        content: str,
        seed: int,
        scores: Mapping[str, CaseScore],
        orders: Mapping[str, Sequence[str]],
        about: Mapping[str, Any],
        pair_scores: Iterable[PairScore] = (),
        budget: Budget | None = None,
    ) -> int:
        """Store a whole plan in one transaction: a reader sees the old plan or the new one.

        Only the last `KEPT_PLANS` plans and their scores are kept; leases and events are all kept.

        Args:
            content: Hash of the cases' content and of the settings.
            seed: Seed of the scoring.
            scores: Scores by case id.
            orders: Case ids by strategy name, best first.
            about: Settings, software, gates, warnings, plateaus; JSON with finite numbers.
            pair_scores: Scores of each case, pair and training.
            budget: Stop rule of the orders.

        Returns:
            Version of the plan.

        Raises:
            ValueError: If a score is not finite, or a value is not JSON.
        """
        check_json("about", about)
        ranks = [
            {"strategy": strategy, "rank": rank, "case_id": id}
            for strategy, order in orders.items()
            for rank, id in enumerate(order, start=1)
        ]
        tables = {"score": score_rows(scores), "pair_score": pair_rows(pair_scores), "rank": ranks}
        plan = {
            "created": self._now(),
            "content": content,
            "seed": seed,
            "budget": None if budget is None else str(budget),
            "about": dict(about),
        }
        with self._writing.begin() as connection:
            version = int(connection.execute(insert(PlanRow).returning(PlanRow.id), plan).scalar_one())
            for table, rows in tables.items():
                if rows:
                    connection.execute(insert(Base.metadata.tables[table]).values(plan_id=version), rows)
            kept = select(PlanRow.id).order_by(PlanRow.id.desc()).limit(KEPT_PLANS).scalar_subquery()
            connection.execute(delete(PlanRow).where(PlanRow.id.not_in(kept)))
            record_event(connection, self._now(), "planned", details={"plan": version, "cases": len(scores)})
        return version

    def current(self) -> PlanRow | None:
        """The newest plan; callers must not modify it."""
        version = self._version()
        if version is not None and (self._plan is None or self._plan.id != version):
            with Session(self._engine) as session:
                self._plan = session.get_one(PlanRow, version)
        return self._plan

    def order(self, strategy: str, *, plan: int | None = None) -> tuple[str, ...]:
        """Case ids of a plan (by default the newest), best first; empty if it lacks the strategy."""
        version = plan if plan is not None else self._version()
        if version is None:
            return ()
        if (version, strategy) not in self._orders:
            ours = (RankRow.plan_id == version, RankRow.strategy == strategy)
            with self._engine.connect() as connection:
                order = tuple(connection.scalars(select(RankRow.case_id).where(*ours).order_by(RankRow.rank)))
            self._orders = {key: kept for key, kept in self._orders.items() if key[0] == version}
            self._orders[version, strategy] = order
        return self._orders[version, strategy]

    def lease_next(
        self,
        order: Sequence[str],
        *,
        annotator: str,
        read_pool: Callable[[], PoolState],
        lease: timedelta,
        stop: int | None = None,
        about: Mapping[str, Any] | None = None,
    ) -> Offer | None:
        """Lease the first free case of an order, in one transaction; see `lease_first`.

        Args:
            order: Case ids, best first.
            annotator: Name of the annotator.
            read_pool: Returns the current state of the pool.
            lease: Duration of the lease.
            stop: Number of cases, labelled or leased, after which no more are offered.
            about: Details recorded with the event.

        Returns:
            The offer, or None when no case is left for this annotator.
        """
        request = LeaseRequest(annotator, order, lease, stop, about or {})
        with self._writing.begin() as connection:
            given = lease_first(connection, request, read_pool, self._now())
            if given is None:
                return None
            row = connection.execute(_SCORE, {"case": given.case_id}).one_or_none()
        score = CaseScore(*row) if row else CaseScore()
        return Offer(
            given.case_id, given.rank, len(order), score, given.until, given.spent, given.held_since,
            given.passed_over,
        )  # fmt: skip

    def assignments(self, annotator: str) -> Assignments:
        """Cases that annotators hold now, and the cases that this annotator has set aside."""
        with self._engine.connect() as connection:
            return Assignments.read(connection, annotator, self._now())

    def release(
        self,
        case_id: str,
        *,
        annotator: str | None,
        kind: str = "labelled",
        details: Mapping[str, Any] | None = None,
    ) -> None:
        """End the lease of a case and record the event that ended it."""
        with self._writing.begin() as connection:
            connection.execute(delete(LeaseRow).where(LeaseRow.case_id == case_id))
            record_event(connection, self._now(), kind, case_id, annotator, details)

    def give_back(self, case_id: str, *, annotator: str) -> bool:
        """End the lease of a case that this annotator holds; return whether the annotator held it."""
        with self._writing.begin() as connection:
            ours = (LeaseRow.case_id == case_id, LeaseRow.annotator == annotator)
            if not connection.execute(delete(LeaseRow).where(*ours)).rowcount:
                return False
            aside = (SetAsideRow.case_id == case_id, SetAsideRow.annotator == annotator)
            connection.execute(delete(SetAsideRow).where(*aside))
            record_event(connection, self._now(), "given back", case_id, annotator)
        return True

    def seconds_held(self, case_id: str, annotator: str) -> float | None:
        """Seconds since a case was offered to the annotator who holds it; None if somebody else holds it."""
        with self._engine.connect() as connection:
            at = offered_at(connection, case_id, annotator)
        return None if at is None else (self._now() - at).total_seconds()

    def scores(self, *, plan: int | None = None) -> dict[str, CaseScore]:
        """Scores of each case in a plan, by default the newest."""
        version = plan if plan is not None else self._version()
        rows = select(ScoreRow.case_id, *_SCORE_COLUMNS, ScoreRow.features).where(ScoreRow.plan_id == version)
        with self._engine.connect() as connection:
            return {
                row.case_id: CaseScore(
                    row.difference,
                    row.percentile,
                    row.details,
                    row.difference_nats,
                    row.cluster,
                    None if row.features is None else unpack_features(row.features),
                )
                for row in connection.execute(rows)
            }

    def score(self, case_id: str) -> CaseScore:
        """Scores of one case in the newest plan."""
        with self._engine.connect() as connection:
            row = connection.execute(_SCORE, {"case": case_id}).one_or_none()
        return CaseScore(*row) if row else CaseScore()

    def history(self, case_id: str, *, limit: int = 100) -> list[Event]:
        """Events of a case and of the whole pool, newest first."""
        return self.events.of_case(case_id, limit=limit)

    def pair_scores(self, case_id: str) -> list[PairScore]:
        """Scores of a case's pairs in the newest plan, one a training."""
        known = (PairScoreRow.gaussian_nats, PairScoreRow.top_nats, PairScoreRow.critic_nats)
        rows = (
            select(PairScoreRow.case_id, PairScoreRow.pair, PairScoreRow.seed, *known)
            .where(PairScoreRow.plan_id == _NEWEST.scalar_subquery(), PairScoreRow.case_id == case_id)
            .order_by(PairScoreRow.pair, PairScoreRow.seed)
        )
        with self._engine.connect() as connection:
            return [PairScore(*row) for row in connection.execute(rows)]

    def nats_by_seed(self, *, plan: int) -> dict[str, dict[int, dict[str, float]]]:
        """-PMI in nats by the Gaussian head: pair -> seed of the training -> case id."""
        rows = select(
            PairScoreRow.pair, PairScoreRow.seed, PairScoreRow.case_id, PairScoreRow.gaussian_nats
        ).where(PairScoreRow.plan_id == plan)
        found: dict[str, dict[int, dict[str, float]]] = {}
        with self._engine.connect() as connection:
            for pair, seed, case_id, nats in connection.execute(rows):
                if nats is not None:
                    found.setdefault(pair, {}).setdefault(seed, {})[case_id] = -nats
        return found

    def nearest(self, case_id: str, among: Set[str]) -> tuple[str, float] | None:
        """Nearest case among some, and its distance in the newest plan; None if features are missing."""
        version = self._version() if among else None
        if version is None:
            return None
        if self._neighbourhood is None or self._neighbourhood[0] != version:
            rows = select(ScoreRow.case_id, ScoreRow.features).where(ScoreRow.plan_id == version)
            with self._engine.connect() as connection:
                found = {id: features for id, features in connection.execute(rows) if features}
            self._neighbourhood = (version, Neighbourhood(found))
        return self._neighbourhood[1].nearest(case_id, among)

    def report(
        self, job: str, *, state: str, done: float, message: str, seconds_left: float | None = None
    ) -> None:
        """Record the progress of a job; the time left is None where it is not known."""
        row = ProgressRow(job=job, state=state, done=done, message=message, seconds_left=seconds_left)
        with Session(self._writing) as session, session.begin():
            report(session, row, self._now())

    def progress(self, job: str) -> dict[str, Any]:
        """State, share done, message and seconds left of a job; empty if it never ran."""
        with self._engine.connect() as connection:
            return progress(connection, job, self._now())

    def _version(self) -> int | None:
        with self._engine.connect() as connection:
            return connection.scalar(_NEWEST)
