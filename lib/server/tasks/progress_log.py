"""How far a job is, in the log of the server that started it."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable

from lib.runtime.progress import TimeLeft

LINE_EVERY_S = 10.0
SHOWN = "MDAL_CIML_SCORING_SHOWN"  # in the environment of a server whose terminal shows the scoring itself


class ProgressLog:
    """Logs the progress of a job at most every ten seconds, with the time left."""

    def __init__(
        self, job: str, logger: logging.Logger, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """Nothing is logged yet.

        Args:
            job: Name of the job, at the start of each line.
            logger: Logger of the job.
            clock: Returns the time now, in seconds.
        """
        self._job, self._logger, self._clock = job, logger, clock
        self._time_left, self._logged = TimeLeft(clock), -math.inf

    def __call__(self, done: float, message: str) -> None:
        """Log the share done, 0 to 1, and what is being done, unless a line was logged just now."""
        now = self._clock()
        if now - self._logged < LINE_EVERY_S:
            return
        self._logged = now
        seconds = self._time_left(done)
        left = "" if seconds is None else f", {seconds:.0f} s left"
        self._logger.info("%s %3.0f %%: %s%s", self._job, 100 * done, message, left)
