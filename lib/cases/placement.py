"""Place of a label among images: the share of it that lies in an image, and what a grid keeps of it."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product

import numpy as np
from numpy.typing import NDArray

from lib.cases.boxes import bounding_box, covered_box, grid_of_box
from lib.cases.formats.image import Grid, Volume, resample

LEAST_INSIDE = 0.95  # share of a label that must lie inside the image it belongs to
_EDGE = 0.5 + 1e-3  # voxels from the centre of the outermost voxel to the end of the image


def outlined_part(label: Volume) -> Volume | None:
    """Mask (uint8) of a label, cut to the voxels that are not 0; None if all are 0."""
    box = bounding_box(label.array != 0)
    if box is None:
        return None
    return Volume((label.array[box] != 0).view(np.uint8), grid_of_box(label.grid, box))


def share_inside(mask: Volume, grid: Grid) -> float:
    """Share of a mask's voxels, which must be some, whose centres lie inside the field of view of a grid."""
    ends = np.array([[*index, 1] for index in product(*((0, size - 1) for size in mask.grid.shape[::-1]))])
    corners = (np.linalg.solve(grid.affine, mask.grid.affine) @ ends.T)[:3][::-1]
    if _inside(corners, grid).all():
        return 1.0
    return sum(int(_inside(places, grid).sum()) for places in _places(mask, grid)) / int(mask.array.sum())


def share_within(mask: Volume, other: NDArray[np.bool_], grid: Grid) -> float:
    """Share of a mask's voxels, which must be some, that lie in voxels of another mask.

    Up to a voxel beyond its end the other mask goes on, as block means leave out an incomplete last block.

    Args:
        mask: Mask whose voxels are counted.
        other: The other mask, shape (D, H, W).
        grid: Grid of the other mask.
    """
    found = 0
    for places in _places(mask, grid):
        ends = np.array(grid.shape)[:, None] - 1
        near = np.rint(places[:, _inside(places, grid, beyond=1.0)]).astype(np.intp)
        d, h, w = near.clip(0, ends)
        found += int(other[d, h, w].sum())
    return found / int(mask.array.sum())


def volume_on(mask: Volume, grid: Grid) -> float:
    """Volume in ml that a grid keeps of a mask, by nearest neighbour as training resamples labels."""
    if mask.grid.same_as(grid):
        return float(mask.array.sum()) * grid.voxel_ml
    box = covered_box(grid, by=mask.grid)
    if box is None:
        return 0.0
    return float(resample(mask, grid_of_box(grid, box), nearest=True).array.sum()) * grid.voxel_ml


def _places(mask: Volume, grid: Grid) -> Iterator[NDArray[np.float64]]:
    """Indices (D, H, W) in a grid of a mask's voxels, shape (3, n), slice by slice to bound the memory."""
    to_grid = np.linalg.solve(grid.affine, mask.grid.affine)
    for depth, plane in enumerate(mask.array):
        rows, columns = np.nonzero(plane)
        index = np.stack([columns, rows, np.full(len(rows), depth), np.ones(len(rows))])
        yield (to_grid @ index)[:3][::-1]


def _inside(places: NDArray[np.float64], grid: Grid, *, beyond: float = 0.0) -> NDArray[np.bool_]:
    edge = _EDGE + beyond
    ends = np.array(grid.shape)[:, None] - 1 + edge
    return np.asarray(((places >= -edge) & (places <= ends)).all(axis=0))
