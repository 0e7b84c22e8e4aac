"""Ids and patients of cases that lie at any depth, from the folders above them."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Sequence

from lib.cases.discovery.file_names import composed

Place = tuple[str, ...]  # names of the folders from the studies folder down to the case

MOST_SESSIONS = 20  # a folder with more cases holds patients, not the sessions of one patient
_COLLECTION = re.compile(
    r"(?:hgg|lgg|(?:training|train|validation|valid|val|testing|test)[-_ ]?(?:data|set)?"
    r"|data|dataset|images?|uploads?|nifti|nii|raw|rawdata|cases|patients|subjects|studies|cohort\w*|site\w*"
    r"|cent(?:er|re)\w*)",
    re.IGNORECASE,
)
_SESSION = re.compile(
    r"(?:sess?|session|visit|scan|study|exam|tp|time|timepoint|baseline|bl|follow[-_ ]?up|fu|pre|post"
    r"|month|week|day|year|[tvsmwdy])?[-_. ]?[\d\-_.]*",
    re.IGNORECASE,
)


_SESSION_AT_END = re.compile(r"[_\-. ](?:ses|session|visit|tp|timepoint)[-_]?\d+\Z", re.IGNORECASE)


def patient_in(name: str) -> str:
    """Patient in the name of a case: what precedes a session that the name itself calls one (`p01_ses-2`)."""
    session = _SESSION_AT_END.search(name)
    return name[: session.start()] or name if session else name


def ids_of(places: Sequence[Place]) -> list[str]:
    """Id of each case: the name of its folder, with the names of the folders above it where it needs them.

    It needs them if another case has the same name, or if the name is that of a session (`ses-1`, `visit2`,
    `2020-01-31`), which says nothing of the patient and which a patient who comes later may have too.
    """
    depth = {place: 2 if len(place) > 1 and _SESSION.fullmatch(place[-1]) else 1 for place in places}
    while True:
        named = {place: composed("_".join(place[-levels:])) for place, levels in depth.items()}
        shared = Counter(name.lower() for name in named.values())
        deeper = [
            place for place, name in named.items() if shared[name.lower()] > 1 and depth[place] < len(place)
        ]
        if not deeper:
            return [named[place] for place in places]
        for place in deeper:
            depth[place] += 1


def patients_of(places: Sequence[Place]) -> list[str]:
    """Patient of each case: the topmost folder above it, so that sessions of one patient are never split.

    Folders that hold patients rather than sessions are passed over: those with more than 20 cases, those
    named for a collection (`HGG`, `training`, `data`, …), and those that hold all cases, unless what is below
    them is named for sessions. A name that itself ends in a session (`p01_ses-2`) is of the patient that
    precedes it.
    """
    held: dict[Place, list[str]] = defaultdict(list)  # names below each folder, one a case
    for place in places:
        for level in range(1, len(place)):
            held[place[:level]].append(place[level])
    patients = {folder for folder, below in held.items() if _is_patient(folder[-1], below, len(places))}
    return [composed(_patient(place, patients)) for place in places]


def _is_patient(name: str, below: Sequence[str], cases: int) -> bool:
    """Whether a folder with cases below it may be a patient."""
    holds_all = 1 < cases == len(below) and not all(map(_SESSION.fullmatch, below))
    return not (holds_all or len(below) > MOST_SESSIONS or _COLLECTION.fullmatch(name))


def _patient(place: Place, patients: set[Place]) -> str:
    above = (place[:level] for level in range(1, len(place)))
    folder = next((folder for folder in above if folder in patients), place)
    return patient_in(folder[-1])
