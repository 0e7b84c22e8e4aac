"""Turns are taken again and again, whatever becomes of one."""

import logging
import threading
import time
from collections.abc import Callable

import pytest

from lib.runtime.errors import UserError
from lib.runtime.periodic import PeriodicTask


def repeated(turn: Callable[[], None], *, every_s: float = 0.01, share: float = 1.0) -> PeriodicTask:
    return PeriodicTask(turn, name="test", every_s=every_s, share=share, failing="the disk stays away")


def test_a_turn_that_fails_is_told_once_and_taken_again(caplog: pytest.LogCaptureFixture) -> None:
    taken, done = [], threading.Event()

    def turn() -> None:
        taken.append(work.message)
        if len(taken) < 4:
            raise UserError("no disk.")
        if len(taken) > 5:
            done.set()

    work = repeated(turn)
    with caplog.at_level(logging.WARNING):
        work.start()
        assert done.wait(10)
    assert taken[:6] == ["", "no disk.", "no disk.", "no disk.", "", ""]
    assert [record.getMessage() for record in caplog.records] == ["the disk stays away: no disk."]


def test_a_turn_that_breaks_does_not_end_the_others() -> None:
    taken, done = [], threading.Event()

    def turn() -> None:
        taken.append(work.message)
        if len(taken) == 1:
            raise ZeroDivisionError
        done.set()

    work = repeated(turn)
    work.start()
    assert done.wait(10)
    assert taken[:2] == ["", "the disk stays away; the server's log says why."]


def test_who_is_woken_takes_a_turn_now() -> None:
    taken = threading.Semaphore(0)
    work = repeated(taken.release, every_s=3600.0)
    work.start(at_once=False)
    assert not taken.acquire(timeout=0.2)
    for _ in range(2):
        work.wake()
        assert taken.acquire(timeout=10)


@pytest.mark.alone
@pytest.mark.parametrize(("share", "least_s", "most_s"), [(0.5, 0.49, 9.0), (1.0, 0.0, 0.4)])
def test_turns_take_their_share_of_the_time_at_most(share: float, least_s: float, most_s: float) -> None:
    began, ended, done = [], [], threading.Event()

    def turn() -> None:
        began.append(time.monotonic())
        time.sleep(0.5)
        ended.append(time.monotonic())
        if len(ended) == 2:
            done.set()

    repeated(turn, share=share).start()
    assert done.wait(10)
    assert least_s <= began[1] - ended[0] < most_s
