"""The time left of a long computation does not grow as it goes on, though its stages are not equally fast."""

from __future__ import annotations

import itertools
import math
import statistics

import pytest

from lib.runtime.progress import TimeLeft

# Seconds and share done of a scoring of 16 cases that was measured: a check, a reading, then six trainings.
MEASURED = [
    (9, 0.025), (18, 0.1), (34, 0.190), (60, 0.213), (85, 0.239), (110, 0.271), (135, 0.311), (161, 0.340),
    (186, 0.367), (211, 0.394), (236, 0.421), (262, 0.445), (287, 0.460), (312, 0.490), (337, 0.532),
    (363, 0.569), (388, 0.607), (413, 0.634), (438, 0.660), (464, 0.687), (489, 0.714), (514, 0.730),
    (540, 0.762), (565, 0.801), (590, 0.835), (615, 0.862), (641, 0.881), (666, 0.900), (691, 0.916),
    (716, 0.926), (742, 0.937), (767, 0.955), (792, 0.970), (817, 0.984), (842, 0.997),
]  # fmt: skip
ENDED = 867  # seconds


def told(reports: list[tuple[float, float]]) -> dict[float, float | None]:
    """Time left after each report, by the time of the report."""
    now = 0.0
    time_left = TimeLeft(lambda: now)
    shown = {}
    for at, done in reports:
        now = at
        shown[at] = time_left(done)
    return shown


def test_after_the_first_minute_it_never_grows_by_more_than_a_quarter() -> None:
    shown = [left for at, left in told(MEASURED).items() if at > 60 and left and left > 10]
    least = itertools.accumulate(shown, min)
    assert max(now / before for now, before in zip(shown, least, strict=True)) <= 1.25


def test_it_is_nearer_to_the_truth_than_the_pace_since_the_start() -> None:
    ours = {at: left for at, left in told(MEASURED).items() if left and 60 <= at <= 700}
    usual = {at: at * (1 - done) / done for at, done in MEASURED if at in ours}
    off = [
        statistics.mean(abs(math.log(left / (ENDED - at))) for at, left in shown.items())
        for shown in (ours, usual)
    ]
    assert off[0] < off[1]


def test_of_an_even_pace_it_is_exact() -> None:
    shown = told([(number, number / 100) for number in range(101)])
    assert [shown[at] for at in (0, 1, 2)] == [None, None, None]
    assert list(shown.values())[3:] == pytest.approx(range(97, -1, -1))


def test_a_job_that_begins_again_is_timed_afresh() -> None:
    shown = told([(1, 0.5), (2, 0.9), (10, 0.0), (20, 0.1), (30, 0.2)])
    assert shown[10] is None
    assert shown[30] == pytest.approx(80)


def test_without_any_progress_nothing_is_told() -> None:
    assert set(told([(1, 0.0), (50, 0.0), (100, 0.01)]).values()) == {None}
    assert told([(0, 0.5), (0.0, 0.5)])[0] is None
