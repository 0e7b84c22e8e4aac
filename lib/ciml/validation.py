"""Dice of whole cases, with a stated rule for empty masks."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from monai.metrics.meandice import compute_dice
from numpy.typing import NDArray

from lib.ciml.decomposition import Decomposition
from lib.ciml.inference import predict
from lib.ciml.network import CimlNetwork
from lib.ciml.patches import TrainingCase


def validate(
    network: CimlNetwork, cases: Sequence[TrainingCase], *, device: torch.device | str = "cpu"
) -> dict[str, float]:
    """Dice of each region, mean over the cases.

    An empty reference counts 1 where the prediction is empty too, and 0 otherwise.

    Args:
        network: Used as it is.
        cases: At least one.
        device: Where to compute.
    """
    regions = network.decomposition.regions
    rows = [
        dice_of(
            predict(network, case.prepared, device=device), case.label, decomposition=network.decomposition
        )
        for case in cases
    ]
    means = np.mean(rows, axis=0)
    return {region.name: float(value) for region, value in zip(regions, means, strict=True)}


def dice_of(
    probabilities: NDArray[np.float32], label: NDArray[np.uint8], *, decomposition: Decomposition
) -> NDArray[np.float64]:
    """Dice of each region at probability 0.5, by MONAI, with the rule of `validate` for an empty reference.

    Args:
        probabilities: (R, D, H, W).
        label: (D, H, W).
        decomposition: Says what the regions are.

    Returns:
        (R,).
    """
    predicted = torch.from_numpy(probabilities >= 0.5)[None].float()
    reference = torch.from_numpy(decomposition.regions_of(label))[None].float()
    dice = compute_dice(predicted, reference, ignore_empty=False)
    return np.asarray(dice[0].numpy(), dtype=np.float64)
