import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest
from sqlalchemy import create_engine, text
from sqlalchemy.exc import IntegrityError

from lib.plan.budget import Budget
from lib.plan.leases import PoolState
from lib.plan.store import KEPT_PLANS, CaseScore, PairScore, PlanStore
from tests.plan.conftest import Clock

HOUR = timedelta(hours=1)
ORDER = ("c", "a", "b")


@pytest.fixture
def store(database: str, clock: Clock) -> Iterator[PlanStore]:
    store = PlanStore(database, now=clock)
    scores = {id: CaseScore(0.5, 40.0) for id in ORDER}
    pairs = [PairScore(id, "CT/PET", seed, 1.5, 0.5, None) for id in ORDER for seed in (0, 1)]
    store.write(
        content="x", seed=0, scores=scores, orders={"mdal": ORDER}, about={"why": "old"}, pair_scores=pairs
    )
    yield store
    store.close()


def count(database: str, table: str) -> int:
    engine = create_engine(database)
    with engine.connect() as connection:
        found = connection.scalar(text(f"SELECT count(*) FROM {table}"))
    engine.dispose()
    return int(found or 0)


def test_the_newest_plan_counts(store: PlanStore, clock: Clock) -> None:
    assert store.order("mdal") == ORDER
    version = store.write(
        content="y",
        seed=1,
        scores={"a": CaseScore()},
        orders={"mdal": ["a"]},
        about={"why": "new"},
        budget=Budget.parse("20%"),
    )
    assert store.order("mdal") == ("a",)
    current = store.current()
    assert current is not None
    assert (current.id, current.content, current.about) == (version, "y", {"why": "new"})
    assert (current.budget, current.created) == ("20%", clock())


def test_another_servers_plan_is_seen(store: PlanStore, database: str) -> None:
    other = PlanStore(database)
    assert other.order("mdal") == ORDER
    store.write(content="y", seed=1, scores={}, orders={"mdal": ["b", "a"]}, about={})
    assert other.order("mdal") == ("b", "a")
    current = other.current()
    assert current is not None
    assert current.content == "y"
    other.close()


def test_a_strategy_without_an_order_has_none(store: PlanStore) -> None:
    assert store.order("wibble") == ()


def test_an_empty_database_has_no_plan(database: str) -> None:
    store = PlanStore(database)
    assert store.current() is None
    assert store.order("mdal") == ()
    assert store.nearest("a", {"b"}) is None
    store.close()


def test_scores_by_pair_and_seed_are_kept(store: PlanStore) -> None:
    assert store.pair_scores("a") == [
        PairScore("a", "CT/PET", 0, 1.5, 0.5, None),
        PairScore("a", "CT/PET", 1, 1.5, 0.5, None),
    ]
    assert store.pair_scores("wibble") == []


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_number_that_is_not_finite_is_refused_and_the_old_plan_stays(
    store: PlanStore, value: float
) -> None:
    plan = {"content": "z", "seed": 0, "orders": {"mdal": ["a"]}, "about": {}}
    with pytest.raises(ValueError, match="scores must be finite; case a"):
        store.write(scores={"a": CaseScore(value, 1.0)}, **plan)
    with pytest.raises(ValueError, match="scores must be finite; case a"):
        store.write(scores={"a": CaseScore()}, pair_scores=[PairScore("a", "CT/PET", 0, value)], **plan)
    with pytest.raises(ValueError, match="features must be finite and fit float16; case a"):
        store.write(scores={"a": CaseScore(features=np.array([1.0, value]))}, **plan)
    with pytest.raises(ValueError, match="details of case a must be JSON with finite numbers"):
        store.write(scores={"a": CaseScore(details={"by pair": value})}, **plan)
    with pytest.raises(ValueError, match="about must be JSON with finite numbers"):
        store.write(scores={}, **{**plan, "about": {"gate": value}})
    assert store.order("mdal") == ORDER


def test_a_plan_that_fails_midway_leaves_the_old_one(store: PlanStore, database: str) -> None:
    with pytest.raises(IntegrityError):
        store.write(
            content="z",
            seed=0,
            scores={"a": CaseScore()},
            orders={"mdal": ["a"]},
            about={},
            pair_scores=2 * [PairScore("a", "CT/PET", 0)],
        )
    assert store.order("mdal") == ORDER
    assert count(database, "plan") == 1


def test_numbers_of_numpy_come_back_as_pythons(store: PlanStore) -> None:
    score = CaseScore(np.float32(0.5), np.float64(40.0), {}, np.float32(1.5), np.int64(3))
    store.write(content="y", seed=0, scores={"a": score}, orders={"mdal": ["a"]}, about={})
    pool = PoolState(frozenset("a"), frozenset())
    offer = store.lease_next(["a"], annotator="ann", read_pool=lambda: pool, lease=HOUR)
    assert offer is not None
    found = offer.score
    assert (found.difference, found.percentile, found.difference_nats, found.cluster) == (0.5, 40.0, 1.5, 3)
    assert {type(found.difference), type(found.difference_nats)} == {float}
    assert type(found.cluster) is int


def test_the_scores_of_a_plan_come_back_with_their_features(store: PlanStore) -> None:
    features = np.array([0.5, -2.0])
    score = CaseScore(0.5, 40.0, {"by pair": {"CT/PET": 1.0}}, 1.5, 3, features)
    store.write(content="y", seed=0, scores={"a": score, "b": CaseScore()}, orders={}, about={})
    found = store.scores()
    assert found == {"a": score, "b": CaseScore()}
    assert found["a"].features is not None
    assert found["a"].features.tolist() == [0.5, -2.0]
    assert found["b"].features is None
    assert store.scores(plan=1).keys() == set(ORDER)


def test_the_nearest_case_is_found_by_the_features_of_the_newest_plan(store: PlanStore) -> None:
    def write(places: dict[str, float]) -> None:
        scores = {id: CaseScore(features=np.array([place, 0.0])) for id, place in places.items()}
        store.write(content="y", seed=0, scores=scores, orders={}, about={})

    assert store.nearest("a", {"b"}) is None  # the plan has no features
    write({"a": 0.0, "b": 3.0, "c": -1.0, "d": 1.0})
    assert store.nearest("a", {"b", "c", "d", "gone"}) == ("c", 1.0)  # ties break by case id
    assert store.nearest("a", {"a"}) is None
    assert store.nearest("a", set()) is None
    write({"a": 0.0, "b": 0.5, "c": -1.0})
    assert store.nearest("a", {"b", "c"}) == ("b", 0.5)


def test_old_plans_go_with_their_scores_and_leases_and_events_stay(store: PlanStore, database: str) -> None:
    pool = PoolState(frozenset(ORDER), frozenset())
    store.lease_next(ORDER, annotator="ann", read_pool=lambda: pool, lease=HOUR)
    for number in range(KEPT_PLANS + 2):
        store.write(
            content=str(number),
            seed=0,
            scores={"a": CaseScore()},
            orders={"mdal": ["a"]},
            about={},
            pair_scores=[PairScore("a", "CT/PET", 0)],
        )
    assert [count(database, table) for table in ("plan", "score", "rank", "pair_score")] == [KEPT_PLANS] * 4
    assert count(database, "lease") == 1
    assert count(database, "event") == 1 + 1 + KEPT_PLANS + 2


def test_progress_tells_the_time_left_and_a_killed_job_is_not_running_for_ever(
    store: PlanStore, clock: Clock
) -> None:
    assert store.progress("mdal") == {}
    store.report("mdal", state="running", done=0.0, message="reading")
    clock.time += timedelta(seconds=30)
    store.report("mdal", state="running", done=0.25, message="training", seconds_left=90.04)
    assert store.progress("mdal") == {
        "state": "running",
        "done": 0.25,
        "message": "training",
        "seconds_left": 90.0,
    }
    clock.time += HOUR
    assert store.progress("mdal")["state"] == "interrupted"
    store.report("mdal", state="done", done=1.0, message="ready")
    assert store.progress("mdal")["state"] == "done"


def test_a_reader_does_not_wait_for_a_plan_that_is_being_written(database: str) -> None:
    store, other = PlanStore(database), PlanStore(database)
    store.write(content="old", seed=0, scores={}, orders={"mdal": ORDER}, about={})
    with store._writing.begin() as connection:
        connection.execute(text("DELETE FROM rank"))
        start = time.monotonic()
        assert other.order("mdal") == ORDER
        assert time.monotonic() - start < 5.0
    store.close()
    other.close()


WRITER = """
import sys
from lib.plan.store import CaseScore, PairScore, PlanStore

store = PlanStore(sys.argv[1])
ids = [f"case {number:04}" for number in range(2000)]
print("ready", flush=True)
while True:
    store.write(
        content="x", seed=0, about={}, orders={"mdal": ids, "uniform": ids[::-1]},
        scores={id: CaseScore(0.5, 1.0) for id in ids},
        pair_scores=[PairScore(id, "CT/PET", 0) for id in ids],
    )
"""


@pytest.mark.slow
def test_a_plan_is_whole_whenever_its_writer_is_killed(database: str) -> None:
    root = Path(__file__).parent.parent.parent
    generator = np.random.default_rng(0)
    store = PlanStore(database)
    for _ in range(8):
        writer = subprocess.Popen(
            [sys.executable, "-c", WRITER, database], cwd=root, stdout=subprocess.PIPE, text=True
        )
        assert writer.stdout is not None
        assert writer.stdout.readline() == "ready\n"
        time.sleep(generator.uniform(0.0, 1.0))
        writer.send_signal(signal.SIGKILL)
        writer.wait()
        writer.stdout.close()
        plan = store.current()
        if plan is not None:
            assert [len(store.order(name)) for name in ("mdal", "uniform")] == [2000, 2000]
            assert store.pair_scores("case 1999") == [PairScore("case 1999", "CT/PET", 0)]
    plans = count(database, "plan")
    assert plans > 0
    assert count(database, "score") == count(database, "pair_score") == 2000 * plans
    assert count(database, "rank") == 2 * 2000 * plans
    store.close()
