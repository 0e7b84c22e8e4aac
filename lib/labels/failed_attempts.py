"""Failed attempts to take a segmentation, and the wait before the next attempt."""

from __future__ import annotations

import time
from dataclasses import dataclass

_LONGEST_WAIT_S = 3600.0


@dataclass(frozen=True)
class FailedAttempts:
    """Failed attempts to take a segmentation that may succeed later.

    Attributes:
        times: Number of failures in a row.
        until: Time of the next attempt, on the monotonic clock.
    """

    times: int = 0
    until: float = 0.0

    def again(self, every_s: float) -> FailedAttempts:
        """Add a failure: the first retry comes with the next turn, each later one after twice the wait."""
        wait = min(every_s * 2.0**self.times, _LONGEST_WAIT_S) if self.times else 0.0
        return FailedAttempts(self.times + 1, time.monotonic() + wait)
