"""Measurements of the label beside the images of a case: its values, and where it lies."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lib.cases.case import Source
from lib.cases.formats.image import Grid, Volume, read_label_map, read_segments, resample
from lib.cases.formats.voxels import present_values
from lib.cases.placement import outlined_part, share_inside, share_within, volume_on
from lib.cases.quality.label_turns import turned_fit
from lib.cases.unexpected_errors import as_case_error
from lib.runtime.errors import UserError

_SAME_SIZE = 1e-2  # relative difference of voxel sizes that are written with rounding


@dataclass(frozen=True, eq=False)
class Compared:
    """Images of a case that can be compared, on one coarse grid.

    Attributes:
        grid: The grid.
        images: Image of each modality; NaN outside its field of view.
        bodies: Body on each image.
    """

    grid: Grid
    images: Mapping[str, NDArray[np.float32]]
    bodies: Mapping[str, NDArray[np.bool_]]


def label_facts(
    label: Source,
    ignored: int | None,
    grids: Mapping[str, Grid],
    compared: Compared,
    *,
    reference: str,
    max_voxels: int,
) -> dict[str, Any]:
    """Values and place of a label; JSON-serialisable.

    Args:
        label: Location of the label.
        ignored: Value of the voxels that nobody annotated, which lie anywhere; None if there is none.
        grids: Grid of each readable image of the case.
        compared: The images that can be compared.
        reference: Modality that gives the grid of the arrays.
        max_voxels: Largest number of voxels.

    Returns:
        `error` if it cannot be read; else `values`, `segments` as a Slicer file names them, and `ignored`.
        If it outlines anything: `ml`, and `kept_ml` on the grid of `reference`, whose voxels have
        `reference_ml`; `inside` and `body`, the shares of it inside the field of view of each image and in
        the body there; `twin`, see `displaced_twin`; `turned`, see `turned_fit`.
    """
    try:
        with as_case_error(str(label.path)):
            volume = read_label_map(label, max_voxels=max_voxels)
            segments = read_segments(label)
    except UserError as err:
        return {"error": str(err)}
    facts: dict[str, Any] = {
        "values": sorted(present_values(volume.array)),
        "segments": segments,
        "ignored": ignored,
    }
    if ignored is not None:
        volume.array[volume.array == ignored] = 0
    if (mask := outlined_part(volume)) is None:
        return facts
    voxels = int(mask.array.sum())
    return facts | {
        "ml": voxels * mask.grid.voxel_ml,
        "reference": reference,
        "reference_ml": grids[reference].voxel_ml,
        "kept_ml": volume_on(mask, grids[reference]),
        "inside": {name: share_inside(mask, grid) for name, grid in grids.items()},
        "body": {
            name: share_within(mask, body, compared.grid)
            for name, body in compared.bodies.items()
            if body.any()
        },
        "twin": displaced_twin(volume.grid, grids),
        "turned": _turned(mask, volume.grid, grids[reference], compared),
    }


def _turned(mask: Volume, label: Grid, reference: Grid, compared: Compared) -> dict[str, Any] | None:
    """Result of `turned_fit`; None if the label fills another box than the reference, so a turn moves it."""
    if not _same_box(label, reference):
        return None
    placed = resample(mask, compared.grid, nearest=True).array.astype(bool)
    return turned_fit(placed, compared.images, compared.bodies)


def displaced_twin(label: Grid, grids: Mapping[str, Grid]) -> dict[str, Any] | None:
    """Image that the label was drawn on if one of the two has lost its place in space; None if there is none.

    A label has the size of the image that it was drawn on. It has lost its place if it has the number of
    voxels of an image along every axis, in any order, and either its voxel size too or an origin of exactly
    0, but lies on none of the images.

    Returns:
        `modality`, and `apart_mm` between the centres of the two.
    """
    if any(_same_box(label, grid) for grid in grids.values()):
        return None
    for name, grid in grids.items():
        if sorted(grid.shape) != sorted(label.shape):
            continue
        same_size = np.allclose(sorted(label.spacing), sorted(grid.spacing), rtol=_SAME_SIZE)
        lost = not label.affine[:3, 3].any() or not grid.affine[:3, 3].any()
        if same_size or lost:
            apart = _corners(label).mean(axis=0) - _corners(grid).mean(axis=0)
            return {"modality": name, "apart_mm": float(np.linalg.norm(apart))}
    return None


def _same_box(one: Grid, other: Grid) -> bool:
    """Whether two grids fill the same box to within a voxel, in any order and direction of the axes."""
    between = np.linalg.norm(_corners(one)[:, None] - _corners(other)[None], axis=2)
    return bool(between.min(axis=1).max() <= max(*one.spacing, *other.spacing))


def _corners(grid: Grid) -> NDArray[np.float64]:
    """Corners of the outer voxels in RAS mm, shape (8, 3)."""
    ends = product(*((-0.5, size - 0.5) for size in grid.shape[::-1]))
    return np.asarray((grid.affine @ np.array([[*index, 1] for index in ends]).T)[:3].T)
