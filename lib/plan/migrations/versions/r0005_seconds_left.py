"""The process that does a job says how long it will take; when the job began is not asked for any more."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    """Exchange the columns; a job that runs meanwhile has no time left until its next report."""
    with op.batch_alter_table("progress") as progress:
        progress.add_column(sa.Column("seconds_left", sa.Double))
        progress.drop_column("started")
