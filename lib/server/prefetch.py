"""Prefetching: the next cases of the plan are fetched and segmented before anyone asks for them."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence, Set

from lib.cases.case import Case
from lib.pipeline.segmentation import Segmenter
from lib.pipeline.workspace import Workspace
from lib.runtime.errors import UserError
from lib.runtime.periodic import PeriodicTask
from lib.server.subprocesses import segment_in_background

logger = logging.getLogger(__name__)
_LOOK_S = 5.0  # plans and models come from other processes, which do not notify this one
_RETRY_S = 60.0  # interval after which a PACS that did not send a series is asked again


class Prefetcher:
    """Fetches the next open cases of the plan and segments them with the current model, in one process.

    Segmentations of an earlier model, or of an earlier state of a case, are not served; they are dropped.
    """

    def __init__(self, workspace: Workspace, labelled: Callable[[], Set[str]]) -> None:
        """Create a prefetcher; it does nothing before `start`.

        Args:
            workspace: Workspace of the plan and the model.
            labelled: Returns the ids of the labelled cases.
        """
        self.workspace, self.labelled = workspace, labelled
        self.segmenter = Segmenter(workspace)
        self._offered = ""
        self._failed: set[tuple[str, str]] = set()  # (model, case's content): not tried twice
        self._fetch_after = 0.0
        self._turns = PeriodicTask(
            self._catch_up, name="prefetch", every_s=_LOOK_S, share=1.0, failing="nothing is segmented ahead"
        )

    def start(self) -> None:
        """Look for work regularly while this process lives; does nothing if the setting `prefetch` is 0."""
        if self.workspace.settings.prefetch:
            self._turns.start()

    def look(self, offered: str = "") -> None:
        """Look for work now, in the background.

        Args:
            offered: Case that was just offered to a reader; the prefetched cases are those that follow it.
        """
        self._offered = offered or self._offered
        self._turns.wake()

    def next_cases(self) -> list[Case]:
        """The next unlabelled cases of the plan; none before there is a plan."""
        plan = self.workspace.plan.current()
        if plan is None:
            return []
        order = self.workspace.plan.order(self.workspace.settings.strategy, plan=plan.id)
        place = order.index(self._offered) + 1 if self._offered in order else 0
        served, done = {case.id: case for case in self.workspace.verdicts.served}, self.labelled()
        ahead = [id for id in (*order[place:], *order[:place]) if id in served and id not in done]
        return [served[id] for id in ahead[: self.workspace.settings.prefetch]]

    def unsegmented(self) -> list[Case]:
        """The next cases that are not segmented yet; none before there is a model."""
        model = self.segmenter.published()
        if model is None:
            return []
        return [case for case in self.next_cases() if not self._is_settled(case, model.key)]

    def run(self) -> list[Case]:
        """Fetch the next cases, segment them in another process, and return the cases to segment."""
        self._fetch(self.next_cases())
        if time.monotonic() < self._fetch_after:
            return []
        wanted, model = self.unsegmented(), self.segmenter.published()
        if model is None:
            return []
        self.segmenter.cache.keep_only(model.key)
        if not wanted:
            return []
        ended = segment_in_background(self.workspace, [case.id for case in wanted])
        for case in wanted:
            if not self.segmenter.is_ready(case) and self.segmenter.published() == model:
                self._failed.add((model.key, self.workspace.cache.key(case)))
                logger.warning(
                    "%s could not be segmented in advance: %s", case.id, ended.stdout[-500:].strip()
                )
        return wanted

    def _fetch(self, cases: Sequence[Case]) -> None:
        if time.monotonic() < self._fetch_after:
            return
        for source in [source for case in cases for source in case.modalities.values()]:
            try:
                source.make_local()
            except UserError as err:  # a reader who asks for the case gets the same message
                self._fetch_after = time.monotonic() + _RETRY_S
                logger.warning("prefetch failed: %s", err)
                return

    def _is_settled(self, case: Case, model: str) -> bool:
        try:
            return (model, self.workspace.cache.key(case)) in self._failed or self.segmenter.is_ready(case)
        except UserError:  # the files are gone; a reader who asks for the case is told
            return True

    def _catch_up(self) -> None:
        while self.run():
            pass
