from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from datetime import timedelta, timezone
from multiprocessing import get_context

import pytest
from sqlalchemy import create_engine, text
from sqlalchemy.exc import DBAPIError

from lib.plan.leases import MAX_PASSED_OVER, PoolState
from lib.plan.store import CaseScore, PlanStore
from tests.plan.conftest import Clock

HOUR = timedelta(hours=1)
ORDER = ("c", "a", "b")
MANY = tuple(f"case {number:03}" for number in range(200))


@pytest.fixture
def store(database: str, clock: Clock) -> Iterator[PlanStore]:
    store = PlanStore(database, now=clock)
    scores = {id: CaseScore(0.5, 40.0, {"most_different_pair": "CT–PET"}, 1.25, 2) for id in ORDER}
    store.write(content="x", seed=0, scores=scores, orders={"mdal": ORDER}, about={})
    yield store
    store.close()


def ask(
    store: PlanStore, annotator: str, labelled: set[str] | None = None, stop: int | None = None
) -> str | None:
    offer = store.lease_next(
        ORDER, annotator=annotator, read_pool=lambda: pool(ORDER, labelled or set()), lease=HOUR, stop=stop
    )
    return offer.case_id if offer else None


def pool(order: tuple[str, ...], labelled: set[str]) -> PoolState:
    return PoolState(frozenset(order), labelled)


def events(database: str) -> list[tuple[str, str | None, str | None]]:
    engine = create_engine(database)
    with engine.connect() as connection:
        rows = connection.execute(text("SELECT kind, case_id, annotator FROM event ORDER BY id")).all()
    engine.dispose()
    return [(row[0], row[1], row[2]) for row in rows]


def test_the_best_ranked_case_comes_first_with_its_score(store: PlanStore) -> None:
    offer = store.lease_next(
        store.order("mdal"), annotator="ann", read_pool=lambda: pool(ORDER, set()), lease=HOUR
    )
    assert offer is not None
    assert (offer.case_id, offer.rank, offer.of, offer.spent) == ("c", 1, 3, 1)
    assert offer.score == CaseScore(0.5, 40.0, {"most_different_pair": "CT–PET"}, 1.25, 2)


def test_two_annotators_never_get_the_same_case(store: PlanStore) -> None:
    assert [ask(store, name) for name in ("ann", "bob", "cy", "dan")] == ["c", "a", "b", None]


def test_labelled_cases_are_passed_by(store: PlanStore) -> None:
    assert ask(store, "ann", {"c", "a"}) == "b"


def test_two_clients_of_one_name_never_get_each_others_case(store: PlanStore) -> None:
    """They may both be called anonymous: a request without a label may come from the other one."""
    assert [ask(store, "anonymous") for _ in range(3)] == ["c", "a", "b"]
    assert ask(store, "bob") is None


def test_when_no_other_case_is_left_the_one_offered_first_comes_again_and_it_is_said(
    store: PlanStore, clock: Clock
) -> None:
    began = clock()
    for expected in ("c", "a", "b"):
        assert ask(store, "ann") == expected
        clock.time += timedelta(minutes=1)
    offer = store.lease_next(ORDER, annotator="ann", read_pool=lambda: pool(ORDER, {"a"}), lease=HOUR)
    assert offer is not None
    assert (offer.case_id, offer.rank, offer.held_since) == ("c", 1, began)
    assert offer.until == clock() + HOUR
    assert ask(store, "ann", {"a", "c"}) == "b"
    assert ask(store, "ann", {"a", "b", "c"}) is None


def test_a_case_that_was_passed_over_stays_held_until_its_lease_ends(store: PlanStore, clock: Clock) -> None:
    assert [ask(store, "ann"), ask(store, "ann")] == ["c", "a"]
    assert [ask(store, "bob"), ask(store, "cy")] == ["b", None]
    now = store.assignments("ann")
    assert (now.case_of("ann"), now.at_work, now.aside) == ("a", {"a", "b"}, {"c"})
    clock.time += HOUR
    assert ask(store, "cy") == "c"


def test_a_case_that_is_given_back_is_offered_again(store: PlanStore) -> None:
    assert [ask(store, "ann"), ask(store, "ann")] == ["c", "a"]
    assert not store.give_back("c", annotator="bob")
    assert store.give_back("c", annotator="ann")
    assert not store.give_back("c", annotator="ann")
    assert ask(store, "bob") == "c"


def test_what_was_set_aside_comes_again_once_nothing_else_is_left(store: PlanStore, clock: Clock) -> None:
    assert [ask(store, "ann") for _ in range(5)] == ["c", "a", "b", "c", "a"]
    clock.time += HOUR
    assert [ask(store, "ann") for _ in range(3)] == ["c", "a", "b"]
    assert ask(store, "ann", {"c", "a", "b"}) is None


def test_who_leafs_through_the_pool_keeps_few_cases_from_the_others(database: str) -> None:
    store = PlanStore(database)
    passed = 20
    for _ in range(passed + 1):
        store.lease_next(MANY, annotator="ann", read_pool=lambda: pool(MANY, set()), lease=HOUR)
    assert set(store.assignments("bob").held) == set(MANY[passed - MAX_PASSED_OVER : passed + 1])
    offer = store.lease_next(MANY, annotator="bob", read_pool=lambda: pool(MANY, set()), lease=HOUR)
    assert offer is not None
    assert (offer.case_id, offer.spent) == (MANY[0], 2)  # ann's last case and bob's
    store.close()


def test_a_long_row_of_cases_that_were_set_aside_is_passed_by(database: str) -> None:
    store = PlanStore(database)
    given = [
        store.lease_next(MANY, annotator="ann", read_pool=lambda: pool(MANY, set()), lease=HOUR) for _ in MANY
    ]
    assert [offer.case_id for offer in given if offer] == list(MANY)
    store.close()


def test_a_labelled_case_is_not_set_aside_when_its_annotator_asks_again(store: PlanStore) -> None:
    ask(store, "ann")
    store.release("c", annotator="ann")
    assert ask(store, "ann", {"c"}) == "a"
    assert ask(store, "ann") == "c"  # say its label was removed: it was never passed over


def test_an_expired_lease_returns_the_case(store: PlanStore, clock: Clock) -> None:
    assert ask(store, "ann") == "c"
    clock.time += HOUR - timedelta(seconds=1)
    assert ask(store, "bob") == "a"
    clock.time += timedelta(seconds=1)
    assert ask(store, "cy") == "c"


def test_a_lease_lasts_as_long_on_a_server_in_another_time_zone(
    store: PlanStore, database: str, clock: Clock
) -> None:
    away = PlanStore(database, now=lambda: clock().astimezone(timezone(timedelta(hours=9))))
    offer = away.lease_next(ORDER, annotator="ann", read_pool=lambda: pool(ORDER, set()), lease=HOUR)
    assert offer is not None
    assert offer.until == clock() + HOUR
    clock.time += HOUR - timedelta(seconds=1)
    assert ask(store, "bob") == "a"
    clock.time += timedelta(seconds=1)
    assert ask(store, "cy") == "c"
    away.close()


def test_leases_survive_a_restart(store: PlanStore, database: str, clock: Clock) -> None:
    ask(store, "ann")
    again = PlanStore(database, now=clock)
    assert ask(again, "bob") == "a"
    again.close()


def test_no_case_is_offered_once_the_budget_is_labelled_or_in_hands(store: PlanStore) -> None:
    assert ask(store, "ann", stop=2) == "c"
    assert ask(store, "bob", {"b"}, stop=2) is None
    assert ask(store, "bob", stop=2) == "a"
    assert ask(store, "cy", stop=2) is None
    assert ask(store, "ann", {"c"}, stop=2) is None  # c has its label, bob holds a


def test_asking_again_does_not_spend_the_budget_twice(store: PlanStore) -> None:
    assert [ask(store, "ann", stop=1) for _ in range(3)] == ["c", "a", "b"]
    assert ask(store, "bob", stop=1) is None


def test_a_lease_of_a_case_that_left_the_pool_spends_no_budget(store: PlanStore) -> None:
    assert ask(store, "ann") == "c"
    offer = store.lease_next(
        ORDER, annotator="bob", read_pool=lambda: pool(("a", "b"), set()), lease=HOUR, stop=1
    )
    assert offer is not None
    assert (offer.case_id, offer.spent) == ("a", 1)


def test_what_happened_is_kept_in_order(store: PlanStore, database: str, clock: Clock) -> None:
    ask(store, "ann")
    ask(store, "ann")
    clock.time += HOUR
    ask(store, "bob")
    store.release("c", annotator=None)
    assert events(database) == [
        ("planned", None, None),
        ("offered", "c", "ann"),
        ("set aside", "c", "ann"),
        ("offered", "a", "ann"),
        ("expired", "a", "ann"),
        ("expired", "c", "ann"),
        ("offered", "c", "bob"),
        ("labelled", "c", None),
    ]


@pytest.mark.parametrize("statement", ["UPDATE event SET kind = 'x'", "DELETE FROM event"])
def test_what_happened_can_not_be_changed(store: PlanStore, database: str, statement: str) -> None:
    engine = create_engine(database)
    with pytest.raises(DBAPIError, match="events are appended, never changed"), engine.begin() as connection:
        connection.execute(text(statement))
    engine.dispose()
    assert len(events(database)) == 1


def test_sixteen_annotators_who_ask_at_once_never_get_the_same_case(database: str) -> None:
    stores = [PlanStore(database) for _ in range(4)]

    def ask_from(place: int) -> str:
        offer = stores[place % 4].lease_next(
            MANY, annotator=f"annotator {place}", read_pool=lambda: pool(MANY, set()), lease=HOUR
        )
        assert offer is not None
        return offer.case_id

    with ThreadPoolExecutor(16) as threads:
        given = list(threads.map(ask_from, range(len(MANY))))
    assert sorted(given) == list(MANY)
    for store in stores:
        store.close()


def lease_in_a_process(database: str, annotators: list[str], stop: int) -> list[str]:
    store = PlanStore(database)  # all of them open the empty database at once
    offers = [
        store.lease_next(MANY, annotator=name, read_pool=lambda: pool(MANY, set()), lease=HOUR, stop=stop)
        for name in annotators
    ]
    store.close()
    return [offer.case_id for offer in offers if offer]


@pytest.mark.slow
def test_processes_lease_exactly_the_budget_and_no_case_twice(database: str) -> None:
    stop, processes = 100, 8
    work = [[f"annotator {process} {number}" for number in range(20)] for process in range(processes)]
    with ProcessPoolExecutor(processes, get_context("spawn")) as pool_of_processes:
        tasks = [pool_of_processes.submit(lease_in_a_process, database, names, stop) for names in work]
        given = [case for task in tasks for case in task.result()]
    assert sorted(given) == list(MANY[:stop])


def test_a_label_that_is_saved_meanwhile_is_seen(store: PlanStore) -> None:
    labelled: set[str] = set()

    def save_label_first() -> PoolState:
        labelled.add("c")
        return pool(ORDER, labelled)

    offer = store.lease_next(ORDER, annotator="ann", read_pool=save_label_first, lease=HOUR)
    assert offer is not None
    assert offer.case_id == "a"


@pytest.mark.parametrize("ahead", [timedelta(days=400), timedelta(hours=3)])
def test_a_lease_made_under_a_clock_that_was_ahead_ends_once_the_clock_is_right(
    store: PlanStore, clock: Clock, ahead: timedelta
) -> None:
    clock.time += ahead
    assert ask(store, "ann") == "c"
    clock.time -= ahead
    assert store.assignments("bob").held == {}
    assert ask(store, "bob") == "c"


def test_a_clock_that_is_set_back_a_little_ends_no_lease(store: PlanStore, clock: Clock) -> None:
    assert ask(store, "ann") == "c"
    clock.time -= timedelta(minutes=50)
    assert ask(store, "bob") == "a"
    assert store.assignments("cy").held.keys() == {"c", "a"}


def test_a_server_with_short_leases_ends_no_long_one_of_another(store: PlanStore, clock: Clock) -> None:
    year = timedelta(days=365)
    store.lease_next(ORDER, annotator="ann", read_pool=lambda: pool(ORDER, set()), lease=year)
    clock.time += timedelta(days=300)
    assert ask(store, "bob") == "a"
