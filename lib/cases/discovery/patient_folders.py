"""Layouts named by folders and files alone: one folder a case, and files with the modality as suffix."""

from __future__ import annotations

from collections import Counter, defaultdict
from pathlib import Path

from lib.cases.discovery.drafts import NOT_A_MODALITY, Draft
from lib.cases.discovery.file_names import (
    composed,
    is_known,
    last_word,
    name_of,
    split_name,
    without_prefix,
)
from lib.cases.discovery.places import Place, ids_of, patient_in, patients_of
from lib.cases.discovery.studies import Studies
from lib.cases.modalities import is_label_name, kind, parse_modality
from lib.cases.pool import Pool


def find_folders(studies: Studies) -> Pool:
    """One folder a case, one file a modality: `STS_001/CT.nii.gz`, `STS_001/STS_001_CT.nii.gz`.

    The folder may lie at any depth: `HGG/Brats18_X/T1.nii.gz`, `p01/ses-2/T1.nii.gz`. Its id is its name,
    with the names of the folders above it where it needs them (`ids_of`). Its patient is the topmost folder
    above it, unless that holds patients rather than sessions (`patients_of`).

    A folder below a case that is named for a modality and holds one image is that modality:
    `p01/ses-2/T1/scan.nii.gz`. If one such folder of a case holds several images without the name of a
    modality, they may be several patients', and none is used.
    """
    drafts: dict[Place, Draft] = defaultdict(Draft)
    series: dict[Place, list[tuple[str, Path]]] = defaultdict(list)
    for folder, _, images in studies.tree():
        place = _place(studies, folder)
        if len(place) > 1 and (parsed := parse_modality(place[-1], studies.extra)):
            series[place[:-1]] += ((parsed[0], path) for path in images)
        elif place:
            draft = drafts[place]
            for path in images:
                word = _word(name_of(path), place, studies.extra)
                if not draft.add(studies, path, word):
                    studies.skip(path, NOT_A_MODALITY.format(word=word))
    for place, scans in series.items():
        _add_series(studies, drafts[place], scans)
    places = [place for place, draft in drafts.items() if draft.sources]
    rest = [place for place, draft in drafts.items() if draft.labels and not draft.sources]
    named = zip([*places, *rest], [*ids_of(places), *map("_".join, rest)], strict=True)
    patients = dict(zip(places, patients_of(places), strict=True))
    cases = [drafts[place].finish(studies, id, "folder", patients.get(place, id)) for place, id in named]
    return studies.pool("folder", cases)


def find_flat(studies: Studies) -> Pool:
    """Many cases in one folder, the modality as suffix: `p01_T1.nrrd`, `p01_MR_T1.nii.gz`, `p01-flair.nii`.

    The folder may be the studies folder or lie below it. A folder named for a modality counts as the folder
    above it, and names the modality if no file in it does: `CT/p01.nii.gz`, `PET/p01.nii.gz`.
    """
    drafts: dict[Place, Draft] = {}
    for folder, _, images in studies.tree():
        place = _place(studies, folder)
        series = parse_modality(place[-1], studies.extra) if place else None
        above = place[:-1] if series else place
        for path, split in _split(images, place[-1] if series else "", studies.extra).items():
            if split is None or not split[0]:
                studies.skip(path, NOT_A_MODALITY.format(word=last_word(name_of(path))))
            elif series and (conflict := _conflict(split[1], series[0], studies.extra)):
                studies.skip(path, conflict)
            else:
                drafts.setdefault((*above, split[0]), Draft()).add(studies, path, split[1])
    ids = _flat_ids(drafts)
    cases = [draft.finish(studies, ids[place], "flat", _patient(place)) for place, draft in drafts.items()]
    return studies.pool("flat", cases)


def _split(images: list[Path], series: str, extra: tuple[str, ...]) -> dict[Path, tuple[str, str] | None]:
    """Case and modality in the name of each file; `series` if their folder names the modality of all."""
    split = {path: split_name(name_of(path), extra) for path in images}
    if series and not any(split.values()) and not any(map(_is_of_bids, images)):
        return {path: (name_of(path), series) for path in images}
    return split


def _is_of_bids(path: Path) -> bool:
    """Whether a name is that of a BIDS file, which says itself what it is."""
    return path.name.startswith("sub-")


def _place(studies: Studies, folder: Path) -> Place:
    return folder.relative_to(studies.root).parts


def _word(name: str, place: Place, extra: tuple[str, ...]) -> str:
    """The word of a file's name that should name its modality: what follows the name of its case."""
    if is_known(name, extra):
        return name
    place = tuple(map(composed, place))
    above = ["_".join(place[-levels:]) for levels in range(len(place), 0, -1)]
    for prefix in (*above, *place[:-1]):
        if rest := without_prefix(name, prefix):
            return rest
    split = split_name(name, extra)
    if split and without_prefix(place[-1], split[0]):  # UCSF-PDGM-0004_nifti/UCSF-PDGM-0004_FLAIR.nii.gz
        return split[1]
    return name


def _add_series(studies: Studies, draft: Draft, images: list[tuple[str, Path]]) -> None:
    """Add the images of the folders of a case that are named for a modality."""
    split = {path: split_name(name_of(path), studies.extra) for _, path in images}
    scans = Counter(series for series, path in images if _is_scan(split[path]))
    crowded = {series for series, path in images if split[path] is None and scans[series] > 1}
    for series, path in images:
        named = split[path]
        if named is None and not crowded and not _is_of_bids(path):
            draft.add(studies, path, series)
        elif named is None:
            studies.skip(
                path,
                f"a folder named {series}, and those beside it, must hold one image, or images named for "
                "their modality. Rename the image.",
            )
        elif conflict := _conflict(named[1], series, studies.extra):
            studies.skip(path, conflict)
        else:
            draft.add(studies, path, named[1])


def _is_scan(split: tuple[str, str] | None) -> bool:
    """Whether a file is no label by its name."""
    return split is None or not is_label_name(split[1])


def _conflict(word: str, series: str, extra: tuple[str, ...]) -> str:
    """Reason if a file names another modality than its folder does; empty otherwise. `MR` is any MR."""
    parsed = parse_modality(word, extra)
    if parsed is None or parsed[0] == series or (series == "MR" and kind(parsed[0]) == "MR"):
        return ""
    return f"its folder and its name must agree; the folder says {series}, the name {parsed[0]}. Rename one."


def _flat_ids(drafts: dict[Place, Draft]) -> dict[Place, str]:
    """Id of each case: what precedes the modality, with its folder's name if another folder has it too."""
    shared = Counter(place[-1].lower() for place, draft in drafts.items() if draft.sources)
    return {
        place: place[-1] if shared[place[-1].lower()] < 2 else composed("_".join(place[-2:]))
        for place in drafts
    }


def _patient(place: Place) -> str:
    """Patient of a case: its folder if the case is named for it (`p01/p01_a`), otherwise by its own name."""
    folder = composed(place[-2]) if len(place) > 1 else ""
    return folder if folder and without_prefix(place[-1], folder) else patient_in(place[-1])
