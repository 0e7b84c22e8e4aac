"""Probabilities of a whole case from a network."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from monai.inferers.utils import sliding_window_inference
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from lib.cases.volumes import PreparedCase
from lib.ciml.decomposition import Decomposition
from lib.ciml.network import CimlNetwork, Output

Box = tuple[slice, slice, slice]
MARGIN = 4  # voxels kept around the body


def predict(
    network: CimlNetwork,
    prepared: PreparedCase | NDArray[Any],
    *,
    present: NDArray[np.bool_] | None = None,
    device: torch.device | str = "cpu",
    roi_size: tuple[int, int, int] = (32, 96, 96),
    max_voxels: int = 1_000_000,
    overlap: float = 0.25,
) -> NDArray[np.float32]:
    """Probability of each region at each voxel; 0 outside the body.

    The box around the body is read and passed through the network at once where it has at most `max_voxels`,
    and in overlapping windows otherwise. Subtasks that outline the same region are averaged.

    Args:
        network: 3-D; its mode is restored afterwards.
        prepared: A case, or an array (M, D, H, W) normalised as `lib.cases.volumes` does, without an outline.
        present: (M,) bool; that of the case, or all, when None.
        device: Where to compute.
        roi_size: Window (D, H, W); rounded up to the network's multiples.
        max_voxels: Bounds the memory of one pass.
        overlap: Share of a window that its neighbour repeats.

    Returns:
        (R, D, H, W), on the case's grid.

    Raises:
        ValueError: If the channels do not fit the network, or no modality is present.
    """
    array, box, present = _opened(network, prepared, present)
    x = torch.from_numpy(np.array(array[(slice(None), *box)], dtype=np.float32))[None].to(device)
    here = torch.from_numpy(np.array(present))[None].to(device)
    training = network.training
    network.to(device).eval()
    try:
        with torch.inference_mode():
            inside = _probabilities(
                network, x, here, roi_size=roi_size, max_voxels=max_voxels, overlap=overlap
            )
    finally:
        network.train(training)
    probabilities = np.zeros((inside.shape[1], *array.shape[1:]), dtype=np.float32)
    probabilities[(slice(None), *box)] = inside[0].float().cpu().numpy()
    return probabilities


def region_probabilities(output: Output, decomposition: Decomposition) -> Tensor:
    """Mean over the subtasks of each region's probability.

    Returns:
        (B, R, D, H, W), regions in the decomposition's order.
    """
    found: dict[str, list[Tensor]] = {region.name: [] for region in decomposition.regions}
    for subtask in decomposition.subtasks:
        probabilities = torch.sigmoid(output.logits[subtask.name].float())
        for channel, name in enumerate(subtask.regions):
            found[name].append(probabilities[:, channel])
    return torch.stack([torch.stack(several).mean(dim=0) for several in found.values()], dim=1)


def _probabilities(
    network: CimlNetwork,
    x: Tensor,
    present: Tensor,
    *,
    roi_size: tuple[int, ...],
    max_voxels: int,
    overlap: float,
) -> Tensor:
    def window(part: Tensor) -> Tensor:
        return region_probabilities(network(part, present.expand(len(part), -1)), network.decomposition)

    shape, divisor = x.shape[2:], network.settings.divisor
    if shape.numel() <= max_voxels:
        # At least two bottleneck voxels along each axis: one alone has no deviation to normalise by.
        padding = [max(-size % step, 2 * step - size) for size, step in zip(shape, divisor, strict=True)]
        x = functional.pad(x, [side for extra in reversed(padding) for side in (0, extra)])
        return window(x)[..., : shape[0], : shape[1], : shape[2]]
    roi = tuple(max(size + -size % step, 2 * step) for size, step in zip(roi_size, divisor, strict=True))
    answer = sliding_window_inference(x, roi, 1, window, overlap=overlap, mode="gaussian")
    if not isinstance(answer, Tensor):
        raise TypeError(f"the windows' answer must be one tensor; got {type(answer).__name__}.")
    return answer


def _opened(
    network: CimlNetwork, prepared: PreparedCase | NDArray[Any], present: NDArray[np.bool_] | None
) -> tuple[NDArray[Any], Box, NDArray[np.bool_]]:
    array, whole = prepared, tuple(slice(None) for _ in range(3))
    box: Any = whole
    if isinstance(prepared, PreparedCase):
        if prepared.modalities != network.modalities:
            raise ValueError(
                f"the case must have the channels {', '.join(network.modalities)}; "
                f"got {', '.join(prepared.modalities)}. Prepare it for this model."
            )
        array, box = prepared.array, bounding_box(prepared.foreground)
        present = prepared.present if present is None else present
    array = np.asanyarray(array)
    if network.settings.spatial_dims != 3 or array.ndim != 4 or len(array) != len(network.modalities):
        raise ValueError(
            f"predict needs a 3-D network and an array ({len(network.modalities)}, D, H, W); got "
            f"{network.settings.spatial_dims}-D and {array.shape}."
        )
    return array, box, np.ones(len(array), dtype=bool) if present is None else present


def bounding_box(mask: NDArray[np.bool_]) -> Box:
    """The part of the grid that holds the mask and a margin; the whole grid for an empty mask."""
    if not mask.any():
        return slice(None), slice(None), slice(None)
    depth, height, width = (
        _extent(mask.any(axis=axes), size)
        for axes, size in zip(((1, 2), (0, 2), (0, 1)), mask.shape, strict=True)
    )
    return depth, height, width


def _extent(occupied: NDArray[np.bool_], size: int) -> slice:
    positions = np.flatnonzero(occupied)
    return slice(max(int(positions[0]) - MARGIN, 0), min(int(positions[-1]) + 1 + MARGIN, size))
