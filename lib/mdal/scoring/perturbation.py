"""Deliberate damage to a case; a valid score rises when the modalities are damaged."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Generator, Tensor
from torch.nn import functional

SHIFT_MM = 5.0
_LESION = (2, 4, 4)  # voxels of a coarse view, 20 to 30 mm in a brain
PERTURBATIONS = ("exchanged", "shifted", "erased")


def strangers(groups: NDArray[np.intp], generator: Generator) -> NDArray[np.intp]:
    """Row of a case of another patient for each of n cases.

    If one patient has more than half of the cases, some of them are paired with cases of the same patient.
    """
    patient = np.unique(groups, return_inverse=True)[1]
    place = torch.randperm(int(patient.max()) + 1, generator=generator).numpy()[patient]
    order = np.argsort(place, kind="stable")
    donor = np.empty_like(order)
    donor[order] = np.roll(order, int(np.bincount(patient).max()))
    return donor


@dataclass(frozen=True, eq=False)
class Displacement:
    """A displacement by 5 mm along one axis, drawn for each of n cases.

    Attributes:
        axis: Axis of each case, 0 to 2 for D, H, W, shape (n,).
        voxels: Signed displacement in voxels along this axis, shape (n,).
    """

    axis: Tensor
    voxels: Tensor

    @classmethod
    def draw(cls, voxel_mm: Tensor, generator: Generator) -> Displacement:
        """Draw axis and direction for cases with these voxel sizes along D, H, W in mm, shape (n, 3)."""
        rows = torch.arange(len(voxel_mm))
        axis = torch.randint(3, (len(rows),), generator=generator)
        sign = torch.randint(2, (len(rows),), generator=generator) * 2 - 1
        return cls(axis, sign * SHIFT_MM / voxel_mm.float()[rows, axis])

    def shifted(self, volumes: Tensor) -> Tensor:
        """Views of one modality (n, D, H, W), displaced by linear interpolation, which also blurs them."""
        count, size = len(volumes), torch.tensor(volumes.shape[1:], dtype=torch.float32)
        maps, rows = torch.eye(3, 4).repeat(count, 1, 1), torch.arange(count)
        maps[rows, 2 - self.axis, 3] = 2 * self.voxels / size[self.axis]  # x, y, z, in units of half the view
        grid = functional.affine_grid(maps, [count, 1, *volumes.shape[1:]], align_corners=False)
        return functional.grid_sample(volumes[:, None], grid, padding_mode="border", align_corners=False)[
            :, 0
        ]

    def blurred(self, volumes: Tensor) -> Tensor:
        """The same views blurred as `shifted` blurs them, but not displaced.

        Interpolation at a fraction f of a voxel spreads each voxel with a variance of f (1 - f); so does the
        kernel [v / 2, 1 - v, v / 2] with v = f (1 - f), which moves nothing.
        """
        fraction = self.voxels.abs() % 1.0
        variance = fraction * (1.0 - fraction)
        found = []
        for volume, axis, spread in zip(volumes, self.axis.tolist(), variance, strict=True):
            line = volume.movedim(axis, -1)
            before, after = (
                torch.cat(parts, dim=-1)
                for parts in ((line[..., :1], line[..., :-1]), (line[..., 1:], line[..., -1:]))
            )
            smooth = (1.0 - spread) * line + spread / 2 * (before + after)
            found.append(smooth.movedim(-1, axis))
        return torch.stack(found)


def saliency_map(batch: Tensor, foreground: Tensor, typical: Tensor) -> Tensor:
    """Deviation of each place from the typical appearance there: a label-free proxy of a lesion.

    mean over modalities of |x - mean| / (std + median std), averaged over the size of a lesion

    Args:
        batch: Views of the cases, shape (n, M, D, H, W); an absent modality is zero.
        foreground: Foreground of each case, shape (n, D, H, W); the result is 0 elsewhere.
        typical: Mean and standard deviation of the views of a pool, shape (2, M + 1, D, H, W).
    """
    far = departure(batch, typical).abs().sum(dim=1) / _here(batch).sum(dim=1).clamp(min=1)
    return functional.avg_pool3d((far * foreground)[:, None], 3, stride=1, padding=1)[:, 0] * foreground


def typical_appearance(views: NDArray[np.floating[Any]], present: NDArray[np.bool_]) -> Tensor:
    """Mean and standard deviation of the views of a pool at each voxel.

    Args:
        views: Modalities and foreground of n cases, shape (n, M + 1, D, H, W).
        present: Modalities that each case has, shape (n, M), bool; an absent one counts in nothing.

    Returns:
        Shape (2, M + 1, D, H, W); 0 for a modality that no case has.
    """
    typical = np.zeros((2, *views.shape[1:]), dtype=np.float32)
    for channel in range(views.shape[1]):
        here = present[:, channel] if channel < present.shape[1] else np.ones(len(views), dtype=bool)
        if here.any():
            seen = np.asarray(views[here, channel], dtype=np.float32)
            typical[:, channel] = seen.mean(axis=0), seen.std(axis=0)
    return torch.from_numpy(typical)


def departure(batch: Tensor, typical: Tensor) -> Tensor:
    """Deviation of each modality from its typical value at a place, in standard deviations.

    (x - mean) / (std + median std), 0 where the modality is absent

    Args:
        batch: Views of the cases, shape (n, M, D, H, W); an absent modality is zero.
        typical: Mean and standard deviation of the views of a pool, shape (2, M + 1, D, H, W).

    Returns:
        Signed deviation, shape (n, M, D, H, W).
    """
    mean, deviation = typical[0, :-1], typical[1, :-1]
    scale = deviation + deviation.flatten(1).median(dim=1).values[:, None, None, None] + 1e-6
    return (batch - mean) / scale * _here(batch)


def _here(batch: Tensor) -> Tensor:
    """Modalities that each case has, shape (n, M, 1, 1, 1), bool."""
    return batch.flatten(2).abs().sum(dim=2)[:, :, None, None, None] > 0


def erased(batch: Tensor, modality: int, where: Tensor) -> Tensor:
    """Views of one modality (n, D, H, W) with the most conspicuous place set to the median.

    Args:
        batch: Views of the cases, shape (n, M, D, H, W); the median of a standardised view is 0.
        modality: Index of the modality to erase from.
        where: Saliency of each place of the coarse views, shape (n, d, h, w).
    """
    _, depth, height, width = where.shape
    place = where.flatten(1).argmax(dim=1)
    centre = torch.stack([place // (height * width), place // width % height, place % width], dim=1)  # (n, 3)
    inside = torch.ones_like(where, dtype=torch.bool)
    for axis, (length, radius) in enumerate(zip((depth, height, width), _LESION, strict=True)):
        along = (torch.arange(length) - centre[:, axis, None]).abs() <= radius / 2
        shape = [len(where), 1, 1, 1]
        shape[axis + 1] = length
        inside = inside & along.view(shape)
    size = list(batch.shape[2:])
    gone = functional.interpolate(inside[:, None].float(), size=size, mode="nearest")[:, 0] > 0.5
    return batch[:, modality].masked_fill(gone, 0.0)
