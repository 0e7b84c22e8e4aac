"""Validation by Dice and surface distance of whole cases, with a rule for empty masks."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from monai.metrics.meandice import compute_dice
from monai.metrics.surface_distance import compute_average_surface_distance
from numpy.typing import NDArray

from lib.cases.formats.voxels import IGNORED
from lib.ciml.decomposition.table import Decomposition
from lib.ciml.inference.predict import predict
from lib.ciml.network.ciml_network import CimlNetwork
from lib.ciml.training.patches import TrainingCase


@dataclass(frozen=True)
class Validation:
    """Quality of the segmentation of some cases.

    Attributes:
        dice_by_region: Mean Dice over the cases.
        surface_distance_by_region: Mean surface distance in mm over the cases; None if no case has it.
        dice_by_case: Mean Dice over the regions.
    """

    dice_by_region: dict[str, float] = field(default_factory=dict)
    surface_distance_by_region: dict[str, float | None] = field(default_factory=dict)
    dice_by_case: dict[str, float] = field(default_factory=dict)

    @property
    def dice(self) -> float:
        """Mean Dice over the regions."""
        return float(np.mean(list(self.dice_by_region.values())))


def validate(
    network: CimlNetwork, cases: Sequence[TrainingCase], *, device: torch.device | str = "cpu"
) -> Validation:
    """Dice and surface distance of each region, averaged over the cases.

    Args:
        network: Network to validate.
        cases: Validation cases, at least one.
        device: Device to compute on.
    """
    names = [region.name for region in network.decomposition.regions]
    dice = np.zeros((len(cases), len(names)))
    distance = np.zeros_like(dice)
    for row, case in enumerate(cases):
        probabilities = predict(network, case.prepared, device=device)
        dice[row] = dice_of(probabilities, case.label, decomposition=network.decomposition)
        distance[row] = surface_distance_of(
            probabilities,
            case.label,
            decomposition=network.decomposition,
            spacing=case.prepared.grid.spacing,
        )
    return Validation(
        dict(zip(names, map(float, dice.mean(axis=0)), strict=True)),
        {name: _mean_of_defined(distance[:, region]) for region, name in enumerate(names)},
        {case.prepared.id: float(row.mean()) for case, row in zip(cases, dice, strict=True)},
    )


def dice_of(
    probabilities: NDArray[np.float32], label: NDArray[np.uint8], *, decomposition: Decomposition
) -> NDArray[np.float64]:
    """Dice of each region at probability 0.5, by MONAI.

    For an empty reference, Dice is 1 if the prediction is empty too, and 0 otherwise.

    Args:
        probabilities: Probabilities of the regions, shape (R, D, H, W).
        label: Label map, shape (D, H, W); voxels that are `IGNORED` do not count.
        decomposition: Decomposition that defines the regions.

    Returns:
        Dice of each region, shape (R,).
    """
    dice = compute_dice(*_masks(probabilities, label, decomposition), ignore_empty=False)
    return np.asarray(dice[0].numpy(), dtype=np.float64)


def surface_distance_of(
    probabilities: NDArray[np.float32],
    label: NDArray[np.uint8],
    *,
    decomposition: Decomposition,
    spacing: tuple[float, float, float],
) -> NDArray[np.float64]:
    """Average symmetric surface distance of each region at probability 0.5, by MONAI.

    If only the prediction or only the reference is empty, the distance is the diagonal of the volume. If both
    are empty, the distance is NaN.

    Args:
        probabilities: Probabilities of the regions, shape (R, D, H, W).
        label: Label map, shape (D, H, W); voxels that are `IGNORED` do not count.
        decomposition: Decomposition that defines the regions.
        spacing: Voxel size in mm along (D, H, W).

    Returns:
        Surface distance of each region in mm, shape (R,).
    """
    predicted, reference = _masks(probabilities, label, decomposition)
    here = torch.stack([predicted, reference]).flatten(3).any(dim=3)[:, 0]  # (2, R)
    distances = np.full(len(probabilities), np.nan)
    distances[here.any(dim=0).numpy()] = np.linalg.norm(np.array(label.shape) * spacing)
    both = here.all(dim=0)
    if both.any():
        with warnings.catch_warnings():  # MONAI 1.5 calls itself with an argument that it has deprecated
            warnings.filterwarnings("ignore", "monai.metrics.utils get_mask_edges", FutureWarning)
            found = compute_average_surface_distance(
                predicted[:, both],
                reference[:, both],
                include_background=True,
                symmetric=True,
                spacing=spacing,
            )
        distances[both.numpy()] = found[0].numpy()
    return distances


def _masks(
    probabilities: NDArray[np.float32], label: NDArray[np.uint8], decomposition: Decomposition
) -> tuple[torch.Tensor, torch.Tensor]:
    """Predicted and reference masks, shape (1, R, D, H, W) each, without the voxels nobody annotated."""
    return (
        torch.from_numpy((probabilities >= 0.5) & (label != IGNORED))[None].float(),
        torch.from_numpy(decomposition.regions_of(label))[None].float(),
    )


def _mean_of_defined(values: NDArray[np.float64]) -> float | None:
    defined = values[~np.isnan(values)]
    return float(defined.mean()) if len(defined) else None
