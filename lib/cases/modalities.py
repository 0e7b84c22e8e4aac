"""Names of modalities, their synonyms, and the units of their values."""

from __future__ import annotations

import re

# Synonyms in use in the field; listings, errors and clients show the name on the left.
SYNONYMS: dict[str, tuple[str, ...]] = {
    "T1": ("t1w", "t1n", "t1pre", "t1_pre"),
    "T1ce": ("t1c", "t1gd", "t1post", "t1_post", "t1_ce", "t1_gd", "t1km"),
    "T2": ("t2w",),
    "FLAIR": ("t2f", "t2flair", "t2_flair", "flair_t2"),
    "DWI": (),
    "ADC": (),
    "SWI": (),
    "PD": (),
    "MR": ("mri",),
    "MR_T1": ("mrt1",),
    "MR_T2": ("mrt2",),
    "CT": ("cect",),
    "PET": ("pt", "suv", "fdg", "fdg_pet", "pet_fdg"),
}
LABEL_NAMES = ("gtv", "seg", "label", "labels", "lesion", "mask", "segmentation", "tumor", "tumour")


def _plain(word: str) -> str:
    return word.strip().lower().replace("-", "_").replace(" ", "_")


_CANONICAL = {_plain(word): name for name, synonyms in SYNONYMS.items() for word in (name, *synonyms)}
_STORED_SCALE = re.compile(r"(?P<name>.+)_SUVx(?P<factor>[0-9]{1,9})", re.IGNORECASE)

MODALITY_ORDER = {name: rank for rank, name in enumerate(SYNONYMS)}

# Preference for the reference grid of a case: fine soft-tissue detail first, the coarse PET last.
REFERENCE_ORDER = ("T1ce", "FLAIR", "T2", "T1", "MR_T1", "MR_T2", "MR", "CT", "PET")


def parse_modality(word: str, extra: tuple[str, ...] = ()) -> tuple[str, float] | None:
    """Canonical name and stored scale of a modality, from the name of a file or folder.

    `PET_SUVx100` means that the file stores SUV x 100, so its scale is 0.01.

    Args:
        word: File stem, suffix, folder or channel name.
        extra: Further names from the settings, matched without regard to case.

    Returns:
        Name and scale, or None if the word is no known modality.
    """
    scale = 1.0
    if match := _STORED_SCALE.fullmatch(word):
        word, scale = match["name"], 1.0 / int(match["factor"]) if int(match["factor"]) else 1.0
    extra_names = {_plain(name): name for name in extra}
    name = extra_names.get(_plain(word)) or _CANONICAL.get(_plain(word))
    return (name, scale) if name else None


def is_label_name(word: str) -> bool:
    """Whether a file stem or suffix names a reference contour, as `seg` and `tumor_segmentation` do.

    Slicer ends all its contours in .seg.nrrd.
    """
    return set(_plain(word).split("_")) <= set(LABEL_NAMES) or word.lower().endswith(".seg")


def kind(modality: str) -> str:
    """Kind of a modality by its name: `CT` (Hounsfield units), `PET` (SUV) or `MR` (arbitrary units)."""
    upper = modality.upper()
    if upper.startswith("CT"):
        return "CT"
    return "PET" if upper.startswith("PET") else "MR"


def has_units(modality: str) -> bool:
    """Whether the values of a modality mean the same in every patient, as HU and SUV do."""
    return kind(modality) != "MR"


def default_reference(modalities: tuple[str, ...]) -> str:
    """Reference modality if the settings name none."""
    for name in REFERENCE_ORDER:
        if name in modalities:
            return name
    return modalities[0]
