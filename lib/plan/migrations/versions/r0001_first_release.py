"""Plans, ranks, leases, events: as the release without migrations made them."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Make the tables."""
    moment = sa.DateTime(timezone=True)
    op.create_table(
        "plan",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("created", moment, nullable=False),
        sa.Column("content", sa.String(64), nullable=False),
        sa.Column("seed", sa.Integer, nullable=False),
        sa.Column("about", sa.JSON, nullable=False),
    )
    op.create_table(
        "score",
        sa.Column("plan_id", sa.Integer, sa.ForeignKey("plan.id", ondelete="CASCADE"), primary_key=True),
        sa.Column("case_id", sa.String(160), primary_key=True),
        sa.Column("difference", sa.Double),
        sa.Column("percentile", sa.Double),
        sa.Column("details", sa.JSON, nullable=False),
    )
    op.create_table(
        "rank",
        sa.Column("plan_id", sa.Integer, sa.ForeignKey("plan.id", ondelete="CASCADE"), primary_key=True),
        sa.Column("strategy", sa.String(40), primary_key=True),
        sa.Column("rank", sa.Integer, primary_key=True),
        sa.Column("case_id", sa.String(160), nullable=False),
    )
    op.create_table(
        "lease",
        sa.Column("case_id", sa.String(160), primary_key=True),
        sa.Column("annotator", sa.String(160), nullable=False, index=True),
        sa.Column("until", moment, nullable=False),
    )
    op.create_table(
        "set_aside",
        sa.Column("annotator", sa.String(160), primary_key=True),
        sa.Column("case_id", sa.String(160), primary_key=True),
    )
    op.create_table(
        "event",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("at", moment, nullable=False),
        sa.Column("kind", sa.String(40), nullable=False),
        sa.Column("case_id", sa.String(160)),
        sa.Column("annotator", sa.String(160)),
        sa.Column("details", sa.JSON, nullable=False),
    )
    op.create_index("event_by_case", "event", ["case_id"])
    op.create_table(
        "progress",
        sa.Column("job", sa.String(40), primary_key=True),
        sa.Column("state", sa.String(20), nullable=False),
        sa.Column("done", sa.Double, nullable=False),
        sa.Column("message", sa.String, nullable=False),
        sa.Column("started", moment, nullable=False),
        sa.Column("at", moment, nullable=False),
    )
