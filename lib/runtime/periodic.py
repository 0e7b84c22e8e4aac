"""Work that a server repeats in the background."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

from lib.runtime.errors import UserError

logger = logging.getLogger(__name__)


class PeriodicTask:
    """Task that repeats in its own thread until the process ends; failures are logged.

    Attributes:
        message: Error of the last run; empty if it succeeded.
    """

    def __init__(
        self, turn: Callable[[], None], *, name: str, every_s: float, share: float, failing: str
    ) -> None:
        """Prepare the task; `start` starts its thread.

        Args:
            turn: One run of the task; raises `UserError` or `OSError` with the reason of a failure.
            name: Name of the thread.
            every_s: Seconds between two runs.
            share: Largest fraction of the time that the runs may take; 1 lets them follow each other.
            failing: First words of the log message of a failure.
        """
        self.message = ""
        self._turn, self._name, self._failing = turn, name, failing
        self._every_s, self._share = every_s, share
        self._wanted = threading.Event()

    def start(self, *, at_once: bool = True) -> None:
        """Start the thread; the first run comes at once, or after `every_s` seconds."""
        first_s = 0.0 if at_once else self._every_s
        threading.Thread(target=self._run, args=(first_s,), name=self._name, daemon=True).start()

    def wake(self) -> None:
        """Start the next run now."""
        self._wanted.set()

    def _run(self, first_s: float) -> None:
        self._wait(first_s)
        while True:
            start = time.monotonic()
            self.message = self._outcome()
            took = time.monotonic() - start
            self._wait(max(self._every_s, took * (1.0 / self._share - 1.0)))

    def _wait(self, seconds: float) -> None:
        self._wanted.wait(seconds)
        self._wanted.clear()

    def _outcome(self) -> str:
        """Run once and return the error, empty on success; an error that repeats is logged only once."""
        try:
            self._turn()
        except (UserError, OSError) as err:
            message = str(err)
            if message != self.message:
                logger.warning("%s: %s", self._failing, err)
            return message
        except Exception:  # the thread must survive: nothing else runs the task
            message = f"{self._failing}; the server's log says why."
            if message != self.message:
                logger.exception(self._failing)
            return message
        return ""
