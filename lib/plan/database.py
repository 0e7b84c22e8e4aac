"""Database of the plan: SQLite beside the studies, or PostgreSQL for several servers."""

from __future__ import annotations

import logging
import sqlite3
import time
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event, func, make_url, select, text
from sqlalchemy.engine import ExceptionContext
from sqlalchemy.exc import DatabaseError, InternalError, OperationalError

from lib.plan.schema import bring_up_to_date
from lib.runtime.own_files import Damaged, NoRoom, Unavailable

logger = logging.getLogger(__name__)
BUSY_S = 30  # longest wait for another transaction on SQLite
CONNECT_S = 5  # longest wait for the PostgreSQL server; clients get no answer meanwhile
_DAMAGE = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
_UNREACHABLE = "the plan's database must answer; it does not. Try again later; the server's log says more."
_DAMAGED = (
    "the plan's database must be whole; it is damaged. Restore plan.sqlite from a backup. Move it away if "
    "there is none, with plan.sqlite-wal and plan.sqlite-shm: the pool is then scored again, and the record "
    "of offered cases is lost."
)
_FULL = (
    "the disk of the plan's database must have room; it has none left. Nothing was stored. Make room there."
)
IDLE_S = 60  # a transaction that is idle for so long belongs to a server that lost its connection


def open_database(url: str) -> Engine:
    """Open a database and bring its tables up to this release.

    Use the engine itself for reading and `writing(engine)` for writing.

    Args:
        url: `sqlite:///…` or `postgresql://…`.

    Raises:
        ValueError: If it is another kind of database, or one of a later release.
        Unavailable: If the database cannot be opened or is damaged; later uses of the engine raise it too.
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
        arguments = {"connect_timeout": CONNECT_S}
        engine = create_engine(url, connect_args=arguments, pool_pre_ping=True)  # the server may restart
        _make_postgresql_safe(engine)
    _translate_errors(engine)
    bring_up_to_date(engine)
    return engine


def writing(engine: Engine) -> Engine:
    """Engine for transactions that write."""
    return engine.execution_options(begin="IMMEDIATE")


def one_at_a_time(connection: Connection) -> None:
    """Wait until no other transaction leases a case; on SQLite, writing transactions always queue."""
    if connection.dialect.name == "postgresql":
        table = text("CAST(CAST(CAST('lease' AS regclass) AS oid) AS bigint)")  # one lock a schema
        connection.execute(select(func.pg_advisory_xact_lock(table)))


def _translate_errors(engine: Engine) -> None:
    """Turn errors of a lost or damaged database into one sentence for the client; the log has the details."""

    @event.listens_for(engine, "handle_error")
    def say(context: ExceptionContext) -> None:
        if type(context.sqlalchemy_exception) not in (OperationalError, InternalError, DatabaseError):
            return
        if _is_statement_error(context.original_exception):
            return
        logger.error("the plan's database does not answer: %s", context.original_exception)  # it names hosts
        code = getattr(context.original_exception, "sqlite_errorcode", 0) & 0xFF
        if code == sqlite3.SQLITE_FULL:
            raise NoRoom(_FULL)
        raise Damaged(_DAMAGED) if code in _DAMAGE else Unavailable(_UNREACHABLE)


def _is_statement_error(error: BaseException) -> bool:
    """Whether SQLite rejects the statement itself; a missing table means that the file was replaced."""
    code = getattr(error, "sqlite_errorcode", None)
    return code == sqlite3.SQLITE_ERROR and "no such table" not in str(error)


def _make_sqlite_safe(engine: Engine) -> None:
    """Use WAL, so that readers never wait, and let writing transactions take the lock when they begin."""

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
    """Switch to write-ahead logging; retry here, because SQLite does not wait for a writer to do it."""
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
    """Limit idle transactions, so that a server that lost its power does not block leasing for long."""

    @event.listens_for(engine, "connect")
    def prepare(connection: Any, _: Any) -> None:
        connection.execute(f"SET idle_in_transaction_session_timeout = '{IDLE_S}s'")
        connection.commit()
