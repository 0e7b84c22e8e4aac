"""Which cases are served: those that the last pool check did not hold back."""

from __future__ import annotations

import logging
from collections.abc import Collection
from dataclasses import replace
from pathlib import Path

from lib.cases.case import Case, CaseError
from lib.cases.discovery.found_pool import FoundPool
from lib.cases.quality.findings import UNFETCHED, Verdict
from lib.cases.quality.kept_check import KeptCheck

logger = logging.getLogger(__name__)


class Quarantined(CaseError):
    """A case that the pool check holds back."""


class Verdicts:
    """What the last pool check says of the cases that are there.

    Attributes:
        by_case: Verdict by case id; empty where no check was made.
        quarantined: Ids of the cases that the check holds back and nobody released.
        unchecked: Ids of the cases held back because the last check failed and none saw their files.
        served: The other cases.
    """

    def __init__(self, found: FoundPool, folder: Path, released: Collection[str]) -> None:
        """Take the result that is kept in a folder.

        Args:
            found: The cases.
            folder: Where the result is kept.
            released: Ids of cases that a person looked at and found good in spite of the check.
        """
        self._found, self._folder, self._released = found, folder, released
        self.by_case: dict[str, Verdict] = {}
        self.quarantined: set[str] = set()
        self.unchecked: set[str] = set()
        self.served: tuple[Case, ...] = found.pool.cases
        self._kept = KeptCheck()
        if found.pool.cases:
            self.recall()

    def recall(self) -> str:
        """Take the result that is kept; the state of the pool that it is of, empty if it is of none.

        Where files changed since, a case keeps the verdict that it had: one that was held back stays back
        until the next check.
        """
        kept = KeptCheck.read(self._folder)
        if kept.failed and not kept.of:  # what this process knows is better than what cannot be read
            kept = replace(self._kept, failed=kept.failed)
        self._take(kept)
        return "" if kept.failed else kept.of

    def keep(self, kept: KeptCheck) -> None:
        """Write a result where other processes find it, and take it."""
        kept.write(self._folder)
        self._take(kept)

    def fail(self, why: str, *, lasting: bool = True) -> None:
        """Serve nothing that was never checked until a check has succeeded.

        Args:
            why: What happened, in a sentence.
            lasting: In the processes that are started after this one too.
        """
        kept = replace(self._kept, failed=why)
        self._take(kept)
        if not lasting:
            return
        try:
            kept.write(self._folder)
        except OSError as err:  # a full disk may be why it failed
            logger.warning("that the pool check failed could not be kept: %s", err)

    def apply(self) -> None:
        """Apply the result to the cases as they are found now."""
        self._take(self._kept)

    def resolve(self, name: str) -> tuple[Case, str | None]:
        """The served case that a name means, and the modality where the name is a sibling's.

        Raises:
            CaseError: If no case has this name.
            Quarantined: If the case is held back; the message says why.
        """
        case, modality = self._found.pool.resolve(name)
        if case.id in self.quarantined:
            why = " ".join(self.findings(case.id))
            raise Quarantined(
                f"case {case.id} is quarantined. {why} Once it was looked at: --conf released {case.id}"
            )
        if case.id in self.unchecked:
            raise Quarantined(f"case {case.id} must be checked before it is served. {self.trouble}")
        return case, modality

    def findings(self, case_id: str) -> list[str]:
        """What the pool check says of a case, in sentences."""
        verdict = self.by_case.get(case_id)
        return [finding.sentence for finding in verdict.findings] if verdict else []

    @property
    def trouble(self) -> str:
        """Why the pool could not be checked, and what that means; empty where it could."""
        if not self._kept.failed:
            return ""
        held = (
            f" Not checked and held back until then: {len(self.unchecked):,} cases." if self.unchecked else ""
        )
        return f"{self._kept.failed}{held}"

    @property
    def unfetched(self) -> bool:
        """Whether the last check lacked a series that the PACS did not give; it may give it now."""
        return any(
            finding.code == UNFETCHED for verdict in self.by_case.values() for finding in verdict.findings
        )

    def _take(self, kept: KeptCheck) -> None:
        self._kept, pool = kept, self._found.pool
        self.by_case = {id: kept.verdicts[id] for id in pool.by_id if id in kept.verdicts}
        self.quarantined = {
            id
            for id, verdict in self.by_case.items()
            if verdict.status == "quarantined" and id not in self._released
        }
        unchecked = pool.by_id.keys() - kept.of_cases(self._found.stamps) if kept.failed else set()
        self.unchecked = unchecked - self.quarantined
        held = self.quarantined | self.unchecked
        self.served = tuple(case for case in pool.cases if case.id not in held)
