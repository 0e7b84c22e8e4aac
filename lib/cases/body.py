"""The patient's outline in one modality."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from lib.cases.modalities import kind


def body_mask(array: NDArray[np.float32], modality: str) -> NDArray[np.bool_]:
    """Voxels inside the patient: above air, closed, the largest part, holes filled slice by slice.

    Thresholds: CT -400 HU; PET 0.2 SUV, or 2 % of the 99th percentile where that is more (becquerels);
    MR a tenth of the way from the 1st to the 99th percentile, as Otsu's threshold parts fat from
    muscle where the body fills the image.

    Args:
        array: (D, H, W) in the modality's unit.
        modality: Its name, which decides the threshold.

    Returns:
        (D, H, W); all False for a volume without contrast.
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
    mask = ndimage.binary_opening(ndimage.gaussian_filter(array, 0.7) > threshold)
    parts, count = ndimage.label(mask)
    if count > 1:
        sizes = np.bincount(parts.ravel())[1:]
        mask = np.isin(parts, 1 + np.flatnonzero(sizes >= 0.1 * sizes.max()))
    return np.stack([ndimage.binary_fill_holes(layer) for layer in mask])
