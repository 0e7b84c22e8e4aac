"""DICOM on disk: series of one study and frame of reference become one case."""

from __future__ import annotations

import os
import re
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path

from lib.cases.case import Case, CaseError, Source
from lib.cases.dicom import Series, list_series, read_series
from lib.cases.image import suffix_of
from lib.cases.modalities import parse_modality

Skip = Callable[[Path, str], None]

# (DICOM Modality, pattern in SeriesDescription) -> our name; the first that fits decides.
RULES: tuple[tuple[str, str, str], ...] = (
    ("CT", "", "CT"),
    ("PT", "", "PET"),
    ("MR", r"flair|dark.?fluid", "FLAIR"),
    ("MR", r"t1.*(gd|\bce\b|_ce|post|\+c|contrast|km)|t1c|t1gd", "T1ce"),
    ("MR", r"t2", "T2"),
    ("MR", r"adc|apparent", "ADC"),
    ("MR", r"dwi|diff|trace", "DWI"),
    ("MR", r"t1|mprage|spgr|bravo", "T1"),
)


def dicom_cases(folders: list[Path], extra: tuple[str, ...], skip: Skip) -> list[Case]:
    """One case for each study and frame of reference below a patient's folder."""
    cases: list[Case] = []
    for patient in folders:
        groups: dict[tuple[str, str], dict[str, Series]] = defaultdict(dict)
        places: dict[str, Path] = {}
        for folder, series in _series_below(patient, skip):
            name = _modality(series, folder, extra)
            if name is None:
                skip(folder, f"no rule names a modality for {series.modality} '{series.description}'. Name the "
                             "folder after its modality (T1, CT, …).")
                continue
            group = groups[series.study, series.frame_of_reference]
            places[series.uid] = folder
            if name in group:
                kept, left = sorted((group[name], series), key=lambda s: (-len(s.files), s.uid))
                skip(places[left.uid], f"case {patient.name} must have one {name}; the series with the most slices "
                                       f"is taken ({len(kept.files)}, not {len(left.files)}).")
                series = kept
            group[name] = series
        ordered = sorted(groups.items(), key=lambda item: (-len(item[1]), item[0]))
        for number, (_, group) in enumerate(ordered):
            id = patient.name if number == 0 else f"{patient.name}_{number + 1}"
            sources = {name: Source(places[s.uid], series=s.uid) for name, s in group.items()}
            cases.append(Case(id, sources, patient=next(iter(group.values())).patient or patient.name, layout="dicom"))
    return cases


def _series_below(patient: Path, skip: Skip) -> Iterator[tuple[Path, Series]]:
    for place, below, files in os.walk(patient):
        below[:] = sorted(name for name in below if not name.startswith("."))
        folder = Path(place)
        if not any(not suffix_of(Path(name)) for name in files):
            continue
        for uid in list_series(folder):
            try:
                yield folder, read_series(folder, uid)
            except CaseError as err:
                skip(folder, str(err))


def _modality(series: Series, folder: Path, extra: tuple[str, ...]) -> str | None:
    if parsed := parse_modality(folder.name, extra):
        return parsed[0]
    for modality, pattern, name in RULES:
        if series.modality == modality and re.search(pattern, series.description, re.IGNORECASE):
            return name
    return None
