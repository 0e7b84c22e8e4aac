"""Editions of BraTS: what the values of a label mean, by the name of its case.

Numberings: Menze et al. 2015 (doi 10.1109/TMI.2014.2377694) until 2016, Bakas et al. 2018 (arXiv 1811.02629)
from 2017 to 2021, and the pages of the challenges since 2023 (synapse.org, syn51156910, syn53708249,
syn64153130). Cases are named for their edition, such as BraTS20_Training_001 or BraTS-PED-00001-000.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

CORE, OEDEMA, ENHANCING = "necrotic core", "oedema", "enhancing"
CAVITY, CYST, NON_ENHANCING = "resection cavity", "cystic component", "non-enhancing tumour"
GROSS = "gross tumour volume"
_OTHER_NAMES = {
    CORE: (
        *("ncr", "netc", "ncr/net", "ncr/netc", "necrosis", "necrotic", "necrotic tumour core"),
        *("necrotic and non-enhancing tumour core", "non-enhancing tumour core"),
    ),
    OEDEMA: ("ed", "snfh", "peritumoral oedema", "peritumoural oedema"),
    ENHANCING: ("et", "enhancing tumour", "gd-enhancing tumour"),
    CAVITY: ("rc", "cavity"),
    CYST: ("cc", "cyst", "cysts"),
    NON_ENHANCING: ("net",),
    GROSS: ("gtv",),
}
_STRUCTURES = {word: name for name, words in _OTHER_NAMES.items() for word in (name, *words)}


@dataclass(frozen=True)
class Edition:
    """Numbering of an edition of BraTS.

    Attributes:
        name: Name of the edition in messages.
        structures: Structure of each value.
    """

    name: str
    structures: Mapping[int, str]

    def __str__(self) -> str:
        """Name and numbering in one line."""
        return f"{self.name} ({', '.join(f'{value} {name}' for value, name in self.structures.items())})"


_UNTIL_2016 = Edition("BraTS until 2016", {1: CORE, 2: OEDEMA, 3: NON_ENHANCING, 4: ENHANCING})
_UNTIL_2021 = Edition("BraTS 2017 to 2021", {1: CORE, 2: OEDEMA, 4: ENHANCING})
_COMMON = {1: CORE, 2: OEDEMA, 3: ENHANCING}
_AFTER_TREATMENT = Edition("BraTS glioma after treatment", {**_COMMON, 4: CAVITY})
_BY_TASK = {
    "SSA": (Edition("BraTS Sub-Saharan Africa", _COMMON),),
    "GOAT": (Edition("BraTS generalizability", _COMMON),),
    "MEN-RT": (Edition("BraTS meningioma radiotherapy", {1: GROSS}),),
    "MEN": (Edition("BraTS meningioma", _COMMON),),
    "MET": (Edition("BraTS metastases", {**_COMMON, 4: CAVITY}),),
    "PED": (
        Edition("BraTS paediatrics 2023", _COMMON),
        Edition("BraTS paediatrics since 2024", {1: ENHANCING, 2: NON_ENHANCING, 3: CYST, 4: OEDEMA}),
    ),
}
_BEFORE_TREATMENT = Edition("BraTS glioma before treatment", _COMMON)
_BY_YEAR = re.compile(r"brats(?:20)?(?P<year>[0-9]{2})[_-].*", re.IGNORECASE)
_TASK = re.compile(rf"brats-(?P<task>gli|{'|'.join(_BY_TASK)})-(?P<rest>.*)", re.IGNORECASE)
_VISIT = re.compile(r"[0-9]+-(?P<visit>[0-9]{3})(?![0-9]).*")
_FIRST_AFTER_TREATMENT = 100  # number of a visit


def editions_of(case_id: str) -> tuple[Edition, ...]:
    """Editions that a case of this name can belong to; empty if the name says nothing."""
    if match := _TASK.fullmatch(case_id):
        task = match["task"].upper()
        return _BY_TASK[task] if task in _BY_TASK else _gliomas(match["rest"])
    if match := _BY_YEAR.fullmatch(case_id):
        year = int(match["year"])
        return (_UNTIL_2016,) if year <= 16 else (_UNTIL_2021,) if year <= 21 else ()
    return ()


def structure_of(name: str) -> str | None:
    """Structure of BraTS that a label's name means; None for any other name."""
    words = re.sub(r"[\s_]+", " ", name.strip().lower())
    for theirs, ours in (
        ("tumor", "tumour"),
        ("edema", "oedema"),
        ("ooedema", "oedema"),
        ("nonenh", "non-enh"),
    ):
        words = words.replace(theirs, ours)
    return _STRUCTURES.get(words)


def _gliomas(rest: str) -> tuple[Edition, ...]:
    visit = _VISIT.fullmatch(rest)
    if visit is None:
        return _BEFORE_TREATMENT, _AFTER_TREATMENT
    after = int(visit["visit"]) >= _FIRST_AFTER_TREATMENT
    return (_AFTER_TREATMENT,) if after else (_BEFORE_TREATMENT,)
