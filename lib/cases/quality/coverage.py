"""How much of the body each modality shows: a scan that ends early, or was cut and padded with one value."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from sklearn.linear_model import LogisticRegression

from lib.cases.formats.image import Grid

LEAST = 0.05  # share of the body that a missing part must have; less is a rim or a hollow organ
_ON_ITS_SIDE = 0.95  # share of the body beyond a cut that is missing, and of the missing part beyond it
_RIM_VOXELS = 2  # of the coarse grid: rims are no missing part
_EQUAL = 1e-3  # of the range of values: padding that was resampled is one value to within rounding

_SHARP, _UNIT_MM = 1e3, 100.0  # of the regression: hardly regularised, on places in units of a body's size


def without_padding(
    images: Mapping[str, NDArray[np.float32]], bodies: Mapping[str, NDArray[np.bool_]], grid: Grid
) -> dict[str, NDArray[np.float32]]:
    """Images with NaN, as outside their field of view, where they were cut through the body and padded.

    A part is padding if it has one single value, lies in the body that all other modalities show, and is
    parted from what the modality shows by a plane. Air has noise, and a hollow organ or a rim has no plane.

    Args:
        images: Image of each modality on the grid, shape (D, H, W); NaN outside its field of view.
        bodies: Body on each image, the same shape.
        grid: The grid.
    """
    places = _places(grid)
    cut = {}
    for name, image in images.items():
        others = [bodies[other] for other in images if other != name]
        body = np.logical_and.reduce(others) & np.isfinite(image) if others else np.zeros(grid.shape, bool)
        beyond = _beyond_cuts(image, body, places)
        cut[name] = np.where(beyond, np.float32(np.nan), image) if beyond.any() else image
    return cut


def covered(
    name: str,
    images: Mapping[str, NDArray[np.float32]],
    bodies: Mapping[str, NDArray[np.bool_]],
    grid: Grid,
) -> dict[str, Any]:
    """How much of the body that all other modalities show lies in the field of view of one modality.

    Returns:
        `covered`, a share, and if the rest lies to one side `missing_mm`, from the middle of the part that is
        shown to that of the rest (RAS mm); nothing if there is no such body.
    """
    others = [bodies[other] for other in images if other != name]
    body = np.logical_and.reduce(others) if others else np.zeros(grid.shape, bool)
    if not body.any():
        return {}
    shown = body & np.isfinite(images[name])
    share = float(shown.sum() / body.sum())
    if share in (0.0, 1.0):
        return {"covered": share}
    places = _places(grid)
    way = places[body & ~shown].mean(axis=0) - places[shown].mean(axis=0)
    length = math.sqrt(12.0) * float((places[body] @ way).std())  # of the body along the way, times |way|
    one_sided = float(way @ way) > length / 3.0  # half of the length if one end is cut off, 0 if both are
    return {"covered": share} | ({"missing_mm": way.tolist()} if one_sided else {})


def _beyond_cuts(
    image: NDArray[np.float32], body: NDArray[np.bool_], places: NDArray[np.float64]
) -> NDArray[np.bool_]:
    """Voxels beyond planes that part what an image shows of a body from its padding."""
    beyond = np.zeros(image.shape, dtype=bool)
    values = image[body]
    if values.size == 0 or np.ptp(values) == 0:
        return beyond
    rounded = np.round(values / (step := _EQUAL * float(np.ptp(values))))
    levels, counts = np.unique(rounded, return_counts=True)
    if counts.max() < LEAST * values.size:
        return beyond
    padded = body & (np.abs(image - levels[counts.argmax()] * step) <= step)
    shown = body & ~padded
    core = ndimage.binary_erosion(padded, iterations=_RIM_VOXELS, border_value=1)  # the grid's end is no rim
    parts, count = ndimage.label(ndimage.binary_dilation(core, iterations=_RIM_VOXELS, mask=padded))
    for part in range(1, count + 1):
        missing = parts == part
        if missing.sum() >= LEAST * body.sum():
            beyond |= _beyond_plane(shown, missing, padded, places)
    return beyond


def _beyond_plane(
    shown: NDArray[np.bool_],
    missing: NDArray[np.bool_],
    padded: NDArray[np.bool_],
    places: NDArray[np.float64],
) -> NDArray[np.bool_]:
    """Voxels on the far side of the plane that parts a missing part from the shown one; none without one.

    The plane is that of a logistic regression on the places of both.
    """
    nowhere = np.zeros(shown.shape, dtype=bool)
    if not shown.any():
        return nowhere
    known = shown | missing
    model = LogisticRegression(C=_SHARP, class_weight="balanced", max_iter=1000)
    model.fit(places[known] / _UNIT_MM, missing[known])
    side = (places / _UNIT_MM @ model.coef_[0] + model.intercept_[0]) > 0.0
    there = (side & missing).sum() >= _ON_ITS_SIDE * missing.sum()
    alone = (side & padded).sum() >= _ON_ITS_SIDE * (side & (shown | padded)).sum()
    return side if there and alone else nowhere


def _places(grid: Grid) -> NDArray[np.float64]:
    """Position of each voxel in RAS mm, shape (D, H, W, 3)."""
    d, h, w = (np.arange(length) for length in grid.shape)
    voxels = np.stack(np.meshgrid(d, h, w, indexing="ij")[::-1], axis=-1)
    return np.asarray(voxels @ grid.affine[:3, :3].T + grid.affine[:3, 3])
