"""Grids of voxels in space, and volumes on a grid."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lib.cases.case import CaseError

VOXEL_MM = (1e-3, 1e3)  # a micrometre to a metre
MAX_DISTANCE_MM = 1e6  # of the first voxel from the origin; scanner tables are two metres long
MIN_AXES_VOLUME = 1e-3  # spanned by the three unit axes: 1 if they are orthogonal, 0 if they lie in a plane
MAX_COSINE = 2.5e-3  # between two axes; DICOM rounds its directions to text, and viewers draw no shear


@dataclass(frozen=True, eq=False)
class Grid:
    """Position of voxels in space.

    Attributes:
        shape: Shape (D, H, W).
        affine: Maps the index (i along W, j along H, k along D, 1) to RAS+ mm, shape (4, 4).
    """

    shape: tuple[int, int, int]
    affine: NDArray[np.float64]

    def __post_init__(self) -> None:
        """Refuse a geometry that no scanner produces."""
        if len(self.shape) != 3 or min(self.shape) < 1:
            raise CaseError(f"a volume must have three axes of at least one voxel; got {self.shape}.")
        directions = self.affine[:3, :3]
        if not (np.abs(self.affine) <= MAX_DISTANCE_MM).all():  # also refuses NaN
            raise CaseError(
                f"the header's position must be finite and within {MAX_DISTANCE_MM / 1e6:g} km; got "
                f"{np.array2string(self.affine[:3], precision=3)}. Export it again."
            )
        sizes = np.linalg.norm(directions, axis=0)
        if not ((sizes >= VOXEL_MM[0]) & (sizes <= VOXEL_MM[1])).all():
            raise CaseError(
                f"a voxel must measure {VOXEL_MM[0]:g} to {VOXEL_MM[1]:g} mm along every axis; its header "
                f"says {np.array2string(sizes, precision=3)}. Export it again."
            )
        unit = directions / sizes
        if abs(np.linalg.det(unit)) < MIN_AXES_VOLUME:
            raise CaseError(
                "the header's orientation matrix must be finite and invertible; got "
                f"{np.array2string(directions, precision=3)}. Export it again."
            )
        if np.abs(unit.T @ unit - np.eye(3)).max() > MAX_COSINE:
            raise CaseError(
                "the axes must be at right angles, because viewers draw no sheared volume; the header says "
                f"{np.array2string(directions, precision=3)}. Resample it to a straight grid."
            )

    @cached_property
    def spacing(self) -> tuple[float, float, float]:
        """Voxel size in mm along (D, H, W)."""
        x, y, z = np.linalg.norm(self.affine[:3, :3], axis=0)
        return float(z), float(y), float(x)

    @property
    def voxel_ml(self) -> float:
        """Volume of a voxel in ml."""
        return float(abs(np.linalg.det(self.affine[:3, :3])) / 1000.0)

    def same_as(self, other: Grid, *, tolerance: float = 1e-2) -> bool:
        """Whether both grids put every voxel at the same position, within `tolerance` mm at the corners."""
        if self.shape != other.shape:
            return False
        corners = np.array(
            [
                [i, j, k, 1]
                for k in (0, self.shape[0])
                for j in (0, self.shape[1])
                for i in (0, self.shape[2])
            ],
            dtype=float,
        )
        return bool(np.abs((self.affine - other.affine) @ corners.T).max() <= tolerance)


def named_grid(shape: tuple[int, int, int], affine: NDArray[np.float64], name: str) -> Grid:
    """Grid of a file; the message that refuses it names the file.

    Raises:
        CaseError: If no scanner produces this geometry.
    """
    try:
        return Grid(shape, affine)
    except CaseError as err:
        raise CaseError(f"{name}: {err}") from err


@dataclass(frozen=True, eq=False)
class Volume:
    """Voxels of shape (D, H, W) on a grid."""

    array: NDArray[Any]
    grid: Grid

    def __post_init__(self) -> None:
        """Refuse an array that does not fit its grid."""
        if self.array.shape != self.grid.shape:
            raise CaseError(f"voxels {self.array.shape} must fit their grid {self.grid.shape}.")
