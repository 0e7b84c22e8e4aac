"""Features on a plane, to be looked at."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


def projected(features: NDArray[np.floating[Any]]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The two principal components that tell most of N cases apart, and the share that each explains.

    Args:
        features: (N, F).

    Returns:
        (N, 2) and (2,); zeros where there is nothing to tell apart.
    """
    centred = np.asarray(features, np.float64) - np.mean(features, axis=0, dtype=np.float64)
    left, scale, right = np.linalg.svd(centred, full_matrices=False)
    sign = np.sign(right[np.arange(len(right)), np.abs(right).argmax(axis=1)])  # a direction has no sign
    points, share = np.zeros((len(centred), 2)), np.zeros(2)
    count = min(2, len(scale))
    points[:, :count] = (left * scale * sign)[:, :count]
    share[:count] = scale[:count] ** 2 / max(float((scale**2).sum()), 1e-12)
    return points, share
