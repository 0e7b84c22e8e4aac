"""What a structure's name means: its code, its colour, and which other spellings name it too."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pydicom.sr.coding import Code

from lib.cases.case import CaseError

LONG_STRING = 64  # characters that DICOM gives a segment's label (LO)

ABNORMAL_STRUCTURE = Code("49755003", "SCT", "Morphologically Abnormal Structure")
ARTIFICIAL_INTELLIGENCE = Code("123110", "DCM", "Artificial Intelligence")
LESION = Code("52988006", "SCT", "Lesion")
_NEOPLASM = Code("108369006", "SCT", "Neoplasm")
# The first whose word is part of the name. SNOMED CT has no code for enhancement, DICOM takes NCIt's.
_TYPES = {
    "nonenhancing": Code("C81175", "NCIt", "Non-Enhancing Lesion"),
    "necro": Code("6574001", "SCT", "Necrosis"),
    "enhancing": Code("C113842", "NCIt", "Enhancing Lesion"),
    "edema": Code("79654002", "SCT", "Edema"),
    "gtv": Code("228791009", "SCT", "Gross tumor volume"),
    "grosstumor": Code("228791009", "SCT", "Gross tumor volume"),
    "metasta": Code("14799000", "SCT", "Neoplasm, Secondary"),
    "tumor": _NEOPLASM,
    "neoplasm": _NEOPLASM,
    "cyst": Code("367643001", "SCT", "Cyst"),
}
_GENERIC = {"segment", "segmentation", "label", "mask", "untitled"}  # names that viewers give by themselves
_COLOURS = (  # CIELab (L*, a*, b*); told apart by the colour-blind as well
    (54.2, 43.3, 63.3),  # vermilion
    (69.8, -12.0, -34.8),  # sky blue
    (89.1, -13.3, 75.5),  # yellow
    (57.7, -45.7, 12.8),  # green
    (61.0, 38.5, -10.6),  # purple
    (46.0, -2.7, -41.4),  # blue
    (70.6, 16.5, 74.7),  # orange
)


def type_of(name: str) -> Code:
    """Coded type of a structure; a lesion where its name says nothing more."""
    return next((code for word, code in _TYPES.items() if word in _key(name)), LESION)


def colour_of(value: int) -> tuple[float, float, float]:
    """CIELab (L*, a*, b*) of a label's value, 1 and above."""
    return _COLOURS[(value - 1) % len(_COLOURS)]


def values_of(segments: Sequence[str], labels: Mapping[str, int]) -> list[int]:
    """The label's value that each segment means, by its name.

    Case, separators and the British or American spelling do not matter. A lone segment that kept a viewer's
    own name, such as 'Segment 1', is the lone label.

    Args:
        segments: Names as a SEG says them.
        labels: Value of each name.

    Raises:
        CaseError: If a segment's name is none of ours.
    """
    if len(segments) == len(labels) == 1 and _is_generic(segments[0]):
        return list(labels.values())
    values = [_value_of(name, labels) for name in segments]
    if unknown := [name for name, value in zip(segments, values, strict=True) if value is None]:
        raise CaseError(
            f"segments must be named {_listed(labels)}; found {_listed(unknown)}. Rename them in the viewer "
            "and save again."
        )
    return [value for value in values if value is not None]


def _value_of(name: str, labels: Mapping[str, int]) -> int | None:
    if name in labels:
        return labels[name]
    same = [value for label, value in labels.items() if _key(label) == _key(name)]
    return same[0] if len(same) == 1 else None  # two labels may differ in nothing but a separator


def _is_generic(name: str) -> bool:
    return _key(name).rstrip("0123456789") in _GENERIC


def _key(name: str) -> str:
    letters = "".join(letter for letter in name[:LONG_STRING].casefold() if letter.isalnum())
    return letters.replace("tumour", "tumor").replace("oedema", "edema")


def _listed(names: Sequence[str] | Mapping[str, int]) -> str:
    return ", ".join(repr(name) for name in names)
