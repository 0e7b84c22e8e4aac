"""Two-dimensional projection of the features, for display."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


def projected(features: NDArray[np.floating[Any]]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """First two principal components of N cases, and the share of the variance that each explains.

    Args:
        features: Features of each case, shape (N, F).

    Returns:
        Components (N, 2) and shares (2,); zeros where the cases do not differ.
    """
    centred = np.asarray(features, np.float64) - np.mean(features, axis=0, dtype=np.float64)
    left, scale, right = np.linalg.svd(centred, full_matrices=False)
    sign = np.sign(right[np.arange(len(right)), np.abs(right).argmax(axis=1)])  # its sign is arbitrary
    points, share = np.zeros((len(centred), 2)), np.zeros(2)
    count = min(2, len(scale))
    points[:, :count] = (left * scale * sign)[:, :count]
    share[:count] = scale[:count] ** 2 / max(float((scale**2).sum()), 1e-12)
    return points, share
