"""Scores of an outline of one lesion."""

from __future__ import annotations

import numpy as np
import torch
from monai.metrics.hausdorff_distance import compute_hausdorff_distance
from numpy.typing import NDArray

from lib.ciml.decomposition.table import Decomposition
from lib.ciml.training.patches import TrainingCase
from lib.ciml.training.validation import dice_of, surface_distance_of

Scores = dict[str, float]


def judge(probabilities: NDArray[np.float32], case: TrainingCase, decomposition: Decomposition) -> Scores:
    """Dice, average symmetric surface distance and 95th percentile of the Hausdorff distance in mm.

    The lesion is outlined at probability 0.5. If one of the two outlines is empty, the distances are the
    diagonal of the case's volume and Dice is 0.
    """
    spacing = case.prepared.grid.spacing
    distance = surface_distance_of(probabilities, case.label, decomposition=decomposition, spacing=spacing)
    predicted, reference = probabilities[0] >= 0.5, case.label > 0
    hausdorff = float(np.linalg.norm(np.array(reference.shape) * spacing))
    if predicted.any() and reference.any():
        masks = [torch.from_numpy(mask)[None, None].float() for mask in (predicted, reference)]
        found = compute_hausdorff_distance(
            masks[0], masks[1], include_background=True, percentile=95, spacing=spacing
        )
        hausdorff = float(found)
    return {
        "dice": float(dice_by_region(probabilities, case, decomposition)[0]),
        "surface_distance": float(distance[0]),
        "hausdorff95": hausdorff,
    }


def dice_by_region(
    probabilities: NDArray[np.float32], case: TrainingCase, decomposition: Decomposition
) -> NDArray[np.float64]:
    """Dice of each region at probability 0.5, shape (R,).

    Raises:
        ValueError: If a probability is not finite.
    """
    if not np.isfinite(probabilities).all():
        raise ValueError(f"every probability of {case.prepared.id} must be finite; some are not.")
    return dice_of(probabilities, case.label, decomposition=decomposition)
