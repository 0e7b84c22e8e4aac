"""Search for the cases of a studies folder by its layout on disk."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Set
from dataclasses import replace
from pathlib import Path

from lib.cases.case import CaseError
from lib.cases.discovery.bids import find_bids
from lib.cases.discovery.brats import find_brats
from lib.cases.discovery.datasets import (
    DATASETS,
    dataset_files,
    dataset_folders,
    find_decathlon,
    find_nnunet,
    is_decathlon,
)
from lib.cases.discovery.dicom_folders import find_dicom
from lib.cases.discovery.leftovers import NO_LAYOUT, leftovers
from lib.cases.discovery.overview import overview
from lib.cases.discovery.patient_folders import find_flat, find_folders
from lib.cases.discovery.series_rules import RULE_PRESETS, SeriesRules
from lib.cases.discovery.studies import Studies
from lib.cases.pool import Pool, Skipped, printable_path
from lib.cases.unexpected_errors import as_case_error
from lib.runtime.errors import UserError

LAYOUTS: dict[str, Callable[[Studies], Pool]] = {
    "nnunet": find_nnunet,
    "decathlon": find_decathlon,
    "bids": find_bids,
    "brats": find_brats,
    "folder": find_folders,
    "flat": find_flat,
    "dicom": find_dicom,
}


def find_pool(
    root: Path,
    *,
    layout: str = "auto",
    modalities: tuple[str, ...] = (),
    follow_links: bool = False,
    rules: SeriesRules = RULE_PRESETS["usual"],
    used: Set[str] = frozenset(),
) -> Pool:
    """All cases under a folder.

    Args:
        root: Studies folder.
        layout: Name from `LAYOUTS`, or `auto` for the first layout that finds a case.
        modalities: Names of further modalities, from the settings.
        follow_links: Whether to use files and folders that are links to outside `root`.
        rules: Rules that name the modality of a DICOM series if its folder's name does not.
        used: Images of earlier listings (`image_of`), which are taken before others of their modality.

    Raises:
        CaseError: If the folder does not exist, or the given layout does not fit it.
    """
    with as_case_error(str(root)):
        root, there = root.resolve(), root.is_dir()
    if not there:
        raise CaseError(f"studies must be a folder; {root} is not. Give the folder that holds the patients.")
    if layout != "auto" and layout not in LAYOUTS:
        raise CaseError(
            f"layout must be auto or one of {', '.join(LAYOUTS)}; got {layout!r}. Set --conf layout."
        )
    studies = Studies(root, modalities, follow_links, rules, used)
    with as_case_error(str(root)):
        pool = _by_layout(studies, layout) if layout != "auto" else _by_any_layout(studies)
        skipped = dict.fromkeys([*pool.skipped, *leftovers(pool, studies)])
        return replace(pool, skipped=tuple(skipped), overview="" if pool.cases else overview(studies))


def _by_layout(studies: Studies, layout: str) -> Pool:
    with as_case_error(f"{studies.root} by the layout {layout}"):
        return LAYOUTS[layout](studies.afresh())


def _by_any_layout(studies: Studies) -> Pool:
    """Pool by the first layout that finds a case; without one, what the first layout says of each file.

    A layout whose cases all lie more than one folder deep gives way to DICOM folders, which may hold images
    that were made from their series.
    """
    candidates = _candidates(studies)
    skipped = _by_path(studies.skipped)
    nested: Pool | None = None
    for layout in candidates:
        try:
            pool = _by_layout(studies, layout)
        except UserError as err:
            if layout in DATASETS:
                skipped |= {path: [Skipped(path, str(err))] for path in dataset_files(studies.root)}
            continue
        if pool.cases and not (layout in ("folder", "flat", "brats") and _lies_deep(pool)):
            return pool
        nested = nested or (pool if pool.cases else None)
        skipped = _by_path(pool.skipped) | skipped
    named = (item for items in skipped.values() for item in items)
    return nested or Pool(studies.root, NO_LAYOUT, (), (*_nested_datasets(studies, named),))


def _by_path(skipped: Iterable[Skipped]) -> dict[Path, list[Skipped]]:
    """Reasons of each file or folder; a folder of slices may have several."""
    found: dict[Path, list[Skipped]] = {}
    for item in skipped:
        found.setdefault(item.path, []).append(item)
    return found


def _nested_datasets(studies: Studies, skipped: Iterable[Skipped]) -> Iterator[Skipped]:
    """Skipped files; those of a data set deeper down are told what to do, not how to be named."""
    nested = [folder for folder in dataset_folders(studies) if folder != studies.root]
    for folder in nested:
        yield Skipped(folder, "it looks like a data set of its own. Give this folder as the studies folder.")
    places = {printable_path(folder) for folder in nested}
    yield from (item for item in skipped if not places & {*item.path.parents})


def _candidates(studies: Studies) -> list[str]:
    """Layouts to try: that of the data set alone if the folder has imagesTr, otherwise all others."""
    if studies.root in dataset_folders(studies):
        return ["decathlon" if is_decathlon(studies) else "nnunet"]
    return [layout for layout in LAYOUTS if layout not in DATASETS]


def _lies_deep(pool: Pool) -> bool:
    """Whether every volume lies in a folder below a folder of the studies folder."""
    return all(
        len(source.path.relative_to(pool.root).parts) > 2
        for case in pool.cases
        for source in case.modalities.values()
    )
