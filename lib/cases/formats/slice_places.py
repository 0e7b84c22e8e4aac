"""Where the slices of a series lie: straight above each other, or each beside the last (a tilted gantry)."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import affine_transform

from lib.cases.formats.grid import MAX_COSINE, Grid


@dataclass(frozen=True, eq=False)
class SlicePlaces:
    """Position of the voxels of a series as they are stored.

    A gantry that is tilted against the table puts each slice a little beside the one before. No viewer's
    volume can be sheared like that. So the slices keep their planes, and each is moved within its own plane
    onto a straight grid: values are interpolated, labels are moved by whole voxels and come back unchanged.

    Attributes:
        shape: Shape (D, H, W) of the stored slices.
        affine: Maps the index (i along W, j along H, k along D, 1) to RAS+ mm, shape (4, 4). Its third axis
            leads from slice to slice; that of a tilted series is not at right angles to the others.
    """

    shape: tuple[int, int, int]
    affine: NDArray[np.float64]

    @property
    def tilt(self) -> float:
        """Degrees between the way from slice to slice and the slices' normal; 0 if a grid holds them."""
        return float(np.degrees(np.arcsin(np.hypot(*self._cosines)))) if self.is_tilted else 0.0

    @property
    def is_tilted(self) -> bool:
        """Whether a straight grid cannot hold the slices as they are."""
        return bool((np.abs(self._cosines) > MAX_COSINE).any())

    @cached_property
    def grid(self) -> Grid:
        """Straight grid that holds every slice; the stored one unless the slices are tilted.

        Raises:
            CaseError: If no scanner produces this geometry.
        """
        if not self.is_tilted:
            return Grid(self.shape, self.affine)
        depth, height, width = self.shape
        across, down = np.ceil(self._starts.max(axis=0)).astype(int)
        affine = self.affine.copy()
        affine[:3, 2] -= affine[:3, :2] @ self._step
        affine[:3, 3] += affine[:3, :2] @ np.minimum(self._step * (depth - 1), 0.0)
        return Grid((depth, height + int(down), width + int(across)), affine)

    def straightened(self, slices: NDArray[Any]) -> NDArray[Any]:
        """Values of the stored slices on `grid`, interpolated linearly within each slice's plane.

        Outside a slice stands the smallest value of the volume, which in CT, PET and MR is that of air.

        Args:
            slices: Values of shape `shape`.

        Returns:
            Values of the grid's shape, of the same type; the array itself unless the slices are tilted.
        """
        if not self.is_tilted:
            return slices
        straight, least = np.empty(self.grid.shape, dtype=slices.dtype), slices.min()
        for stored, moved, (across, down) in zip(slices, straight, self._starts, strict=True):
            affine_transform(
                stored,
                np.ones(2),
                offset=(-down, -across),
                output_shape=moved.shape,
                output=moved,
                order=1,
                mode="constant",
                cval=least,
            )
        return straight

    def straightened_label(self, slices: NDArray[Any]) -> NDArray[Any]:
        """Label of the stored slices on `grid`, moved by whole voxels; 0 outside them."""
        if not self.is_tilted:
            return slices
        straight = np.zeros(self.grid.shape, dtype=slices.dtype)
        for stored, window in zip(slices, self._windows(straight), strict=True):
            window[:] = stored
        return straight

    def on_slices(self, label: NDArray[Any]) -> NDArray[Any]:
        """Label on `grid` as the stored slices hold it; the inverse of `straightened_label`."""
        return np.stack(self._windows(label)) if self.is_tilted else label

    def _windows(self, straight: NDArray[Any]) -> list[NDArray[Any]]:
        """Part of each plane of the grid that the stored slice covers."""
        _, height, width = self.shape
        starts = np.rint(self._starts).astype(int)
        return [plane[j : j + height, i : i + width] for plane, (i, j) in zip(straight, starts, strict=True)]

    @cached_property
    def _cosines(self) -> NDArray[np.float64]:
        """Cosines of the way from slice to slice with the axes along W and H."""
        unit = self.affine[:3, :3] / np.linalg.norm(self.affine[:3, :3], axis=0)
        cosines: NDArray[np.float64] = unit[:, :2].T @ unit[:, 2]
        return cosines

    @property
    def _step(self) -> NDArray[np.float64]:
        """Voxels along W and H that each slice lies beside the one before."""
        sizes = np.linalg.norm(self.affine[:3, :3], axis=0)
        step: NDArray[np.float64] = self._cosines * sizes[2] / sizes[:2]
        return step

    @cached_property
    def _starts(self) -> NDArray[np.float64]:
        """Position of each slice's first voxel in its plane of the grid, along W and H, shape (D, 2)."""
        beside = np.arange(self.shape[0])[:, None] * self._step
        starts: NDArray[np.float64] = beside - beside.min(axis=0)
        return starts
