"""Result of the last pool check, stored in `check.json` with the stamps of the checked files."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import NotRequired

from typing_extensions import TypedDict

from lib.cases.discovery.file_stamps import FileStamps
from lib.cases.quality.check import PoolReport
from lib.cases.quality.findings import Finding, Status, Verdict
from lib.runtime.files import replacing
from lib.runtime.own_files import Damaged, read_document, set_aside

CHECK_FILE = "check.json"
_CHECK_LOST = (
    "The result of the last pool check cannot be read and was set aside. Cases are served again once the "
    "pool is checked anew."
)


class _Row(TypedDict):
    """Entry of a case in the file."""

    status: Status
    findings: tuple[Finding, ...]
    stamp: NotRequired[str]


class _Document(TypedDict):
    """Content of the file."""

    of: str
    failed: NotRequired[str]
    cases: dict[str, _Row]


@dataclass(frozen=True)
class KeptCheck:
    """Result of the last pool check.

    Attributes:
        of: Fingerprint of the pool that was checked; empty if no check was made.
        verdicts: Verdicts by case id.
        stamps: Stamps of the checked files, by case id.
        failed: Reason why a later check failed or the result could not be read; empty if all is well. While
            it is set, unchecked cases are not served.
    """

    of: str = ""
    verdicts: Mapping[str, Verdict] = field(default_factory=dict)
    stamps: Mapping[str, str] = field(default_factory=dict)
    failed: str = ""

    @classmethod
    def read(cls, folder: Path) -> KeptCheck:
        """Read the result from a folder; a damaged file counts as a failed check."""
        file = folder / CHECK_FILE
        try:
            document = read_document(file, _Document)
        except FileNotFoundError:
            return cls()
        except Damaged as err:
            set_aside(file, f"{err}. The pool is checked again.")
            failed = cls(failed=_CHECK_LOST)
            with suppress(OSError):  # otherwise another process would conclude that no check was made
                failed.write(folder)
            return failed
        rows = document["cases"]
        return cls(
            document["of"],
            {id: Verdict(row["status"], row["findings"]) for id, row in rows.items()},
            {id: row.get("stamp", "") for id, row in rows.items()},
            document.get("failed", ""),
        )

    def write(self, folder: Path) -> None:
        """Write the result to a folder.

        Raises:
            OSError: If the folder cannot be written.
        """
        document = {"of": self.of, "failed": self.failed, **PoolReport(dict(self.verdicts)).to_json()}
        for id, row in document["cases"].items():
            row["stamp"] = self.stamps.get(id, "")
        with replacing(folder / CHECK_FILE) as part:
            part.write_text(json.dumps(document))

    def unchanged_cases(self, now: FileStamps) -> set[str]:
        """Ids of the cases whose files are unchanged since the check."""
        return {id for id, stamp in case_stamps(now).items() if self.stamps.get(id) == stamp}


def case_stamps(now: FileStamps) -> dict[str, str]:
    """Stamps of all images of each case, by case id."""
    found: dict[str, list[str]] = {}
    for case, modality, stamp in now.images:
        found.setdefault(case, []).append(f"{modality} {stamp}")
    return {case: ", ".join(sorted(stamps)) for case, stamps in found.items()}
