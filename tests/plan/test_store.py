from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy.exc import StatementError

from lib.plan.store import CaseScore, PlanStore

HOUR = timedelta(hours=1)
ORDER = ("c", "a", "b")


class Clock:
    """A clock that a test sets."""

    def __init__(self) -> None:
        self.time = datetime(2026, 1, 1, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.time


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def store(tmp_path: Path, clock: Clock) -> PlanStore:
    store = PlanStore(f"sqlite:///{tmp_path / 'plan.sqlite'}", now=clock)
    scores = {id: CaseScore(0.5, 40.0, {"most_different_pair": "CT–PET"}) for id in ORDER}
    store.write(content="x", seed=0, scores=scores, orders={"mdal": ORDER}, about={})
    return store


def ask(store: PlanStore, annotator: str, unavailable: set[str] | None = None) -> str | None:
    done = unavailable or set()
    offer = store.lease_next(ORDER, annotator=annotator, is_open=lambda id: id not in done, lease=HOUR)
    return offer.case_id if offer else None


def test_the_best_ranked_case_comes_first_with_its_score(store: PlanStore) -> None:
    offer = store.lease_next(store.order("mdal"), annotator="ann", is_open=lambda id: True, lease=HOUR)
    assert offer is not None
    assert (offer.case_id, offer.rank, offer.of) == ("c", 1, 3)
    assert offer.score == CaseScore(0.5, 40.0, {"most_different_pair": "CT–PET"})


def test_two_annotators_never_get_the_same_case(store: PlanStore) -> None:
    assert [ask(store, "ann"), ask(store, "bob"), ask(store, "cy"), ask(store, "dan")] == [
        "c",
        "a",
        "b",
        None,
    ]


def test_two_annotators_who_ask_at_once_never_get_the_same_case(tmp_path: Path) -> None:
    order = [f"case {number}" for number in range(64)]
    stores = [PlanStore.beside(tmp_path) for _ in range(4)]

    def ask_from(place: int) -> str | None:
        offer = stores[place % 4].lease_next(
            order, annotator=f"annotator {place}", is_open=lambda id: True, lease=HOUR
        )
        return offer.case_id if offer else None

    with ThreadPoolExecutor(8) as threads:
        given = list(threads.map(ask_from, range(64)))
    assert sorted(map(str, given)) == sorted(order)


def test_labelled_cases_are_passed_by(store: PlanStore) -> None:
    assert ask(store, "ann", {"c", "a"}) == "b"


def test_asking_again_without_a_label_sets_the_case_aside_for_this_annotator_alone(store: PlanStore) -> None:
    assert [ask(store, "ann"), ask(store, "ann")] == ["c", "a"]
    assert ask(store, "bob") == "c"


def test_what_was_set_aside_comes_again_once_nothing_else_is_left(store: PlanStore) -> None:
    assert [ask(store, "ann") for _ in range(5)] == ["c", "a", "b", "c", "a"]
    assert ask(store, "ann", {"c", "a", "b"}) is None


def test_a_labelled_case_is_not_set_aside_when_its_annotator_asks_again(store: PlanStore) -> None:
    ask(store, "ann")
    store.release("c", annotator="ann")
    assert ask(store, "ann", {"c"}) == "a"
    assert ask(store, "ann") == "c"  # say its label was removed: it was never passed over


def test_an_expired_lease_returns_the_case(store: PlanStore, clock: Clock) -> None:
    assert ask(store, "ann") == "c"
    clock.time += HOUR
    assert ask(store, "bob") == "c"


def test_leases_survive_a_restart(store: PlanStore, tmp_path: Path, clock: Clock) -> None:
    ask(store, "ann")
    again = PlanStore(f"sqlite:///{tmp_path / 'plan.sqlite'}", now=clock)
    assert ask(again, "bob") == "a"


def test_the_newest_plan_counts(store: PlanStore) -> None:
    assert store.order("mdal") == ORDER
    version = store.write(
        content="y", seed=1, scores={"a": CaseScore()}, orders={"mdal": ["a"]}, about={"why": "new"}
    )
    assert store.order("mdal") == ("a",)
    current = store.current()
    assert current is not None
    assert (current.id, current.content, current.about) == (version, "y", {"why": "new"})


def test_a_strategy_without_an_order_has_none(store: PlanStore) -> None:
    assert store.order("wibble") == ()


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_score_that_is_not_finite_is_refused_and_the_old_plan_stays(store: PlanStore, value: float) -> None:
    with pytest.raises(ValueError, match="scores must be finite; case a"):
        store.write(
            content="z", seed=0, scores={"a": CaseScore(value, 1.0)}, orders={"mdal": ["a"]}, about={}
        )
    assert store.order("mdal") == ORDER


def test_a_plan_that_fails_midway_leaves_the_old_one(store: PlanStore) -> None:
    with pytest.raises(StatementError):
        store.write(
            content="z",
            seed=0,
            scores={"a": CaseScore(details={"not json": object()})},
            orders={"mdal": ["a"]},
            about={},
        )
    assert store.order("mdal") == ORDER


def test_progress_tells_the_time_left_and_a_killed_job_is_not_running_for_ever(
    store: PlanStore, clock: Clock
) -> None:
    assert store.progress("mdal") == {}
    store.report("mdal", state="running", done=0.0, message="reading")
    clock.time += timedelta(seconds=30)
    store.report("mdal", state="running", done=0.25, message="training")
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
