"""The patient's outline in one modality."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from skimage.filters import threshold_otsu

from lib.cases.modalities import kind


def body_mask(array: NDArray[np.float32], modality: str) -> NDArray[np.bool_]:
    """Voxels inside the patient: above air, closed, the largest part, holes filled slice by slice.

    Thresholds: CT -400 HU; PET 0.1 SUV; MR half of Otsu's threshold on the non-zero range.

    Args:
        array: (D, H, W) in the modality's unit.
        modality: Its name, which decides the threshold.

    Returns:
        (D, H, W); all False for a volume without contrast.
    """
    if not np.isfinite(array).all() or np.ptp(array) == 0:
        return np.zeros(array.shape, dtype=bool)
    match kind(modality):
        case "CT":
            threshold = -400.0
        case "PET":
            threshold = 0.1
        case _:
            sample = array[:: max(1, array.shape[0] // 32), ::2, ::2]
            clipped = np.clip(sample, None, np.percentile(sample, 99))
            threshold = 0.5 * float(threshold_otsu(clipped)) if np.ptp(clipped) else 0.0
    mask = ndimage.binary_opening(ndimage.gaussian_filter(array, 0.7) > threshold)
    parts, count = ndimage.label(mask)
    if count > 1:
        sizes = np.bincount(parts.ravel())[1:]
        mask = np.isin(parts, 1 + np.flatnonzero(sizes >= 0.1 * sizes.max()))
    return np.stack([ndimage.binary_fill_holes(layer) for layer in mask])
