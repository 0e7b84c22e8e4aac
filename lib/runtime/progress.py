"""How a long computation reports how far it has come."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable

OnShareDone = Callable[[float], None]  # share done, 0 to 1
OnProgress = Callable[[float, str], None]  # share done, 0 to 1, and the current step in words
OnCasesDone = Callable[[int, int], None]  # number of cases done, and of all cases

_KNOWN = 0.02  # share done from which on the pace says something


class TimeLeft:
    """Time left of a computation, by its pace over the last half of the time that it took so far.

    Its stages are not equally fast: reading the cases says little about the trainings that follow.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """Start now.

        Args:
            clock: Returns the time now, in seconds.
        """
        self._clock, self._start = clock, clock()
        self._reports: deque[tuple[float, float]] = deque([(0.0, 0.0)])  # seconds since the start, share done

    def __call__(self, done: float) -> float | None:
        """Seconds left after a report of the share done, 0 to 1; None as long as nobody can know."""
        if done < self._reports[-1][1]:  # a new start
            self._start, self._reports = self._clock(), deque([(0.0, done)])
        now = self._clock() - self._start
        self._reports.append((now, done))
        while len(self._reports) > 2 and self._reports[1][0] <= now / 2:
            self._reports.popleft()
        before, was = self._reports[0]
        if now == before or done <= max(was, _KNOWN):
            return None
        return (1.0 - done) * (now - before) / (done - was)


def stage_of(whole: OnProgress, start: float, end: float) -> OnProgress:
    """Progress of a stage, which begins at the share `start` of the whole computation and ends at `end`."""
    return lambda done, message: whole(start + (end - start) * done, message)
