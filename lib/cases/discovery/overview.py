"""What a folder holds in which no case was found: how many files of which kind, where, and like what."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from lib.cases.discovery.bids import bids_roots
from lib.cases.discovery.brats import BRATS_BEGINNING
from lib.cases.discovery.datasets import dataset_folders, dataset_trouble
from lib.cases.discovery.leftovers import may_be_dicom
from lib.cases.discovery.places import Place
from lib.cases.discovery.studies import Studies, unread_format
from lib.cases.formats.image import suffix_of

_OTHER = "other"
_LISTED = 3  # kinds of files and their folders
_NAMES = {".nii.gz": "NIfTI", ".nii": "NIfTI", ".nrrd": "NRRD"}


def overview(studies: Studies) -> str:
    """Sentences on what a studies folder without a case holds: `1,240 NIfTI files in sub-*/anat; …`."""
    files = _grouped(studies)
    if not files:
        return "It holds no file."
    images = {key: places for key, places in files.items() if key[0] != _OTHER} or files
    largest = sorted(images.items(), key=lambda item: -len(item[1]))
    parts = [_counted(kind, places) for (kind, *_), places in largest[:_LISTED]]
    more = sum(len(places) for _, places in largest[_LISTED:])
    text = f"It holds {', '.join(parts)}" + (f" and {more:,} more elsewhere" if more else "")
    like = _looks_like(studies, {kind for kind, *_ in images})
    return f"{text}; it looks like {like.removesuffix('.')}." if like else f"{text}."


def _grouped(studies: Studies) -> dict[tuple[str, int, str], list[Place]]:
    """Folder of each file by kind, depth and, where there are few, the name of its folder (`anat`)."""
    found = [
        (_kind(entry.name), folder.relative_to(studies.root).parts)
        for folder, entries, _ in studies.tree()
        for entry in entries
        if entry.is_file()
    ]
    names: dict[tuple[str, int], set[str]] = defaultdict(set)
    for kind, place in found:
        names[kind, len(place)].update(place[-1:])
    files: dict[tuple[str, int, str], list[Place]] = defaultdict(list)
    for kind, place in found:
        few = place and len(names[kind, len(place)]) <= _LISTED
        files[kind, len(place), place[-1] if few else ""].append(place)
    return files


def _kind(name: str) -> str:
    suffix = Path(name).suffix.lower()
    if image := suffix_of(Path(name)):
        return _NAMES.get(image, image)
    if unread_format(name):
        return suffix
    if not suffix:
        return "suffixless"
    return "DICOM" if may_be_dicom(name) else _OTHER


def _counted(kind: str, places: Sequence[Place]) -> str:
    noun = "file" if len(places) == 1 else "files"
    where = "/".join(_pattern(names) for names in zip(*places, strict=True))
    return f"{len(places):,} {kind} {noun} in {where or 'the folder itself'}"


def _pattern(names: Sequence[str]) -> str:
    """Name of a folder that stands for several: `sub-*` for `sub-01` and `sub-02`."""
    first, *others = sorted(set(names))
    if not others:
        return first
    shared = os.path.commonprefix([first, *others]).rstrip("0123456789")  # noqa: RUF071 - letters, not folders
    return f"{shared}*"


def _looks_like(studies: Studies, kinds: set[str]) -> str:
    if folders := dataset_folders(studies):
        given = "" if folders[0] == studies.root else f"; give {folders[0]} as the studies folder"
        trouble = dataset_trouble(replace(studies, root=folders[0]))
        return f"nnU-Net or the Decathlon{given}" + (f". {trouble}" if trouble else "")
    if (studies.root / "dataset.json").exists():
        return "nnU-Net or the Decathlon by its dataset.json, but there is no folder imagesTr"
    if bids_roots(studies):
        return "BIDS"
    names = (entry.name.lower() for _, entries, _ in studies.tree() for entry in entries)
    if any(name.startswith(BRATS_BEGINNING) for name in names):
        return "BraTS"
    return "DICOM" if kinds == {"DICOM"} else ""
