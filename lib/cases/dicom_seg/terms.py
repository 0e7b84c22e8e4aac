"""Names of structures: their code, and the spellings that count as the same name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pydicom.sr.coding import Code

from lib.cases.case import CaseError

LONG_STRING = 64  # longest segment label in DICOM (LO), in characters

ABNORMAL_STRUCTURE = Code("49755003", "SCT", "Morphologically Abnormal Structure")
ARTIFICIAL_INTELLIGENCE = Code("123110", "DCM", "Artificial Intelligence")
LESION = Code("52988006", "SCT", "Lesion")
_NEOPLASM = Code("108369006", "SCT", "Neoplasm")
# The first word that is part of the name decides. SNOMED CT has no code for enhancement; DICOM uses NCIt's.
_CODE_OF_WORD = {
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
_GENERIC = {"segment", "segmentation", "label", "mask", "untitled"}  # default names in viewers


def type_of(name: str) -> Code:
    """Coded type of a structure; a lesion if its name is not more specific."""
    return next((code for word, code in _CODE_OF_WORD.items() if word in _key(name)), LESION)


def values_of(segments: Sequence[str], labels: Mapping[str, int]) -> list[int]:
    """Label value of each segment, by the segment's name.

    Case, separators and British or American spelling do not matter. If there is one label and one segment,
    the segment may have a viewer's default name, such as 'Segment 1'.

    Args:
        segments: Names of the segments in the SEG.
        labels: Value of each name.

    Raises:
        CaseError: If the name of a segment is not in `labels`.
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
    return same[0] if len(same) == 1 else None  # two labels may differ only in a separator


def _is_generic(name: str) -> bool:
    return _key(name).rstrip("0123456789") in _GENERIC


def _key(name: str) -> str:
    letters = "".join(letter for letter in name[:LONG_STRING].casefold() if letter.isalnum())
    return letters.replace("tumour", "tumor").replace("oedema", "edema")


def _listed(names: Sequence[str] | Mapping[str, int]) -> str:
    return ", ".join(repr(name) for name in names)
