"""Preset decompositions, in the same format as a site's own table."""

from __future__ import annotations

from typing import Any

from lib.cases.modalities import kind
from lib.ciml.decomposition.subtask import check_unique

PRESETS = ("auto", "glioma_mr", "pet_ct", "pet_ct_mr", "generic")
GLIOMA_MODALITIES = ("T1", "T1ce", "T2", "FLAIR")
GLIOMA_LABELS = ("necrotic core", "oedema", "enhancing")

GLIOMA: dict[str, Any] = {
    "name": "glioma_mr",
    "labels": {"necrotic core": 1, "oedema": 2, "enhancing": 3},
    "regions": [
        {"name": "whole tumour", "labels": [1, 2, 3]},
        {"name": "tumour core", "labels": [1, 3]},
        {"name": "enhancing tumour", "labels": [3]},
    ],
    "subtasks": [
        {
            "name": "core",
            "primary": ["T1ce", "T1"],
            "auxiliary": ["FLAIR", "T2"],
            "regions": ["tumour core", "enhancing tumour"],
        },
        {
            "name": "whole",
            "primary": ["FLAIR", "T2"],
            "auxiliary": ["T1ce", "T1"],
            "regions": ["whole tumour"],
        },
    ],
    "import_values": {4: 3},  # BraTS before 2023 numbers enhancing tumour 4 and leaves 3 out
    "export_values": {3: 4},
}
PRESET_KINDS = {"pet_ct": {"CT", "PET"}, "pet_ct_mr": {"CT", "PET", "MR"}}  # others accept any kinds
LEADS = {"pet_ct": {"uptake": "PET", "anatomy": "CT"}}  # primary kind; else one subtask per modality


def preset_table(
    modalities: tuple[str, ...], *, preset: str = "auto", labels: tuple[str, ...] | None = None
) -> dict[str, Any]:
    """Table of the preset for these modalities and labels.

    Raises:
        ValueError: If the preset does not fit the modalities or labels.
    """
    preset = _fitting_preset(modalities, labels) if preset == "auto" else preset
    if preset == "glioma_mr":
        _check_glioma(modalities, labels)
        return GLIOMA
    if preset in PRESET_KINDS and {kind(name) for name in modalities} != PRESET_KINDS[preset]:
        raise ValueError(
            f"modalities must be of the kinds {', '.join(sorted(PRESET_KINDS[preset]))} for preset {preset}; "
            f"got {', '.join(modalities)}. Use preset generic."
        )
    leads: dict[str, list[str]] = {
        task: [name for name in modalities if kind(name) == lead]
        for task, lead in LEADS.get(preset, {}).items()
    } or {name: [name] for name in modalities}
    return _lesion_table(preset, modalities, leads, labels or ("lesion",))


def _fitting_preset(modalities: tuple[str, ...], labels: tuple[str, ...] | None) -> str:
    if set(modalities) == set(GLIOMA_MODALITIES) and labels in (None, GLIOMA_LABELS):
        return "glioma_mr"
    kinds = {kind(name) for name in modalities}
    return {2: "pet_ct", 3: "pet_ct_mr"}[len(kinds)] if kinds >= {"CT", "PET"} else "generic"


def _check_glioma(modalities: tuple[str, ...], labels: tuple[str, ...] | None) -> None:
    if set(modalities) != set(GLIOMA_MODALITIES):
        raise ValueError(
            f"modalities must be {', '.join(GLIOMA_MODALITIES)} for preset glioma_mr; "
            f"got {', '.join(modalities)}. Use preset generic."
        )
    if labels not in (None, GLIOMA_LABELS):
        raise ValueError(
            f"labels must be {', '.join(GLIOMA_LABELS)} for preset glioma_mr; "
            f"got {', '.join(labels or ())}. Use preset generic."
        )


def _lesion_table(
    name: str, modalities: tuple[str, ...], leads: dict[str, list[str]], labels: tuple[str, ...]
) -> dict[str, Any]:
    """Every subtask outlines every label from its own primary modalities."""
    check_unique(labels, "labels")
    numbered = {label: value for value, label in enumerate(labels, start=1)}
    maps = ("import_values", "export_values") if labels == GLIOMA_LABELS else ()  # BraTS with fewer sequences
    return {
        "name": name,
        "labels": numbered,
        "regions": [{"name": label, "labels": [value]} for label, value in numbered.items()],
        "subtasks": [
            {
                "name": task,
                "primary": primary,
                "auxiliary": [other for other in modalities if other not in primary],
                "regions": labels,
            }
            for task, primary in leads.items()
        ],
        **{field: GLIOMA[field] for field in maps},
    }
