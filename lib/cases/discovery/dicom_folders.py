"""Cases of DICOM folders: the series of one study and frame of reference become one case."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterator, Sequence
from filecmp import cmp
from pathlib import Path

from lib.cases.case import Case, Source
from lib.cases.discovery.choices import USED_BEFORE, choice
from lib.cases.discovery.studies import Studies, case_or_skip
from lib.cases.formats.dicom import Series, read_series
from lib.cases.formats.dicom_folder import Headers, Listing, list_folder
from lib.cases.formats.image import suffix_of
from lib.cases.modalities import parse_modality
from lib.cases.pool import Pool, with_patients
from lib.cases.unexpected_errors import as_case_error
from lib.runtime.errors import UserError
from lib.runtime.walk import Entries

Found = tuple[Path, Series]


def find_dicom(studies: Studies) -> Pool:
    """Find the cases of folders with one subfolder a patient and, below it, one folder a series."""
    cases: list[Case] = []
    for patient in (Path(entry.path) for entry in studies.folders()):
        try:
            with as_case_error(str(patient)):
                cases += _cases_of(studies, patient)
        except UserError as err:
            studies.skip(patient, str(err))
    return studies.pool("dicom", with_patients(cases))


def _cases_of(studies: Studies, patient: Path) -> list[Case]:
    """The cases of one patient's folder, those with the most modalities first."""
    groups: dict[tuple[str, str], dict[str, list[Found]]] = defaultdict(lambda: defaultdict(list))
    for folder, series in _series_below(studies, patient):
        try:
            name = _modality(studies, series, folder)
        except UserError as err:
            studies.skip(folder, str(err))
            continue
        if name:
            groups[series.study, series.frame_of_reference][name].append((folder, series))
        else:
            studies.skip(
                folder,
                f"no rule names a modality for {series.modality} '{series.description}'. Name the "
                "folder after its modality (T1, CT, …).",
            )
    cases = []
    for number, key in enumerate(sorted(groups, key=lambda key: (-len(groups[key]), key))):
        notes: list[str] = []
        chosen = {name: _choose(studies, name, several, notes) for name, several in groups[key].items()}
        cases.append(
            case_or_skip(
                studies,
                patient.name if number == 0 else f"{patient.name}_{number + 1}",
                {name: Source(folder, series=series.uid) for name, (folder, series) in chosen.items()},
                None,
                layout="dicom",
                patient=next(iter(chosen.values()))[1].patient or patient.name,
                notes=tuple(notes),
            )
        )
    return [case for case in cases if case]


def _choose(studies: Studies, name: str, several: Sequence[Found], notes: list[str]) -> Found:
    """Series that was used before, or the one with the most slices, or the first by its UID of equal ones.

    The others are recorded as skipped.
    """
    first, *others = sorted(
        several, key=lambda found: (found[1].uid not in studies.used, -len(found[1].slices), found[1].uid)
    )
    if not others:
        return first
    more = len(first[1].slices) > len(others[0][1].slices)
    why = "it has the most slices" if more else "no other has more slices and its UID comes first"
    if first[1].uid in studies.used:
        why = USED_BEFORE
    taken, *names = (_described(studies, found) for found in (first, *others))
    notes.append(choice(name, taken, names, why))
    for other, described in zip(others, names, strict=True):
        studies.skip(other[0], f"a case must have one {name}; {taken} is taken, not {described}, as {why}.")
    return first


def _described(studies: Studies, found: Found) -> str:
    folder, series = found
    place = folder.relative_to(studies.root).as_posix()
    return f"'{series.description}' in {place} ({len(series.slices)} slices)"


def _series_below(studies: Studies, patient: Path) -> Iterator[Found]:
    places: dict[str, list[tuple[Path, Headers]]] = defaultdict(list)
    for folder, listing in _listings_below(studies, patient):
        for uid, headers in listing.series.items():
            places[uid].append((folder, headers))
    for uid, several in places.items():
        if _lies_in_one_folder(studies, uid, several):
            folder = several[0][0]
            try:
                yield folder, read_series(folder, uid)
            except UserError as err:
                studies.skip(folder, str(err))


def _listings_below(studies: Studies, patient: Path) -> Iterator[tuple[Path, Listing]]:
    for folder, entries in studies.folders_below(patient):
        if not any(entry.is_file() and not suffix_of(Path(entry.name)) for entry in entries):
            continue
        if foreign := _unusable_file(folder, entries):
            studies.skip(
                folder,
                f"every file in a folder of slices must be usable; {foreign} is not. Copy it "
                "there, or remove it.",
            )
            continue
        try:
            listing = list_folder(folder)
        except UserError as err:
            studies.skip(folder, str(err))
            continue
        _skip_others(studies, folder, listing.others)
        yield folder, listing


def _lies_in_one_folder(studies: Studies, uid: str, several: Sequence[tuple[Path, Headers]]) -> bool:
    """Whether a series lies in one folder, apart from copies, which are recorded as skipped.

    Each of several folders, such as a disc with a hundred files a folder has, holds a part of the volume,
    which could pass for the whole.
    """
    (first, headers), *others = several
    if all(_is_copy(other, headers) for _, other in others):
        for folder, _ in others:
            studies.skip(folder, f"its series {uid} is a copy of the one in {first}, which is read.")
        return True
    total = sum(len(part) for _, part in several)
    for folder, part in several:
        elsewhere = ", ".join(str(other) for other, _ in several if other != folder)
        studies.skip(
            folder,
            f"a series must lie in one folder, and be there once; of {total} files of series {uid}, "
            f"{len(part)} lie here and others in {elsewhere}. Put all into one folder.",
        )
    return False


def _is_copy(headers: Headers, others: Headers) -> bool:
    """Whether two folders hold the same files of a series, byte for byte."""
    ours, theirs = (
        {str(header.get("SOPInstanceUID")): path for path, header in each} for each in (headers, others)
    )
    return ours.keys() == theirs.keys() and all(
        cmp(path, theirs[instance], shallow=False) for instance, path in ours.items()
    )


def _skip_others(studies: Studies, folder: Path, others: Sequence[tuple[Path, str]]) -> None:
    """Record the files of a folder that are no slices, one line a reason."""
    alike: dict[str, list[Path]] = defaultdict(list)
    for path, reason in others:
        alike[reason].append(path)
    for reason, (first, *further) in alike.items():
        if further:
            studies.skip(folder, f"{first.name} and {len(further)} more: {reason}")
        else:
            studies.skip(first, reason)


def _unusable_file(folder: Path, entries: Entries) -> str | None:
    """Visible file of a folder that cannot be used, such as a link to elsewhere; None if there is none."""
    used = {entry.name for entry in entries}
    names = (name for name in sorted(os.listdir(folder)) if not name.startswith(".") and name not in used)
    return next((name for name in names if os.path.isfile(folder / name)), None)


def _modality(studies: Studies, series: Series, folder: Path) -> str | None:
    if parsed := parse_modality(folder.name, studies.extra):
        return parsed[0]
    return studies.rules.name_of(series.modality, series.description, series.made)
