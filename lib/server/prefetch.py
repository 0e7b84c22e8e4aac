"""The next cases of the plan, fetched and segmented before anyone asks."""

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
_LOOK_S = 5.0  # plans and models come from other processes, which tell nobody
_RETRY_S = 60.0  # after which a PACS that did not give a series is asked again


class Prefetcher:
    """Keeps the first open cases of the plan here and segmented by the current model, one process at a time.

    What an earlier model said, or said of a case that has changed, is not served and is dropped.
    """

    def __init__(self, workspace: Workspace, labelled: Callable[[], Set[str]]) -> None:
        """Nothing is started yet.

        Args:
            workspace: Whose plan and model.
            labelled: Tells the ids of the cases that have a label.
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
        """Look now and then, for as long as this process lives; nothing where the site wants no prefetch."""
        if self.workspace.settings.prefetch:
            self._turns.start()

    def look(self, offered: str = "") -> None:
        """Look now; returns at once.

        Args:
            offered: Case that was just offered to somebody; what follows it in the plan is next.
        """
        self._offered = offered or self._offered
        self._turns.wake()

    def following(self) -> list[Case]:
        """The next cases of the plan that have no label; none before there is a plan."""
        plan = self.workspace.plan.current()
        if plan is None:
            return []
        order = self.workspace.plan.order(self.workspace.settings.strategy, plan=plan.id)
        place = order.index(self._offered) + 1 if self._offered in order else 0
        served, done = {case.id: case for case in self.workspace.verdicts.served}, self.labelled()
        ahead = [id for id in (*order[place:], *order[:place]) if id in served and id not in done]
        return [served[id] for id in ahead[: self.workspace.settings.prefetch]]

    def wanted(self) -> list[Case]:
        """Those of them that are not segmented yet; none before there is a model."""
        model = self.segmenter.published()
        if model is None:
            return []
        return [case for case in self.following() if not self._is_settled(case, model.key)]

    def run(self) -> list[Case]:
        """Fetch what follows, then segment what is wanted in a process of its own; what was wanted."""
        self._fetch(self.following())
        if time.monotonic() < self._fetch_after:
            return []
        wanted, model = self.wanted(), self.segmenter.published()
        if model is None:
            return []
        self.segmenter.cache.keep_only(model.key)
        if not wanted:
            return []
        ended = segment_in_background(self.workspace, [case.id for case in wanted])
        for case in wanted:
            if not self.segmenter.is_ready(case) and self.segmenter.published() == model:
                self._failed.add((model.key, self.workspace.cache.key(case)))
                logger.warning("%s could not be segmented ahead: %s", case.id, ended.stdout[-500:].strip())
        return wanted

    def _fetch(self, cases: Sequence[Case]) -> None:
        if time.monotonic() < self._fetch_after:
            return
        for source in [source for case in cases for source in case.modalities.values()]:
            try:
                source.make_local()
            except UserError as err:  # who asks for it is told so too
                self._fetch_after = time.monotonic() + _RETRY_S
                logger.warning("not fetched ahead: %s", err)
                return

    def _is_settled(self, case: Case, model: str) -> bool:
        try:
            return (model, self.workspace.cache.key(case)) in self._failed or self.segmenter.is_ready(case)
        except UserError:  # its files are gone; who asks for it is told so
            return True

    def _catch_up(self) -> None:
        while self.run():
            pass
