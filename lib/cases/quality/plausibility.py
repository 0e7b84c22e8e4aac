"""Values and geometry that no CT, PET or MR has, only a damaged or foreign file."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from lib.cases.modalities import kind

PLAUSIBLE_VALUES = {  # smallest and largest value of a voxel
    "CT": (-32_768.0, 100_000.0),  # HU; metal reaches 30,000 on extended scales
    "PET": (-1e8, 1e8),  # SUV, or becquerels a millilitre of the whole dose in a syringe
    "MR": (-1e9, 1e9),  # arbitrary units
}
MODALITY_UNITS = {"CT": " HU", "PET": "", "MR": ""}
LEAST_AIR, LEAST_TISSUE, MOST_RAISED = 0.01, 0.02, 0.05  # shares of a CT's voxels, see `unit_facts`
BRIGHT_SUV = (0.1, 300.0)  # of the brightest thousandth of a PET; activity in Bq/ml is in the thousands
PLAUSIBLE_SPACING_MM = (0.01, 100.0)
PLAUSIBLE_EXTENT_MM = 10_000.0  # a whole body is 2 m
PLAUSIBLE_POSITION_MM = 1e5  # largest coordinate of the first voxel


@dataclass(frozen=True)
class Doubt:
    """One implausible property of a volume.

    Attributes:
        code: `value` or `geometry`.
        sentence: Problem and remedy; the name of the modality goes before it.
        value: Measured value.
        limit: Limit that the value exceeds.
    """

    code: str
    sentence: str
    value: float
    limit: float


def doubts(name: str, volume: Mapping[str, Any]) -> Iterator[Doubt]:
    """Implausible properties of a measured volume.

    Args:
        name: Name of the modality.
        volume: Facts as returned by `volume_facts`.
    """
    least, most = PLAUSIBLE_VALUES[kind(name)]
    for value in (volume["min"], volume["max"]):
        if not least <= value <= most:
            yield Doubt(
                "value",
                f"has a voxel of {value:.3g}{MODALITY_UNITS[kind(name)]} (from {least:,.0f} to {most:,.0f} "
                "expected). The file is damaged or holds another unit. Export it again.",
                value,
                most if value > most else least,
            )
    if "tissue" in volume:
        yield from _no_hounsfield_units(volume)
    if "bright" in volume:
        yield from _no_suv(volume["bright"])
    spacing = np.array(volume["spacing"], dtype=float)
    with np.errstate(over="ignore", invalid="ignore"):
        extent = spacing * np.array(volume["shape"], dtype=float)
        corner = float(np.abs(np.array(volume["affine"], dtype=float)[:3, 3]).max())
    low, high = PLAUSIBLE_SPACING_MM
    sizes = (  # property, first implausible value, least, most
        ("voxel size", _first_implausible(spacing, low, high), low, high),
        ("field of view", _first_implausible(extent, 0.0, PLAUSIBLE_EXTENT_MM), 0.0, PLAUSIBLE_EXTENT_MM),
        ("distance from the origin", corner, 0.0, PLAUSIBLE_POSITION_MM),
    )
    for what, size, least, most in sizes:
        if not least <= size <= most:
            yield Doubt(
                "geometry",
                f"has a {what} of {size:.3g} mm (from {least:g} to {most:,.0f} mm expected). Check the "
                "header and export it again.",
                size if math.isfinite(size) else most,
                most if size > most else least,
            )


def _no_hounsfield_units(volume: Mapping[str, Any]) -> Iterator[Doubt]:
    """What air and soft tissue say of a CT whose values are no Hounsfield units.

    In 51 CTs of limbs and trunks 7 % or more of the voxels were air, 23 % or more soft tissue, and at most
    2 % as dense as soft tissue is where air is stored as 0.
    """
    least, most, air, tissue, raised = (volume[fact] for fact in ("min", "max", "air", "tissue", "raised"))
    remedy = "Export it again in Hounsfield units, with air at -1,000 and water at 0."
    if least >= 0.0 and most in (1.0, 255.0):
        yield Doubt(
            "value",
            f"has values from {least:g} to {most:g}: a picture, no Hounsfield units. {remedy}",
            most,
            1.0,
        )
    elif air < LEAST_AIR and raised > MOST_RAISED:
        yield Doubt(
            "value",
            f"has no air below -300 HU and {raised:.0%} of its voxels near 1,024: its values seem to be "
            f"counted from air, not from water. {remedy}",
            raised,
            MOST_RAISED,
        )
    elif tissue < LEAST_TISSUE:
        yield Doubt(
            "value",
            f"has soft tissue (-200 to 200 HU) in {tissue:.1%} of its voxels (at least {LEAST_TISSUE:.0%} "
            f"expected). {remedy}",
            tissue,
            LEAST_TISSUE,
        )


def _no_suv(bright: float) -> Iterator[Doubt]:
    """What the brightest voxels say of a PET whose values are no SUV."""
    least, most = BRIGHT_SUV
    if not least <= bright <= most:
        yield Doubt(
            "value",
            f"has values of {bright:.3g} in its brightest thousandth (an SUV from {least:g} to {most:g} is "
            "expected there). They may be Bq/ml or counts, or dose, weight or times may be wrong. Convert "
            "them to SUV by body weight.",
            bright,
            most if bright > most else least,
        )


def _first_implausible(values: np.ndarray[Any, np.dtype[np.float64]], least: float, most: float) -> float:
    """First value outside the limits, or the first value if all are plausible."""
    return next((float(value) for value in values if not least <= value <= most), float(values[0]))
