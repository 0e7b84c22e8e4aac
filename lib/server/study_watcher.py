"""Watching the studies of a running server: what comes, changes or goes is checked, then scored."""

from __future__ import annotations

import logging
import signal
import threading
import time
from collections.abc import Callable
from subprocess import CompletedProcess

from lib.pipeline.checking import CHECK
from lib.pipeline.workspace import Workspace
from lib.runtime.periodic import PeriodicTask
from lib.server.subprocesses import check_in_background
from lib.views.terminal.tables import as_text, check_table, pool_table

CHECKED_FIRST = 64  # cases of a pool in a folder that is not served before it is checked
RECHECK_S = 600.0  # after which a check that failed, or lacked series of the PACS, is made again
LISTING_SHARE = 0.01  # of the time that a folder is being listed: computing, which holds up those who ask
_TRIED_AGAIN = "the server's log says why. It is tried again within minutes."
_STOPPED = (-signal.SIGINT, -signal.SIGTERM)  # exit status of a check that somebody ended
logger = logging.getLogger(__name__)


class StudyWatcher:
    """Checks the pool when a server starts and whenever its studies changed.

    A folder is listed here, every `refresh_s`; a PACS is listed by the exchange of labels, which then calls
    `listed`.
    """

    def __init__(
        self,
        workspace: Workspace,
        *,
        on_checked: Callable[[], None],
        run_check: Callable[[Workspace], CompletedProcess[str]] = check_in_background,
    ) -> None:
        """Nothing is checked yet.

        Args:
            workspace: Whose studies.
            on_checked: Told when the verdicts are those of the studies as they are.
            run_check: Runs the pool check in a process of its own and leaves its result in the workspace.
        """
        self._workspace, self._on_checked, self._run_check = workspace, on_checked, run_check
        self._listing: PeriodicTask | None = None
        self._check_due, self._check_started = False, 0.0
        self._checking = threading.Thread()

    @property
    def message(self) -> str:
        """What keeps new studies from coming in; empty where nothing does."""
        return self._listing.message if self._listing else ""

    def start(self) -> None:
        """Check the pool and look for studies that come; a small pool is checked when this ends."""
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
        """Check what changed now, and some minutes later what was missed or could not be fetched."""
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
        self._check_started = time.monotonic()
        self._check_due = False

    def check(self) -> None:
        """Check the pool if it has to be, and wait for it.

        It fails closed: what was never checked is not served once a check has failed.
        """
        workspace = self._workspace
        try:
            if not self._is_checked():
                return
        except Exception as err:
            logger.exception("the pool check could not be started or its result not be read")
            workspace.verdicts.fail(f"The pool check failed ({type(err).__name__}); {_TRIED_AGAIN}")
            return
        logger.info("pool\n%s%s", as_text(pool_table(workspace)), as_text(check_table(workspace)))
        self._on_checked()

    def _is_checked(self) -> bool:
        """Check the pool if it has to be; in a process of its own, as it takes minutes and clients wait."""
        workspace = self._workspace
        if workspace.recall_check() and not workspace.verdicts.unfetched:
            return True
        logger.info("checking %d cases", len(workspace.pool.cases))
        ended = self._run_check(workspace)
        if status := ended.returncode:
            stopped = status in _STOPPED or workspace.plan.progress(CHECK).get("state") == "interrupted"
            logger.error("the pool check failed: %s", ended.stdout[-2000:])
            why = "was stopped" if stopped else f"failed with exit status {status}"
            workspace.verdicts.fail(f"The pool check {why}; {_TRIED_AGAIN}", lasting=not stopped)
            return False
        if not workspace.recall_check():
            logger.warning("the studies changed while they were checked; they will be checked again")
            return False
        return True
