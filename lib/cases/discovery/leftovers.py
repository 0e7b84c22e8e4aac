"""Files that no case uses: each is named with the reason, so that nothing is left out in silence."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from lib.cases.discovery.datasets import DATASETS
from lib.cases.discovery.studies import ONLY_READ, Studies, unread_format
from lib.cases.formats.dicom_file import read_header
from lib.cases.formats.dicom_folder import DICOM_SUFFIXES
from lib.cases.formats.image import suffix_of
from lib.cases.pool import Pool, Skipped, files_of, printable_path
from lib.runtime.errors import UserError

NO_LAYOUT = "none"  # name of the layout of a pool without cases
_COMPANIONS = {".json", ".bvec", ".bval", ".tsv"}


def leftovers(pool: Pool, studies: Studies) -> list[Skipped]:
    """Files that are neither used by a case nor skipped yet; a folder stands for all files below it.

    Exempt are hidden files and the server's own (`is_no_study`). In a folder of slices that a case uses, the
    DICOM layout itself names the files that are no slices.
    """
    used = {printable_path(path) for case in pool.cases for path in files_of(case.modalities, case.label)}
    if pool.layout in DATASETS:
        used.add(printable_path(studies.root / "dataset.json"))
    covered = {item.path for item in pool.skipped}
    claimed = _with_parents(used | covered)
    kinds = _folders_by_kind(studies)
    found = []
    for folder, entries, _ in studies.tree():
        place = printable_path(folder)
        if place in covered or (place.parent in covered and folder != studies.root):
            covered.add(place)
        elif place not in claimed and folder != studies.root:
            covered.add(place)
            found.append(Skipped(folder, _reason_of_folder(place, pool.layout, kinds)))
        elif place not in used:
            files = [place / entry.name for entry in entries if not entry.is_dir()]
            found += [
                Skipped(path, _reason_of_file(path, studies.root, pool.layout))
                for path in files
                if printable_path(path) not in claimed
            ]
    return found


def may_be_dicom(name: str) -> bool:
    """Whether the name of a file may be that of a DICOM file, which often has no suffix or a number."""
    suffix = os.path.splitext(name)[1].lower()
    return suffix in ("", *DICOM_SUFFIXES) or suffix[1:].isdigit()


def _with_parents(paths: Iterable[Path]) -> set[Path]:
    found: set[Path] = set()
    for path in paths:
        place = path
        while place not in found:  # the parents of a known place are known
            found.add(place)
            place = place.parent
    return found


def _folders_by_kind(studies: Studies) -> dict[str, set[Path]]:
    """Folders with images, and those with images in a format that is not read, at any depth."""
    images, unread = set(), set()
    for folder, entries, volumes in studies.tree():
        names = [entry.name for entry in entries if entry.is_file()]
        if volumes or any(map(may_be_dicom, names)):
            images.add(printable_path(folder))
        elif any(map(unread_format, names)):
            unread.add(printable_path(folder))
    return {"images": _with_parents(images), "unread": _with_parents(unread)}


def _reason_of_folder(place: Path, layout: str, kinds: dict[str, set[Path]]) -> str:
    if place in kinds["images"]:
        return _of_no_case(layout)
    return ONLY_READ if place in kinds["unread"] else "no image is in it."


def _reason_of_file(path: Path, root: Path, layout: str) -> str:
    if not path.is_file():
        return "it must be a file or a folder; it is a broken link, a pipe or a device. Remove it."
    dicom = may_be_dicom(path.name) and (path.suffix or _is_dicom(path))
    if dicom and layout in ("dicom", NO_LAYOUT) and path.parent == root:
        return "a DICOM file must lie in a folder of its patient. Move it into one."
    if suffix_of(path) or dicom:
        return _of_no_case(layout)
    if path.suffix.lower() in _COMPANIONS:
        return "it describes images and is not read."
    return unread_format(path.name) or "it is no image that is read."


def _is_dicom(path: Path) -> bool:
    """Whether a file without a suffix is a DICOM file, with or without preamble; others are a README."""
    try:
        read_header(path, tags=("SOPClassUID",))
    except UserError:
        return False
    return True


def _of_no_case(layout: str) -> str:
    if layout == NO_LAYOUT:
        return "no layout finds a case in it. Compare its name with the examples of the layouts."
    return f"no case was found in it by the layout {layout}. Keep one layout a folder, or set --conf layout."
