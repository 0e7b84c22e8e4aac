"""Watching the studies of a running server: new, changed and removed cases are checked, then scored."""

from __future__ import annotations

import logging
import signal
import threading
import time
from collections.abc import Callable
from subprocess import CompletedProcess

from lib.pipeline.checking import CHECK_JOB
from lib.pipeline.workspace import Workspace
from lib.runtime.periodic import PeriodicTask
from lib.server.subprocesses import check_in_background
from lib.views.terminal.tables import as_text, check_table, pool_table

CHECKED_FIRST = 64  # a pool of at most so many cases in a folder is checked before it is served
RECHECK_S = 600.0  # interval after which a check that failed or lacked series of the PACS is repeated
LISTING_SHARE = 0.01  # share of the time spent listing a folder: listing slows down the requests of clients
_TRIED_AGAIN = "the server's log says why. It is tried again within minutes."
_STOPPED = (-signal.SIGINT, -signal.SIGTERM)  # exit statuses of a check that somebody stopped
logger = logging.getLogger(__name__)


class StudyWatcher:
    """Checks the pool when a server starts and whenever its studies change.

    The watcher lists a folder every `refresh_s`. A PACS is listed by the exchange of labels, which then
    calls `listed`.
    """

    def __init__(
        self,
        workspace: Workspace,
        *,
        on_checked: Callable[[], None],
        run_check: Callable[[Workspace], CompletedProcess[str]] = check_in_background,
    ) -> None:
        """Create a watcher; it checks nothing before `start`.

        Args:
            workspace: Workspace of the studies.
            on_checked: Called when the verdicts are those of the current studies.
            run_check: Runs the pool check in another process, which stores the result in the workspace.
        """
        self._workspace, self._on_checked, self._run_check = workspace, on_checked, run_check
        self._listing: PeriodicTask | None = None
        self._check_due, self._check_started = False, 0.0
        self._last_pool = workspace.pool  # another object once images or labels beside them changed
        self._checking = threading.Thread()

    @property
    def message(self) -> str:
        """Problem that keeps new studies from coming in; empty if there is none."""
        return self._listing.message if self._listing else ""

    def start(self) -> None:
        """Check the pool and start looking for new studies; a small pool is checked when this returns."""
        workspace = self._workspace
        self._start_check()
        if workspace.folders.in_pacs:
            return
        if len(workspace.pool.cases) <= CHECKED_FIRST:
            self._checking.join()
        self._listing = PeriodicTask(
            lambda: self.listed(workspace.refresh(settled=True)),
            name="listing",
            every_s=workspace.settings.refresh_s,
            share=LISTING_SHARE,
            failing="the studies stay as they were last seen",
        )
        self._listing.start(at_once=False)

    def listed(self, changed: bool) -> None:
        """Check the pool after a listing: at once if it changed, otherwise `RECHECK_S` after the last.

        A label beside the images is no change of the studies, but it is checked before it is learned from.
        """
        changed = changed or self._workspace.pool is not self._last_pool
        if changed or time.monotonic() - self._check_started > RECHECK_S:
            self._check_due = True
        if not self._check_due or self._checking.is_alive():
            return
        if self._workspace.recall_check() and not self._workspace.verdicts.unfetched:
            self._settle()
        else:
            self._start_check()

    def _start_check(self) -> None:
        self._settle()
        self._checking = threading.Thread(target=self.check, name="pool-check", daemon=True)
        self._checking.start()

    def _settle(self) -> None:
        self._check_started, self._last_pool = time.monotonic(), self._workspace.pool
        self._check_due = False

    def check(self) -> None:
        """Check the pool if necessary, and wait for the result.

        The check fails closed: after a failed check, cases that were never checked are not served.
        """
        workspace = self._workspace
        try:
            if not self._is_checked():
                return
        except Exception as err:
            logger.exception("the pool check could not be started, or its result could not be read")
            workspace.verdicts.fail(f"The pool check failed ({type(err).__name__}); {_TRIED_AGAIN}")
            return
        logger.info("pool\n%s%s", as_text(pool_table(workspace)), as_text(check_table(workspace)))
        self._on_checked()

    def _is_checked(self) -> bool:
        """Check the pool if necessary, in another process: a check takes minutes, and clients would wait."""
        workspace = self._workspace
        if workspace.recall_check() and not workspace.verdicts.unfetched:
            return True
        logger.info("checking %d cases", len(workspace.pool.cases))
        ended = self._run_check(workspace)
        if status := ended.returncode:
            stopped = status in _STOPPED or workspace.plan.progress(CHECK_JOB).get("state") == "interrupted"
            logger.error("the pool check failed: %s", ended.stdout[-2000:])
            why = "was stopped" if stopped else f"failed with exit status {status}"
            workspace.verdicts.fail(f"The pool check {why}; {_TRIED_AGAIN}", lasting=not stopped)
            return False
        if not workspace.recall_check():
            logger.warning("the studies changed while they were checked; they will be checked again")
            return False
        return True
