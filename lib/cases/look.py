"""Whether studies are still as they were, without opening a file."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import NamedTuple

from lib.cases.case import CaseError, Source
from lib.cases.pool import Pool
from lib.cases.studies import REGISTER, SERVERS_OWN


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


def tree_stamp(root: Path, *, follow_links: bool = False) -> str:
    """Changes when a file below a folder comes, goes or changes; not hidden ones and the server's own.

    Listing the cases anew reads the header of every DICOM slice; this reads names, sizes and times.
    """
    digest, known = hashlib.blake2b(digest_size=16), set()
    for place, folders, files in os.walk(root, followlinks=follow_links):
        try:
            itself = os.stat(place)
        except OSError:  # gone meanwhile
            continue
        if (itself.st_dev, itself.st_ino) in known:  # by a link to where we are
            folders.clear()
            continue
        known.add((itself.st_dev, itself.st_ino))
        own = SERVERS_OWN if Path(place) == root else set()
        folders[:] = sorted(name for name in folders if not name.startswith(".") and name not in own)
        for name in sorted(files):
            if name.startswith((".", REGISTER)):
                continue
            path = os.path.join(place, name)
            try:
                file = os.stat(path)
            except OSError:  # gone meanwhile, or a link to nowhere
                continue
            digest.update(os.fsencode(path) + f" {file.st_size} {file.st_mtime_ns}\n".encode())
    return digest.hexdigest()


def _stamp(source: Source) -> str:
    try:
        return source.stamp()
    except CaseError:
        return "gone"
