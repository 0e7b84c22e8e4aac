"""The last pool check as it is kept in a site's `check.json`: which files each verdict is of."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from lib.atomic import replacing
from lib.cases.check import PoolReport, Verdict
from lib.cases.look import Look

FILE = "check.json"


@dataclass(frozen=True)
class KeptCheck:
    """What is known of a pool from its last check.

    Attributes:
        of: State of the whole pool that was checked; empty where none was.
        verdicts: By case.
        stamps: Of the files that each verdict is of, by case.
        failed: Why the check after that could not be made, or read back, in a sentence; empty where all is
            well. What was not checked is not served then.
    """

    of: str = ""
    verdicts: Mapping[str, Verdict] = field(default_factory=dict)
    stamps: Mapping[str, str] = field(default_factory=dict)
    failed: str = ""

    @classmethod
    def read(cls, folder: Path) -> KeptCheck:
        """What is kept in a folder; a damaged file counts as a check that failed."""
        file = folder / FILE
        try:
            document = json.loads(file.read_bytes())
            verdicts = PoolReport.from_json(document).verdicts
            stamps = {str(id): str(row.get("stamp", "")) for id, row in document["cases"].items()}
            return cls(str(document["of"]), verdicts, stamps, str(document.get("failed", "")))
        except FileNotFoundError:
            return cls()
        except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError) as err:
            return cls(
                failed=f"The result of the last pool check cannot be read ({type(err).__name__} in {file}). "
                "Cases are served again once the pool is checked anew."
            )

    def write(self, folder: Path) -> None:
        """Keep it in a folder.

        Raises:
            OSError: If the folder cannot be written.
        """
        document = {"of": self.of, "failed": self.failed, **PoolReport(dict(self.verdicts)).to_json()}
        for id, row in document["cases"].items():
            row["stamp"] = self.stamps.get(id, "")
        with replacing(folder / FILE) as part:
            part.write_text(json.dumps(document))

    def of_cases(self, look: Look) -> set[str]:
        """The cases whose files are those that were checked."""
        return {id for id, stamp in case_stamps(look).items() if self.stamps.get(id) == stamp}


def case_stamps(look: Look) -> dict[str, str]:
    """What the images of each case look like from outside, by case."""
    found: dict[str, list[str]] = {}
    for case, modality, stamp in look.stamps:
        found.setdefault(case, []).append(f"{modality} {stamp}")
    return {case: ", ".join(sorted(stamps)) for case, stamps in found.items()}
