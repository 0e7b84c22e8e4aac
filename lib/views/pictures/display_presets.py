"""Which grey values a reader is used to see of a modality."""

from __future__ import annotations

from typing import Any

from lib.cases.modalities import kind

DISPLAY_UNITS = {"CT": "HU", "PET": "SUV", "MR": ""}

# The first one is shown at once. CT in HU, PET in SUV, MR in percentiles of its values other than 0.
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
    """How a modality is shown.

    Returns:
        `kind`, `unit`, `inverted` (white is little), and the presets: `name`, `low` and `high` in the unit,
        or in percentiles of the values other than 0 where `percentiles` is true.
    """
    its = kind(modality)
    return {
        "kind": its,
        "unit": DISPLAY_UNITS[its],
        "inverted": its == "PET",
        "percentiles": its == "MR",
        "presets": [{"name": name, "low": low, "high": high} for name, low, high in _WINDOWS[its]],
    }
