"""How a long computation reports how far it has come."""

from __future__ import annotations

from collections.abc import Callable

OnShareDone = Callable[[float], None]  # share done, 0 to 1
OnProgress = Callable[[float, str], None]  # share done, 0 to 1, and the current step in words
OnCasesDone = Callable[[int, int], None]  # number of cases done, and of all cases


def stage_of(whole: OnProgress, start: float, end: float) -> OnProgress:
    """Progress of a stage, which begins at the share `start` of the whole computation and ends at `end`."""
    return lambda done, message: whole(start + (end - start) * done, message)
