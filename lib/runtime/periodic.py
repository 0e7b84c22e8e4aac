"""Work that is done again and again beside a server's clients."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

from lib.runtime.errors import UserError

logger = logging.getLogger(__name__)


class PeriodicTask:
    """A turn taken again and again in a thread of its own, until the process ends; one that fails is logged.

    Attributes:
        message: What the last turn failed in; empty where it did not.
    """

    def __init__(
        self, turn: Callable[[], None], *, name: str, every_s: float, share: float, failing: str
    ) -> None:
        """Nothing is started yet.

        Args:
            turn: What is done; a `UserError` or an `OSError` says why it could not be.
            name: Of the thread.
            every_s: Seconds between two turns.
            share: Of the time, at most, that the turns take; 1 where they may follow each other.
            failing: Start of the sentence that a failure is logged with.
        """
        self.message = ""
        self._turn, self._name, self._failing = turn, name, failing
        self._every_s, self._share = every_s, share
        self._wanted = threading.Event()

    def start(self, *, at_once: bool = True) -> None:
        """Take the first turn now, or once the time between two turns has passed."""
        first_s = 0.0 if at_once else self._every_s
        threading.Thread(target=self._run, args=(first_s,), name=self._name, daemon=True).start()

    def wake(self) -> None:
        """Take the next turn now."""
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
        """Take one turn; what it failed in. The log has it once, not every half minute of a night."""
        try:
            self._turn()
        except (UserError, OSError) as err:
            message = str(err)
            if message != self.message:
                logger.warning("%s: %s", self._failing, err)
            return message
        except Exception:  # the thread must go on: nobody else takes the turns
            message = f"{self._failing}; the server's log says why."
            if message != self.message:
                logger.exception(self._failing)
            return message
        return ""
