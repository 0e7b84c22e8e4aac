"""Upgrade of the database's tables to this release."""

from __future__ import annotations

from pathlib import Path

from sqlalchemy import Connection, Engine, func, inspect, select, text

REVISION = "0005"  # revision of lib/plan/orm.py
FIRST_REVISION = "0001"  # tables of the release without migrations
VERSION_TABLE = "plan_revision"  # alembic's default name may clash with another program in a shared database


def bring_up_to_date(engine: Engine) -> None:
    """Create the tables, or upgrade those of an earlier release; return at once if they are up to date.

    The upgrade is one transaction. If several processes open a database, one of them upgrades it.

    Raises:
        ValueError: If the database was written by a later release.
    """
    with engine.connect() as connection:
        if _revision(connection) == REVISION:
            return
    with engine.execution_options(begin="IMMEDIATE").begin() as connection:
        if connection.dialect.name == "postgresql":
            key = func.hashtext(func.current_schema() + "." + VERSION_TABLE)
            connection.execute(select(func.pg_advisory_xact_lock(key)))
        found = _revision(connection)  # read again: another process may have upgraded it meanwhile
        if found != REVISION:
            _upgrade(connection, found)


def _revision(connection: Connection) -> str | None:
    """Revision of a database; None for an empty one."""
    tables = inspect(connection)
    if tables.has_table(VERSION_TABLE):
        found: str | None = connection.scalar(text(f"SELECT version_num FROM {VERSION_TABLE}"))
        return found
    return FIRST_REVISION if tables.has_table("plan") else None


def _upgrade(connection: Connection, found: str | None) -> None:
    from alembic import command  # slow to import, and most databases are up to date
    from alembic.config import Config
    from alembic.script import ScriptDirectory

    config = Config()
    scripts = Path(__file__).parent / "migrations"
    config.set_main_option("script_location", str(scripts).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    config.set_main_option("version_table", VERSION_TABLE)
    config.attributes["connection"] = connection
    known = {script.revision for script in ScriptDirectory.from_config(config).walk_revisions()}
    if found is not None and found not in known:
        address = connection.engine.url.render_as_string(hide_password=True)
        raise ValueError(
            f"database_url must be a database of this release (revision {REVISION}) or an earlier one; "
            f"{address} has revision {found} of a later release. Update this program, or set "
            "--conf database_url."
        )
    if found == FIRST_REVISION and not inspect(connection).has_table(VERSION_TABLE):
        command.stamp(config, FIRST_REVISION)
    command.upgrade(config, REVISION)
