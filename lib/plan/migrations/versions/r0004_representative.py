"""The order `paced` is called `representative`."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"

_BEFORE, _AFTER = "paced", "representative"
_BY_STRATEGY = ("coverage", "plateau")  # parts of a plan's `about` with an entry for each strategy


def upgrade() -> None:
    """Rename the order in every plan; events keep the name that they were written with."""
    rank = sa.table("rank", sa.column("strategy"))
    plan = sa.table("plan", sa.column("id"), sa.column("about", sa.JSON))
    op.execute(rank.update().where(rank.c.strategy == _BEFORE).values(strategy=_AFTER))
    connection = op.get_bind()
    for id, about in connection.execute(sa.select(plan.c.id, plan.c.about)).all():
        renamed = {
            key: {_AFTER if name == _BEFORE else name: value for name, value in part.items()}
            if key in _BY_STRATEGY and isinstance(part, dict)
            else part
            for key, part in about.items()
        }
        if renamed != about:
            connection.execute(plan.update().where(plan.c.id == id).values(about=renamed))
