"""Scores by pair and seed, what a case lies near to, the stop rule; events can no longer be changed."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"

_REFUSAL = "events are appended, never changed"
_SQLITE = """
CREATE TRIGGER event_keeps_on_{verb} BEFORE {verb} ON event
BEGIN SELECT RAISE(ABORT, '{refusal}'); END
"""
_POSTGRESQL = (
    """
CREATE FUNCTION event_keeps() RETURNS trigger LANGUAGE plpgsql AS
$$ BEGIN RAISE EXCEPTION '{refusal}'; END $$
""",
    """
CREATE TRIGGER event_keeps BEFORE UPDATE OR DELETE OR TRUNCATE ON event
FOR EACH STATEMENT EXECUTE FUNCTION event_keeps()
""",
)


def upgrade() -> None:
    """Add what is new; nothing that was there is touched."""
    op.create_table(
        "pair_score",
        sa.Column("plan_id", sa.Integer, sa.ForeignKey("plan.id", ondelete="CASCADE"), primary_key=True),
        sa.Column("case_id", sa.String(160), primary_key=True),
        sa.Column("pair", sa.String(160), primary_key=True),
        sa.Column("seed", sa.Integer, primary_key=True),
        sa.Column("gaussian_nats", sa.Double),
        sa.Column("top_nats", sa.Double),
        sa.Column("critic_nats", sa.Double),
    )
    op.add_column("score", sa.Column("difference_nats", sa.Double))
    op.add_column("score", sa.Column("cluster", sa.Integer))
    op.add_column("score", sa.Column("features", sa.LargeBinary))
    op.add_column("plan", sa.Column("budget", sa.String(40)))
    if op.get_bind().dialect.name == "sqlite":
        for verb in ("UPDATE", "DELETE"):
            op.execute(_SQLITE.format(verb=verb, refusal=_REFUSAL))
    else:
        for statement in _POSTGRESQL:
            op.execute(statement.format(refusal=_REFUSAL))
