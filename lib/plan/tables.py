"""Tables of the plan."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import JSON, DateTime, ForeignKey, Index, String
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column


class Base(DeclarativeBase):
    """Base of the tables."""


class PlanRow(Base):
    """One scoring of a pool."""

    __tablename__ = "plan"
    id: Mapped[int] = mapped_column(primary_key=True)
    created: Mapped[datetime] = mapped_column(DateTime(timezone=True))
    content: Mapped[str] = mapped_column(String(64))  # hash of the cases' content and of the settings
    seed: Mapped[int]
    about: Mapped[dict[str, Any]] = mapped_column(JSON)  # gates, warnings, software


class ScoreRow(Base):
    """Modality difference of one case in one plan."""

    __tablename__ = "score"
    plan_id: Mapped[int] = mapped_column(ForeignKey("plan.id", ondelete="CASCADE"), primary_key=True)
    case_id: Mapped[str] = mapped_column(String(160), primary_key=True)
    difference: Mapped[float | None]  # standardised; None where the pool could not be scored
    percentile: Mapped[float | None]
    details: Mapped[dict[str, Any]] = mapped_column(
        JSON
    )  # nats by pair, the pair that differs most, warnings


class RankRow(Base):
    """A case's place in one strategy's order."""

    __tablename__ = "rank"
    plan_id: Mapped[int] = mapped_column(ForeignKey("plan.id", ondelete="CASCADE"), primary_key=True)
    strategy: Mapped[str] = mapped_column(String(40), primary_key=True)
    rank: Mapped[int] = mapped_column(primary_key=True)  # 1 is labelled first
    case_id: Mapped[str] = mapped_column(String(160))


class LeaseRow(Base):
    """A case in one annotator's hands; the primary key keeps it out of every other's."""

    __tablename__ = "lease"
    case_id: Mapped[str] = mapped_column(String(160), primary_key=True)
    annotator: Mapped[str] = mapped_column(String(160), index=True)
    until: Mapped[datetime] = mapped_column(DateTime(timezone=True))


class SetAsideRow(Base):
    """A case that an annotator passed over."""

    __tablename__ = "set_aside"
    annotator: Mapped[str] = mapped_column(String(160), primary_key=True)
    case_id: Mapped[str] = mapped_column(String(160), primary_key=True)


class EventRow(Base):
    """What happened, appended and never changed."""

    __tablename__ = "event"
    __table_args__ = (Index("event_by_case", "case_id"),)
    id: Mapped[int] = mapped_column(primary_key=True)
    at: Mapped[datetime] = mapped_column(DateTime(timezone=True))
    kind: Mapped[str] = mapped_column(String(40))  # planned, offered, set aside, labelled
    case_id: Mapped[str | None] = mapped_column(String(160))
    annotator: Mapped[str | None] = mapped_column(String(160))
    details: Mapped[dict[str, Any]] = mapped_column(JSON)


class ProgressRow(Base):
    """How far a running job is; one row a job, rewritten."""

    __tablename__ = "progress"
    job: Mapped[str] = mapped_column(String(40), primary_key=True)
    state: Mapped[str] = mapped_column(String(20))  # running, done, failed
    done: Mapped[float]  # 0 to 1
    message: Mapped[str]
    started: Mapped[datetime] = mapped_column(DateTime(timezone=True))
    at: Mapped[datetime] = mapped_column(DateTime(timezone=True))
