"""Boxes of voxels: the box around a mask, its grid, and the box of one grid that another grid covers."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from lib.cases.formats.image import Grid

Box = tuple[slice, slice, slice]  # along D, H, W, each with a start and a stop


def whole_box(shape: Sequence[int]) -> Box:
    """Box that holds a whole array of a shape (D, H, W)."""
    depth, height, width = shape
    return slice(0, depth), slice(0, height), slice(0, width)


def bounding_box(mask: NDArray[np.bool_]) -> Box | None:
    """Smallest box that holds every true voxel of a mask (D, H, W); None if no voxel is true."""
    found = ndimage.find_objects(np.ascontiguousarray(mask).view(np.uint8), max_label=1)
    return found[0] if found else None


def padded_box(box: Box, margins: Sequence[int], shape: Sequence[int]) -> Box:
    """Box with a margin in voxels on both sides of each axis, cut off at the ends of the array."""
    depth, height, width = (
        slice(max(0, part.start - margin), min(size, part.stop + margin))
        for part, margin, size in zip(box, margins, shape, strict=True)
    )
    return depth, height, width


def grid_of_box(grid: Grid, box: Box) -> Grid:
    """Grid of the voxels of a box."""
    depth, height, width = (part.stop - part.start for part in box)
    affine = grid.affine.copy()
    affine[:, 3] = affine @ [*(part.start for part in reversed(box)), 1.0]
    return Grid((depth, height, width), affine)


def covered_box(grid: Grid, by: Grid) -> Box | None:
    """Box of `grid` whose voxels may lie within a voxel of `by`; None if there is none."""
    ends = product(*((-1, size) for size in by.shape[::-1]))
    corners = np.array([[*index, 1] for index in ends]).T
    places = np.linalg.solve(grid.affine, by.affine @ corners)[:3][::-1]  # (D, H, W) in voxels of `grid`
    first = np.maximum(np.floor(places.min(axis=1)), 0).astype(int)
    last = np.minimum(np.ceil(places.max(axis=1)), np.array(grid.shape) - 1).astype(int)
    if (first > last).any():
        return None
    depth, height, width = (slice(int(low), int(high) + 1) for low, high in zip(first, last, strict=True))
    return depth, height, width
