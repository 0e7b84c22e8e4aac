"""Stamps that show whether studies changed, without opening a file."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import NamedTuple

from lib.cases.case import Source
from lib.cases.discovery.studies import is_no_study
from lib.cases.pool import Pool
from lib.runtime.errors import UserError
from lib.runtime.walk import Entries, below, is_folder


class FileStamps(NamedTuple):
    """Stamps of the files of a pool.

    Attributes:
        images: Case id, modality and stamp (names, sizes and times of the files) of each volume.
        labels: Case id, path and stamp of each contour beside the images.
        notes: Sentences of each case on what was left out of it.
    """

    images: list[list[str]]
    labels: list[list[str]]
    notes: list[tuple[str, ...]]

    @classmethod
    def of(cls, pool: Pool) -> FileStamps:
        """Stamps of the present files; a missing file has the stamp `gone`."""
        return cls(
            [
                [case.id, name, stamp_of(source)]
                for case in pool.cases
                for name, source in case.modalities.items()
            ],
            [[case.id, str(case.label), stamp_of(Source(case.label))] for case in pool.cases if case.label],
            [case.notes for case in pool.cases],
        )


def tree_stamp(root: Path, *, follow_links: bool = False) -> str:
    """Hash that changes when a file below a folder is added, removed or changed.

    Hidden files and the server's own files do not count. Only names, sizes and times are read, whereas
    finding the cases again reads the header of every DICOM slice.
    """
    digest = hashlib.blake2b(digest_size=16)

    def wanted(folder: Path) -> Entries:
        try:
            with os.scandir(folder) as scan:
                found = [entry for entry in scan if not is_no_study(entry.name, at_root=folder == root)]
        except OSError:  # removed meanwhile, or not readable
            return []
        found = [entry for entry in found if follow_links or not (entry.is_symlink() and is_folder(entry))]
        return sorted(found, key=lambda entry: entry.name)

    for _, entries, _ in below(root, wanted):
        for entry in entries:
            if is_folder(entry):
                continue
            try:
                file = entry.stat()
            except OSError:  # removed meanwhile, or a broken link
                continue
            digest.update(os.fsencode(entry.path) + f" {file.st_size} {file.st_mtime_ns}\n".encode())
    return digest.hexdigest()


def stamp_of(source: Source) -> str:
    """Stamp of the files of a volume: their names, sizes and times; `gone` if one is missing."""
    try:
        return source.stamp()
    except UserError:
        return "gone"
