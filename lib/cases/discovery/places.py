"""Ids and patients of cases that lie at any depth, from the folders above them."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence

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

    Folders that hold patients rather than sessions are passed over: those with more than 20 cases, and those
    named for a collection (`HGG`, `training`, `data`, …). A name that itself ends in a session (`p01_ses-2`)
    is of the patient that precedes it.
    """
    held = Counter(above for place in places for above in _folders_above(place))
    return [composed(_patient(place, held)) for place in places]


def _folders_above(place: Place) -> Iterable[Place]:
    return (place[:level] for level in range(1, len(place)))


def _patient(place: Place, held: Counter[Place]) -> str:
    above = (each for each in _folders_above(place) if held[each] <= MOST_SESSIONS)
    names = (each[-1] for each in above if not _COLLECTION.fullmatch(each[-1]))
    return patient_in(next(names, place[-1]))
