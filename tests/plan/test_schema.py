import sqlite3
import time
from concurrent.futures import ProcessPoolExecutor
from datetime import UTC, datetime, timedelta
from multiprocessing import get_context
from pathlib import Path
from threading import Timer

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Engine, create_engine, inspect, text
from sqlalchemy.exc import DBAPIError

from lib.plan.leases import PoolState
from lib.plan.orm import Base
from lib.plan.schema import REVISION, VERSION_TABLE
from lib.plan.store import CaseScore, PlanStore

DATA = Path(__file__).parent / "data"
NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)
ROWS = (
    "INSERT INTO plan (created, content, seed, about) VALUES (:now, 'x', 3, '{\"gates\": {}}')",
    "INSERT INTO score VALUES (1, 'a', 0.5, 40.0, '{\"most_different_pair\": \"CT/PET\"}')",
    "INSERT INTO rank VALUES (1, 'mdal', 1, 'b'), (1, 'mdal', 2, 'a'), (1, 'mdal', 3, 'c')",
    "INSERT INTO lease VALUES ('b', 'ann', :until)",
    "INSERT INTO set_aside VALUES ('bob', 'a')",
    "INSERT INTO event (at, kind, case_id, details) VALUES (:now, 'labelled', 'd', '{}')",
    "INSERT INTO progress VALUES ('mdal', 'done', 1.0, 'plan 1 is ready', :now, :now)",
)


def make_as_the_first_release(database: str) -> None:
    engine = create_engine(database)
    script = (DATA / f"first_release_{engine.dialect.name}.sql").read_text()
    with engine.begin() as connection:
        for statement in script.split(";"):
            if statement.strip():
                connection.execute(text(statement))
        for statement in ROWS:
            connection.execute(text(statement), moments(engine))
    engine.dispose()


def moments(engine: Engine) -> dict[str, object]:
    """That release's SQLite had times in UTC without a zone."""
    zone = None if engine.dialect.name == "sqlite" else UTC
    now, until = (moment.replace(tzinfo=zone) for moment in (NOW, NOW + HOUR))
    if zone is None:
        return {"now": now.isoformat(" ") + ".000000", "until": until.isoformat(" ") + ".000000"}
    return {"now": now, "until": until}


def columns(engine: Engine) -> dict[str, list[str]]:
    tables = inspect(engine)
    return {
        table: [column["name"] for column in tables.get_columns(table)] for table in tables.get_table_names()
    }


def test_the_scripts_make_the_tables_that_the_store_works_with(database: str) -> None:
    PlanStore(database).close()
    engine = create_engine(database)
    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"version_table": VERSION_TABLE})
        assert compare_metadata(context, Base.metadata) == []
        assert context.get_current_revision() == REVISION
    engine.dispose()


def test_an_order_that_was_renamed_is_found_under_its_new_name(database: str) -> None:
    make_as_the_first_release(database)
    engine = create_engine(database)
    about = '{"gates": {}, "plateau": {"paced": 2, "mdal": 3}, "coverage": {"at": [1], "paced": [0.5]}}'
    with engine.begin() as connection:
        connection.execute(text("UPDATE plan SET about = :about"), {"about": about})
        connection.execute(text("INSERT INTO rank VALUES (1, 'paced', 1, 'c'), (1, 'paced', 2, 'a')"))
    engine.dispose()
    store = PlanStore(database, now=lambda: NOW)
    plan = store.current()
    assert plan is not None
    assert store.order("representative") == ("c", "a")
    assert store.order("paced") == ()
    assert plan.about == {
        "gates": {},
        "plateau": {"representative": 2, "mdal": 3},
        "coverage": {"at": [1], "representative": [0.5]},
    }
    store.close()


def test_a_database_of_the_first_release_keeps_its_plan_leases_and_events(database: str) -> None:
    make_as_the_first_release(database)
    store = PlanStore(database, now=lambda: NOW)
    plan = store.current()
    assert plan is not None
    assert (plan.id, plan.content, plan.seed, plan.about) == (1, "x", 3, {"gates": {}})
    assert (plan.created, plan.budget) == (NOW, None)
    assert store.order("mdal") == ("b", "a", "c")
    assert store.progress("mdal")["message"] == "plan 1 is ready"
    pool = PoolState(frozenset("abc"), frozenset())

    def ask(annotator: str) -> tuple[str, datetime, CaseScore]:
        offer = store.lease_next(store.order("mdal"), annotator=annotator, read_pool=lambda: pool, lease=HOUR)
        assert offer is not None
        return offer.case_id, offer.until, offer.score

    assert ask("bob")[0] == "c"  # ann holds b, and bob had set a aside
    assert ask("cy") == ("a", NOW + HOUR, CaseScore(0.5, 40.0, {"most_different_pair": "CT/PET"}))
    engine = create_engine(database)
    with engine.connect() as connection:
        kinds = connection.scalars(text("SELECT kind FROM event ORDER BY id")).all()
    engine.dispose()
    assert kinds == ["labelled", "offered", "offered"]
    assert store.write(content="y", seed=0, scores={}, orders={"mdal": ["a"]}, about={}) == 2
    store.close()


def test_an_upgrade_that_fails_leaves_the_database_as_it_was(database: str) -> None:
    make_as_the_first_release(database)
    engine = create_engine(database)
    with engine.begin() as connection:
        connection.execute(text("ALTER TABLE plan ADD COLUMN budget TEXT"))  # the last thing that is added
    before = columns(engine)
    with pytest.raises(DBAPIError, match="budget"):
        PlanStore(database)
    assert columns(engine) == before
    engine.dispose()


def test_opening_again_changes_nothing_and_is_quick(database: str) -> None:
    make_as_the_first_release(database)
    PlanStore(database).close()
    start = time.process_time()
    PlanStore(database).close()
    assert time.process_time() - start < 0.1  # a few milliseconds


def test_a_database_of_a_later_release_is_refused_with_a_sentence(database: str) -> None:
    PlanStore(database).close()
    engine = create_engine(database)
    with engine.begin() as connection:
        connection.execute(text(f"UPDATE {VERSION_TABLE} SET version_num = '0099'"))
    before = inspect(engine).get_table_names()
    with pytest.raises(ValueError, match=f"must be a database of this release .*{REVISION}.* revision 0099"):
        PlanStore(database)
    assert inspect(engine).get_table_names() == before
    engine.dispose()


def test_another_kind_of_database_is_refused_with_a_sentence() -> None:
    with pytest.raises(ValueError, match=r"database_url must be sqlite:///FILE or postgresql://.*got mysql"):
        PlanStore("mysql://root@localhost/x")


def open_in_a_process(database: str) -> tuple[str, ...]:
    store = PlanStore(database)
    order = store.order("mdal")
    store.close()
    return order


@pytest.mark.slow
@pytest.mark.parametrize("earlier", [False, True])
def test_of_processes_that_open_a_database_at_once_one_brings_it_up_to_date(
    database: str, earlier: bool
) -> None:
    if earlier:
        make_as_the_first_release(database)
    with ProcessPoolExecutor(8, get_context("spawn")) as processes:
        orders = list(processes.map(open_in_a_process, 8 * [database]))
    assert orders == 8 * [("b", "a", "c") if earlier else ()]


def test_an_empty_sqlite_database_is_opened_though_another_process_is_writing_to_it(tmp_path: Path) -> None:
    file = tmp_path / "plan.sqlite"
    writer = sqlite3.connect(file, isolation_level=None, check_same_thread=False)
    writer.execute("BEGIN IMMEDIATE")
    Timer(0.5, writer.rollback).start()
    PlanStore(f"sqlite:///{file}").close()
    writer.close()
