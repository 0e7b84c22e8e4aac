"""Tables of the plan.

A change of the tables needs a new script in `lib/plan/migrations/versions`, which updates existing databases.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import JSON, DateTime, Dialect, ForeignKey, Index, LargeBinary, String, UniqueConstraint
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column
from sqlalchemy.types import TypeDecorator


class Moment(TypeDecorator[datetime]):
    """Time with its zone, stored in UTC: SQLite stores no zone, and servers may run in different zones."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Convert to UTC.

        Raises:
            ValueError: If the time has no zone.
        """
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError(f"a time must have a zone; got {value}. Use datetime.now(UTC).")
        return value.astimezone(UTC)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Return the time in UTC."""
        if value is None:
            return None
        return value.astimezone(UTC) if value.tzinfo else value.replace(tzinfo=UTC)


class Base(DeclarativeBase):
    """Base class of the tables."""


class PlanRow(Base):
    """One scoring of a pool."""

    __tablename__ = "plan"
    id: Mapped[int] = mapped_column(primary_key=True)
    created: Mapped[datetime] = mapped_column(Moment)
    content: Mapped[str] = mapped_column(String(64))  # hash of the cases' content and of the settings
    seed: Mapped[int]
    budget: Mapped[str | None] = mapped_column(String(40))  # stop rule of the orders
    about: Mapped[dict[str, Any]] = mapped_column(JSON)  # settings, software, gates, warnings, plateaus


class ScoreRow(Base):
    """Scores of one case in one plan."""

    __tablename__ = "score"
    plan_id: Mapped[int] = mapped_column(ForeignKey("plan.id", ondelete="CASCADE"), primary_key=True)
    case_id: Mapped[str] = mapped_column(String(160), primary_key=True)
    difference: Mapped[float | None]  # standardised; None where the pool could not be scored
    percentile: Mapped[float | None]
    details: Mapped[dict[str, Any]] = mapped_column(JSON)  # by pair, the pair that differs most
    difference_nats: Mapped[float | None]  # mean -PMI over the pairs
    cluster: Mapped[int | None]
    features: Mapped[bytes | None] = mapped_column(LargeBinary)  # (F,) float16, little-endian


class PairScoreRow(Base):
    """Pointwise mutual information of one pair of a case's modalities, by one training."""

    __tablename__ = "pair_score"
    plan_id: Mapped[int] = mapped_column(ForeignKey("plan.id", ondelete="CASCADE"), primary_key=True)
    case_id: Mapped[str] = mapped_column(String(160), primary_key=True)
    pair: Mapped[str] = mapped_column(String(160), primary_key=True)
    seed: Mapped[int] = mapped_column(primary_key=True)
    gaussian_nats: Mapped[float | None]
    top_nats: Mapped[float | None]  # mean over the tenth of the patches that differ most
    critic_nats: Mapped[float | None]


class RankRow(Base):
    """Rank of a case in the order of one strategy."""

    __tablename__ = "rank"
    plan_id: Mapped[int] = mapped_column(ForeignKey("plan.id", ondelete="CASCADE"), primary_key=True)
    strategy: Mapped[str] = mapped_column(String(40), primary_key=True)
    rank: Mapped[int] = mapped_column(primary_key=True)  # 1 is labelled first
    case_id: Mapped[str] = mapped_column(String(160))


class LeaseRow(Base):
    """Lease of a case to one annotator; the primary key allows one lease a case."""

    __tablename__ = "lease"
    case_id: Mapped[str] = mapped_column(String(160), primary_key=True)
    annotator: Mapped[str] = mapped_column(String(160), index=True)
    until: Mapped[datetime] = mapped_column(Moment)


class SetAsideRow(Base):
    """A case that an annotator set aside."""

    __tablename__ = "set_aside"
    annotator: Mapped[str] = mapped_column(String(160), primary_key=True)
    case_id: Mapped[str] = mapped_column(String(160), primary_key=True)


class LabelVersionRow(Base):
    """Record of one version of a label; the documents beside the label files hold the same."""

    __tablename__ = "label_version"
    __table_args__ = (UniqueConstraint("case_id", "tag", "number"), {"sqlite_autoincrement": True})
    id: Mapped[int] = mapped_column(primary_key=True)  # only grows, also after rows were deleted
    case_id: Mapped[str] = mapped_column(String(160))
    tag: Mapped[str] = mapped_column(String(64))
    number: Mapped[int]  # 1 is the first version of a case and tag
    record: Mapped[dict[str, Any]] = mapped_column(JSON)


class EventRow(Base):
    """Recorded event; events are only appended, and a trigger of the database refuses changes."""

    __tablename__ = "event"
    __table_args__ = (Index("event_by_case", "case_id"), Index("event_by_annotator", "annotator", "kind"))
    id: Mapped[int] = mapped_column(primary_key=True)
    at: Mapped[datetime] = mapped_column(Moment)
    kind: Mapped[str] = mapped_column(String(40))  # see lib.plan.history.Event
    case_id: Mapped[str | None] = mapped_column(String(160))
    annotator: Mapped[str | None] = mapped_column(String(160))
    details: Mapped[dict[str, Any]] = mapped_column(JSON)


class ProgressRow(Base):
    """Progress of a job; one row a job, overwritten at each report."""

    __tablename__ = "progress"
    job: Mapped[str] = mapped_column(String(40), primary_key=True)
    state: Mapped[str] = mapped_column(String(20))  # running, done, failed
    done: Mapped[float]  # 0 to 1
    message: Mapped[str]
    at: Mapped[datetime] = mapped_column(Moment)
    seconds_left: Mapped[float | None]
