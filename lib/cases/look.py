"""What a listing of the studies found, to tell whether the next one finds the same."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from lib.cases.case import CaseError, Source
from lib.cases.pool import Pool


class Look(NamedTuple):
    """What a pool's files look like from outside.

    Attributes:
        stamps: Case, modality, and names, sizes and times of the image's files.
        labels: Contour beside the images of each case.
    """

    stamps: list[list[str]]
    labels: list[Path | None]

    @classmethod
    def of(cls, pool: Pool) -> Look:
        """As the files are now; one that is gone has a stamp that says so."""
        return cls(
            [
                [case.id, name, _stamp(source)]
                for case in pool.cases
                for name, source in case.modalities.items()
            ],
            [case.label for case in pool.cases],
        )


def _stamp(source: Source) -> str:
    try:
        return source.stamp()
    except CaseError:
        return "gone"
