"""Verdicts of the last pool check, which decide which cases are served."""

from __future__ import annotations

import logging
from collections.abc import Collection
from dataclasses import replace
from pathlib import Path

from lib.cases.case import Case, CaseError, Source
from lib.cases.discovery.file_stamps import stamp_of
from lib.cases.discovery.found_pool import FoundPool
from lib.cases.quality.findings import LABEL_MISPLACED, LABEL_UNUSABLE, UNFETCHED, Verdict
from lib.cases.quality.kept_check import KeptCheck
from lib.cases.quality.releases import Releases, Review, how_to_release
from lib.runtime.errors import UserError
from lib.runtime.words import counted

logger = logging.getLogger(__name__)


class Quarantined(CaseError):
    """The pool check holds this case back."""


class Verdicts:
    """Verdicts of the last pool check on the present cases.

    Attributes:
        by_case: Verdict by case id; empty if no check was made.
        reviews: Cases that a person released on the page, by case id.
        released: Ids of all released cases, also of those that a setting names.
        quarantined: Ids of the cases that the check holds back and nobody released.
        unchecked: Ids of the cases held back because the last check failed and never saw their files.
        served: All other cases.
        labels_held: Ids of the cases whose label beside the images the check holds back; the set is
            replaced, never changed.
    """

    def __init__(self, found: FoundPool, folder: Path, released: Collection[str], releases: Releases) -> None:
        """Read the stored result from a folder.

        Args:
            found: Pool of the cases.
            folder: Folder of the stored result.
            released: Ids of the cases that a setting releases in spite of the check.
            releases: Book of the cases that were released on the page.
        """
        self._found, self._folder, self._by_setting, self._releases = found, folder, released, releases
        self.reviews: dict[str, Review] = {}
        self.released = frozenset(released)
        self.by_case: dict[str, Verdict] = {}
        self.quarantined: set[str] = set()
        self.unchecked: set[str] = set()
        self.served: tuple[Case, ...] = found.pool.cases
        self.labels_held: frozenset[str] = frozenset()
        self._kept = KeptCheck()
        if found.pool.cases:
            self.recall()

    def recall(self) -> str:
        """Apply the stored result; return the fingerprint of the pool that it belongs to, or an empty text.

        A case whose files changed since then keeps its verdict: a quarantined case stays quarantined until
        the next check.
        """
        kept = KeptCheck.read(self._folder)
        if kept.failed and not kept.of:  # keep this process's result if the file is unreadable
            kept = replace(self._kept, failed=kept.failed)
        self._take(kept)
        return "" if kept.failed else kept.of

    def keep(self, kept: KeptCheck) -> None:
        """Store a result for all processes, and apply it."""
        kept.write(self._folder)
        self._take(kept)

    def fail(self, why: str, *, lasting: bool = True) -> None:
        """Record a failed check: until a check succeeds, unchecked cases are not served.

        Args:
            why: Reason of the failure, as a sentence.
            lasting: Whether to store the failure for processes that start later.
        """
        kept = replace(self._kept, failed=why)
        self._take(kept)
        if not lasting:
            return
        try:
            kept.write(self._folder)
        except OSError as err:  # a full disk may have caused the failure
            logger.warning("the failure of the pool check could not be recorded: %s", err)

    def apply(self) -> None:
        """Apply the result again to the present cases."""
        self._take(self._kept)

    def resolve(self, name: str) -> tuple[Case, str | None]:
        """Served case for a name, and the modality if the name belongs to one volume.

        Raises:
            CaseError: If no case has this name.
            Quarantined: If the case is held back; the message says why.
        """
        case, modality = self._found.pool.resolve(name)
        if case.id in self.quarantined:
            why = " ".join(self.findings(case.id))
            raise Quarantined(
                f"case {case.id} is quarantined. {why} Once it was reviewed, {how_to_release(case.id)}"
            )
        if case.id in self.unchecked:
            raise Quarantined(f"case {case.id} must be checked before it is served. {self.trouble}")
        return case, modality

    def findings(self, case_id: str) -> list[str]:
        """Sentences of the pool check's findings on a case."""
        verdict = self.by_case.get(case_id)
        return [finding.sentence for finding in verdict.findings] if verdict else []

    def is_held(self, case_id: str) -> bool:
        """Whether a release would let a case, or its label, be used."""
        return case_id in self.quarantined or (
            case_id in self.labels_held and LABEL_UNUSABLE not in self._codes(case_id)
        )

    def release(self, case_id: str, *, by: str) -> None:
        """Release a case that a person looked at, or its label.

        Args:
            case_id: Id of the case.
            by: Name of the person; empty if it is not known.

        Raises:
            UserError: If the check holds neither the case nor its label back.
        """
        if not self.is_held(case_id):
            raise UserError(f"to be released, case {case_id} must be held back by the pool check; it is not.")
        self._releases.write(case_id, self.by_case[case_id], self._files(case_id), by=by)
        self.apply()

    def hold_back(self, case_id: str) -> None:
        """Take back the release of a case.

        Raises:
            UserError: If the case was not released on the page.
        """
        if case_id not in self.reviews:
            where = "by the setting released; change it" if case_id in self.released else "by nobody"
            raise UserError(f"case {case_id} must have been released on the page; it was released {where}.")
        self._releases.withdraw(case_id)
        self.apply()

    @property
    def trouble(self) -> str:
        """Reason why the pool could not be checked, and the number of cases held back; empty if it could."""
        if not self._kept.failed:
            return ""
        left = len(self.unchecked)
        held = f" Not checked and held back until then: {counted(left)}." if left else ""
        return f"{self._kept.failed}{held}"

    @property
    def unfetched(self) -> bool:
        """Whether the last check lacked a series from the PACS, so that a new check may succeed."""
        return any(
            finding.code == UNFETCHED for verdict in self.by_case.values() for finding in verdict.findings
        )

    def _take(self, kept: KeptCheck) -> None:
        self._kept, pool = kept, self._found.pool
        self.by_case = {id: kept.verdicts[id] for id in pool.by_id if id in kept.verdicts}
        self.reviews = self._releases.holding(self.by_case, self._files)
        self.released = frozenset({*self._by_setting, *self.reviews})
        self.quarantined = {
            id
            for id, verdict in self.by_case.items()
            if verdict.status == "quarantined" and id not in self.released
        }
        unchecked = pool.by_id.keys() - kept.unchanged_cases(self._found.stamps) if kept.failed else set()
        self.unchecked = unchecked - self.quarantined
        held = self.quarantined | self.unchecked
        self.served = tuple(case for case in pool.cases if case.id not in held)
        self.labels_held = frozenset(id for id in self.by_case if self._holds_label(id))

    def _holds_label(self, case_id: str) -> bool:
        codes = self._codes(case_id)
        return LABEL_UNUSABLE in codes or (LABEL_MISPLACED in codes and case_id not in self.released)

    def _codes(self, case_id: str) -> set[str]:
        return {finding.code for finding in self.by_case[case_id].findings}

    def _files(self, case_id: str) -> str:
        """Stamp of the images of a case at its last check, and of its label beside the images."""
        case = self._found.pool.by_id[case_id]
        label = stamp_of(Source(case.label)) if case.label else ""
        return f"{self._kept.stamps.get(case_id, '')} {label}"
