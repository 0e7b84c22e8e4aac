"""Cases that a person looked at and released although the pool check holds them back."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path

from filelock import FileLock
from typing_extensions import TypedDict

from lib.cases.quality.findings import LABEL_MISPLACED, Verdict
from lib.runtime.files import replacing
from lib.runtime.own_files import Damaged, read_document, set_aside


class Review(TypedDict):
    """What a person released.

    Attributes:
        by: Name of the person; empty if nobody gave one.
        at: Time of the release, ISO 8601.
        files: Stamp of the case's files as they were then.
        reasons: Reasons that the check had for holding the case or its label back.
    """

    by: str
    at: str
    files: str
    reasons: list[str]


class Releases:
    """Book of the released cases, in one file; it belongs to the labels, as it holds people's decisions.

    A release holds for what was looked at: where the files of a case change, or the check finds another
    reason, the case is held back again.
    """

    def __init__(self, file: Path) -> None:
        """Use a file, which need not exist yet."""
        self._file = file

    def holding(self, verdicts: Mapping[str, Verdict], files: Callable[[str], str]) -> dict[str, Review]:
        """Releases that hold, by case id.

        Args:
            verdicts: Verdict by case id.
            files: Returns the stamp of the files of a case, by its id.
        """
        return {
            id: review
            for id, review in self._read().items()
            if id in verdicts
            and review["files"] == files(id)
            and set(reasons(verdicts[id])) <= set(review["reasons"])
        }

    def write(self, case_id: str, verdict: Verdict, files: str, *, by: str) -> None:
        """Record that a person released a case as it is now."""
        at = datetime.now(UTC).isoformat(timespec="seconds")
        self._change(case_id, Review(by=by, at=at, files=files, reasons=reasons(verdict)))

    def withdraw(self, case_id: str) -> None:
        """Record that a case is no longer released."""
        self._change(case_id, None)

    def _change(self, case_id: str, review: Review | None) -> None:
        self._file.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(self._file.with_name(f".{self._file.name}.lock")):
            book = {id: kept for id, kept in self._read().items() if id != case_id}
            book |= {case_id: review} if review else {}
            with replacing(self._file) as part:
                part.write_text(json.dumps(book, indent=1))

    def _read(self) -> dict[str, Review]:
        try:
            return read_document(self._file, dict[str, Review])
        except (FileNotFoundError, NotADirectoryError):
            return {}
        except Damaged as err:
            set_aside(self._file, f"{err}. The cases that were released on the page are held back again.")
            return {}


def reasons(verdict: Verdict) -> list[str]:
    """Why the check holds a case or its label back: what a person judges who releases it."""
    return sorted(
        {
            " ".join([found.code, *sorted(found.modalities)])
            for found in verdict.findings
            if found.severity == "quarantined" or found.code == LABEL_MISPLACED
        }
    )


def how_to_release(case_id: str) -> str:
    """What a person does who looked at a case and found it good; ends a sentence."""
    return f"release it on the page, under Check, or with --conf released={case_id}."
