"""Windows in which radiologists usually view a modality."""

from __future__ import annotations

from typing import Any

from lib.cases.modalities import kind

DISPLAY_UNITS = {"CT": "HU", "PET": "SUV", "MR": ""}

# The first preset is the default. CT in HU, PET in SUV, MR in percentiles of the values other than 0.
_WINDOWS: dict[str, tuple[tuple[str, float, float], ...]] = {
    "CT": (
        ("soft tissue", -160.0, 240.0),
        ("lung", -1350.0, 150.0),
        ("bone", -500.0, 1300.0),
        ("brain", 0.0, 80.0),
    ),
    "PET": (("SUV 0 to 5", 0.0, 5.0), ("SUV 0 to 10", 0.0, 10.0), ("SUV 0 to 15", 0.0, 15.0)),
    "MR": (("usual", 1.0, 99.5), ("narrow", 10.0, 98.0), ("wide", 0.0, 100.0)),
}


def display_window(modality: str) -> dict[str, Any]:
    """Display window of a modality, with its presets.

    Returns:
        `kind`, `unit`, `inverted` (low values are white), and the presets: `name`, `low` and `high` in the
        unit, or in percentiles of the values other than 0 where `percentiles` is true.
    """
    modality_kind = kind(modality)
    return {
        "kind": modality_kind,
        "unit": DISPLAY_UNITS[modality_kind],
        "inverted": modality_kind == "PET",
        "percentiles": modality_kind == "MR",
        "presets": [{"name": name, "low": low, "high": high} for name, low, high in _WINDOWS[modality_kind]],
    }
