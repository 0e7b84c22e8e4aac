"""The database of the plan: SQLite beside the studies, or PostgreSQL for several servers."""

from __future__ import annotations

import logging
import sqlite3
import time
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event, func, make_url, select, text
from sqlalchemy.engine import ExceptionContext
from sqlalchemy.exc import DatabaseError, InternalError, OperationalError

from lib.plan.schema import bring_up_to_date
from lib.runtime.own_files import Damaged, Unavailable

logger = logging.getLogger(__name__)
BUSY_S = 30  # how long one waits for another's transaction on SQLite
REACHED_S = 5  # how long one waits for PostgreSQL's server: meanwhile no client is answered
_SILENT = "the plan's database must answer; it does not. Try again later; the server's log says more."
_DAMAGED = (
    "the plan's database must be whole; it is damaged. Restore plan.sqlite from a backup. Move it away if "
    "there is none: the pool is scored again, and who was offered what is lost."
)
IDLE_S = 60  # a transaction in which nothing happens for so long belongs to a server that is cut off


def open_database(url: str) -> Engine:
    """A database with the tables of this release.

    Sessions of the engine read; those of `writing(engine)` write.

    Args:
        url: `sqlite:///…` or `postgresql://…`.

    Raises:
        ValueError: If it is another kind of database, or a later release's.
        Unavailable: If it cannot be opened or is damaged; so does whatever uses it later.
    """
    kind = make_url(url).get_backend_name()
    if kind not in ("sqlite", "postgresql"):
        raise ValueError(
            f"database_url must be sqlite:///FILE or postgresql://USER@HOST/NAME; got {kind}. "
            "Set --conf database_url."
        )
    if kind == "sqlite":
        engine = create_engine(url)
        _make_sqlite_safe(engine)
    else:
        arguments = {"connect_timeout": REACHED_S}
        engine = create_engine(url, connect_args=arguments, pool_pre_ping=True)  # it may have been restarted
        _make_postgresql_safe(engine)
    _say_what_fails(engine)
    bring_up_to_date(engine)
    return engine


def writing(engine: Engine) -> Engine:
    """The engine for transactions that write."""
    return engine.execution_options(begin="IMMEDIATE")


def one_at_a_time(connection: Connection) -> None:
    """Wait until no other transaction leases; SQLite's transactions that write wait for each other anyway."""
    if connection.dialect.name == "postgresql":
        table = text("CAST(CAST(CAST('lease' AS regclass) AS oid) AS bigint)")  # a lock for each schema
        connection.execute(select(func.pg_advisory_xact_lock(table)))


def _say_what_fails(engine: Engine) -> None:
    """A database that is gone or damaged is one sentence for whoever asks; the log has the rest."""

    @event.listens_for(engine, "handle_error")
    def say(context: ExceptionContext) -> None:
        if type(context.sqlalchemy_exception) not in (OperationalError, InternalError, DatabaseError):
            return
        if _is_statement(context.original_exception):
            return
        logger.error("the plan's database does not answer: %s", context.original_exception)  # names hosts
        raise Damaged(_DAMAGED) if _is_damaged(context.original_exception) else Unavailable(_SILENT)


def _is_statement(error: BaseException) -> bool:
    """Whether SQLite refuses what a statement says; without our tables it is another file than was opened."""
    code = getattr(error, "sqlite_errorcode", None)
    return code == sqlite3.SQLITE_ERROR and "no such table" not in str(error)


def _is_damaged(error: BaseException) -> bool:
    code = getattr(error, "sqlite_errorcode", None)
    return code is not None and code & 0xFF in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)


def _make_sqlite_safe(engine: Engine) -> None:
    """WAL, so that readers never wait; a transaction that writes takes the lock when it begins, not later."""

    @event.listens_for(engine, "connect")
    def prepare(connection: Any, _: Any) -> None:
        connection.isolation_level = None  # SQLAlchemy begins transactions itself, below
        cursor = connection.cursor()
        for pragma in (f"busy_timeout={1000 * BUSY_S}", "synchronous=NORMAL", "foreign_keys=ON"):
            cursor.execute(f"PRAGMA {pragma}")
        _switch_to_wal(cursor)
        cursor.close()

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        connection.exec_driver_sql(f"BEGIN {connection.get_execution_options().get('begin', 'DEFERRED')}")


def _switch_to_wal(cursor: sqlite3.Cursor) -> None:
    """Write-ahead logging from now on; to change a file to it, SQLite itself does not wait for a writer."""
    patience = time.monotonic() + BUSY_S
    while True:
        try:
            cursor.execute("PRAGMA journal_mode=WAL")
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() > patience:
                raise
            time.sleep(0.01)
        else:
            return


def _make_postgresql_safe(engine: Engine) -> None:
    """A server that lost its power keeps nobody from leasing for long."""

    @event.listens_for(engine, "connect")
    def prepare(connection: Any, _: Any) -> None:
        connection.execute(f"SET idle_in_transaction_session_timeout = '{IDLE_S}s'")
        connection.commit()
