"""Versions of the labels: every submission stays, with who, when and from what."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Add the table; nothing that was there is touched."""
    op.create_table(
        "label_version",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("case_id", sa.String(160), nullable=False),
        sa.Column("tag", sa.String(64), nullable=False),
        sa.Column("number", sa.Integer, nullable=False),
        sa.Column("record", sa.JSON, nullable=False),
        sa.UniqueConstraint("case_id", "tag", "number"),
        sqlite_autoincrement=True,
    )
    op.create_index("event_by_annotator", "event", ["annotator", "kind"])
