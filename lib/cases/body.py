"""The patient's outline in one modality."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from lib.cases.boxes import bounding_box, padded_box
from lib.cases.modalities import kind

_REACH = 6  # voxels: 3 of the filter's kernel on each side, and 3 of its mirrored border
_IN_SLICE = np.zeros((3, 3, 3), dtype=bool)  # neighbours within a slice
_IN_SLICE[1] = ndimage.generate_binary_structure(2, 1)


def body_mask(array: NDArray[np.float32], modality: str) -> NDArray[np.bool_]:
    """Voxels inside the patient: above air, opened, only the large parts, holes filled slice by slice.

    Thresholds: CT -400 HU. PET 0.2 SUV, or 2 % of the 99th percentile if that is larger (becquerels). MR a
    tenth of the way from the 1st to the 99th percentile; Otsu's threshold would separate fat from muscle
    if the body fills the image.

    Args:
        array: Voxels in the modality's unit, shape (D, H, W).
        modality: Name of the modality, which determines the threshold.

    Returns:
        Shape (D, H, W); all False for a volume without contrast.
    """
    if not np.isfinite(array).all() or np.ptp(array) == 0:
        return np.zeros(array.shape, dtype=bool)
    sample = array[tuple(slice(None, None, max(1, length // 64)) for length in array.shape)]
    match kind(modality):
        case "CT":
            threshold = -400.0
        case "PET":
            threshold = max(0.2, 0.02 * float(np.percentile(sample, 99)))
        case _:
            low, high = np.percentile(sample, (1, 99))
            threshold = float(low + 0.1 * (high - low))
    mask = np.zeros(array.shape, dtype=bool)
    reached = bounding_box(array > threshold)
    if reached is None:
        return mask
    box = padded_box(reached, (_REACH,) * 3, array.shape)  # outside it smoothing lifts no voxel so high
    mask[box] = _filled(
        _largest(ndimage.binary_opening(ndimage.gaussian_filter(array[box], 0.7) > threshold))
    )
    return mask


def _largest(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Connected parts with at least a tenth of the size of the largest part."""
    parts, count = ndimage.label(mask)
    if count <= 1:
        return mask
    sizes = np.bincount(parts.ravel())
    sizes[0] = 0
    return np.asarray((sizes >= 0.1 * sizes.max())[parts] & mask)


def _filled(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Mask with its holes filled slice by slice; a hole has no path to the border of its slice."""
    parts, count = ndimage.label(~mask, structure=_IN_SLICE)
    outside = np.zeros(count + 1, dtype=bool)
    for border in (parts[:, 0], parts[:, -1], parts[:, :, 0], parts[:, :, -1]):
        outside[border] = True
    outside[0] = False
    return np.asarray(~outside[parts])
