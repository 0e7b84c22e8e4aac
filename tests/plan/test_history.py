"""What happened to a case, as the events tell it."""

from __future__ import annotations

from datetime import timedelta

from lib.plan.leases import PoolState
from lib.plan.store import CaseScore, PlanStore
from tests.plan.conftest import Clock

ORDER = ("a", "b")


def test_the_history_of_a_case_is_told_newest_first(database: str, clock: Clock) -> None:
    store = PlanStore(database, now=clock)
    store.write(
        content="x", seed=0, scores={id: CaseScore() for id in ORDER}, orders={"mdal": ORDER}, about={}
    )

    def ask(annotator: str) -> None:
        clock.time += timedelta(minutes=1)
        look = PoolState(frozenset(ORDER), frozenset())
        store.lease_next(ORDER, annotator=annotator, read_pool=lambda: look, lease=timedelta(hours=1))

    ask("ann")
    ask("ann")
    clock.time += timedelta(hours=2)
    ask("bob")
    store.release("a", annotator="bob")
    told = [(event.kind, event.annotator) for event in store.history("a")]
    assert told == [
        ("labelled", "bob"),
        ("offered", "bob"),
        ("expired", "ann"),
        ("set aside", "ann"),
        ("offered", "ann"),
        ("planned", None),
    ]
    assert store.history("a")[1].details == {"rank": 1}
    assert store.history("a")[0].at == clock.time
    assert "expired" in [event.kind for event in store.history("b")]
    assert [event.kind for event in store.history("a", limit=1)] == ["labelled"]
    store.close()
