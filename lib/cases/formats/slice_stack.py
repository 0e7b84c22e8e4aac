"""A stack of slices: their order, and their common place in space."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from lib.cases.case import CaseError
from lib.cases.formats.contrast import check_one_volume
from lib.cases.formats.slice_header import SLICE_SPACING_MM, SliceHeader

BESIDE_MM = 0.5  # largest distance of a slice from the line through the others
MAX_TILT = 45.0  # degrees; gantries tilt by up to 30
_SAME_PLACE_MM = 1e-3


def stacked(slices: Sequence[SliceHeader], name: str) -> tuple[tuple[SliceHeader, ...], NDArray[np.float64]]:
    """Slices in the order of their position along the slice normal, and the affine of their places.

    The third axis leads from slice to slice. That of a tilted gantry is not along the normal.

    Args:
        slices: Slices of a series in any order.
        name: Name of the series in errors.

    Returns:
        Slices, and the map of (i along W, j along H, k along D, 1) to LPS mm, shape (4, 4).

    Raises:
        CaseError: If the slices form no single and evenly spaced volume along one line.
    """
    for other in slices[1:]:
        other.check_same_series(slices[0], name)
    row, column = np.reshape(slices[0].orientation, (2, 3))
    normal = np.cross(row, column)
    ordered = tuple(sorted(slices, key=lambda each: float(np.dot(normal, each.position))))
    positions = np.array([each.position for each in ordered])
    along = positions @ normal
    _check_copies(ordered, along, name)
    places = 1 + int((np.diff(along) > _SAME_PLACE_MM).sum())
    check_one_volume([each.contrast for each in slices], places, name)
    if len(ordered) < 2:
        raise CaseError(
            f"{name} must hold at least two slices; found {len(ordered)}. Export the whole series."
        )
    tilted = _check_line(name, positions, normal)
    _check_steps(name, ordered, along)
    way = (positions[-1] - positions[0]) if tilted else normal * (along[-1] - along[0])
    affine = np.eye(4)
    affine[:3, 0] = row * slices[0].spacing[1]
    affine[:3, 1] = column * slices[0].spacing[0]
    affine[:3, 2] = way / (len(ordered) - 1)
    affine[:3, 3] = positions[0]
    return ordered, affine


def _check_copies(slices: Sequence[SliceHeader], along: NDArray[np.float64], name: str) -> None:
    """Refuse two files of one instance; which of them is right cannot be known."""
    first: dict[tuple[str, int | None], SliceHeader] = {}
    for each in slices:
        if each.instance and first.setdefault((each.instance, each.frame), each) is not each:
            other = first[each.instance, each.frame]
            raise CaseError(
                f"{name} must hold each slice once; {other.label} and {each.label} have one SOPInstanceUID, "
                "yet their content differs. Remove the wrong one."
            )


def _check_steps(name: str, slices: Sequence[SliceHeader], along: NDArray[np.float64]) -> None:
    """Refuse uneven spacing: a slice is missing or misplaced."""
    gaps = np.diff(along)
    step = float(np.median(gaps))
    if np.abs(gaps - step).max() > max(0.1 * step, 0.05):
        worst = int(np.abs(gaps - step).argmax())
        raise CaseError(
            f"{name} must have evenly spaced slices ({step:.2f} mm); between {slices[worst].label} and "
            f"{slices[worst + 1].label} there are {gaps[worst]:.2f} mm. A slice is missing or "
            "duplicated. Send or export the series again."
        )
    if step > SLICE_SPACING_MM[1]:
        raise CaseError(
            f"{name} must have slices at most {SLICE_SPACING_MM[1]:g} mm apart; they are {step:.2f} mm "
            "apart. Export the whole series."
        )


def _check_line(name: str, positions: NDArray[np.float64], normal: NDArray[np.float64]) -> bool:
    """Whether the slices lie beside their normal, as a tilted gantry puts them; refuse any other disorder."""
    ways = positions - positions[0]
    along, whole = ways @ normal, ways[-1]
    sideways = np.linalg.norm(ways - np.outer(along, normal), axis=1)
    if sideways.max() <= BESIDE_MM:
        return False
    off = np.linalg.norm(ways - np.outer(along / along[-1], whole), axis=1)
    if off.max() > BESIDE_MM:
        raise CaseError(
            f"{name} must have its slices along one line; one lies {off.max():.1f} mm beside the line "
            "from the first to the last. Export the series again."
        )
    degrees = np.degrees(np.arctan2(sideways[-1], along[-1]))
    if degrees > MAX_TILT:
        raise CaseError(
            f"{name} must have slices that cover each other, tilted by at most {MAX_TILT:.0f} degrees; they "
            f"are tilted by {degrees:.1f}. Export the whole series."
        )
    return True
