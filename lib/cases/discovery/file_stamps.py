"""Whether studies are still as they were, without opening a file."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import NamedTuple

from lib.cases.case import Source
from lib.cases.discovery.studies import REGISTER_FILE, SERVERS_OWN
from lib.cases.pool import Pool
from lib.runtime.errors import UserError
from lib.runtime.walk import Entries, below, is_folder


class FileStamps(NamedTuple):
    """What a pool's files look like from outside.

    Attributes:
        images: Case, modality, and names, sizes and times of the image's files.
        labels: Contour beside the images of each case.
    """

    images: list[list[str]]
    labels: list[Path | None]

    @classmethod
    def of(cls, pool: Pool) -> FileStamps:
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
    digest = hashlib.blake2b(digest_size=16)

    def wanted(folder: Path) -> Entries:
        own = SERVERS_OWN if folder == root else set()
        try:
            with os.scandir(folder) as scan:
                found = [entry for entry in scan if not entry.name.startswith(".") and entry.name not in own]
        except OSError:  # gone meanwhile, or nobody may read it
            return []
        found = [entry for entry in found if follow_links or not (entry.is_symlink() and is_folder(entry))]
        return sorted(found, key=lambda entry: entry.name)

    for _, entries, _ in below(root, wanted):
        for entry in entries:
            if is_folder(entry) or entry.name.startswith(REGISTER_FILE):
                continue
            try:
                file = entry.stat()
            except OSError:  # gone meanwhile, or a link to nowhere
                continue
            digest.update(os.fsencode(entry.path) + f" {file.st_size} {file.st_mtime_ns}\n".encode())
    return digest.hexdigest()


def _stamp(source: Source) -> str:
    try:
        return source.stamp()
    except UserError:
        return "gone"
