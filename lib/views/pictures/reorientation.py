"""Arrays reordered to the patient's axes, as radiologists view them, whatever the orientation of the grid."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import nibabel as nib
import numpy as np
from nibabel.orientations import apply_orientation, axcodes2ornt, ornt_transform
from numpy.typing import NDArray

from lib.cases.boxes import Box
from lib.cases.formats.image import Grid


@dataclass(frozen=True, eq=False)
class Reorientation:
    """From the axes (D, H, W) of a grid to three anatomical axes.

    Attributes:
        grid: Grid of the arrays.
        orientation: Anatomical axis and direction, 1 or -1, of each array axis W, H, D, shape (3, 2).
        spacing: Voxel size in mm along the anatomical axes.
    """

    grid: Grid
    orientation: NDArray[np.float64]
    spacing: tuple[float, float, float]

    @classmethod
    def to(cls, axes: str, grid: Grid) -> Reorientation:
        """Reorientation to axes that run towards the letters, such as `LPS`: left, posterior, superior."""
        orientation = ornt_transform(nib.io_orientation(grid.affine), axcodes2ornt(tuple(axes)))
        first, second, third = (float(grid.spacing[::-1][axis]) for axis in np.argsort(orientation[:, 0]))
        return cls(grid, orientation, (first, second, third))

    def volume(self, volume: NDArray[Any]) -> NDArray[Any]:
        """Array (D, H, W) along the anatomical axes, without a copy."""
        return np.asarray(apply_orientation(np.asarray(volume).transpose(2, 1, 0), self.orientation))

    def box(self, box: Box) -> Box:
        """Box along the anatomical axes."""
        turned = [slice(0)] * 3
        for part, size, (axis, direction) in self._axes(box[::-1]):
            turned[axis] = part if direction > 0 else slice(size - part.stop, size - part.start)
        return turned[0], turned[1], turned[2]

    def index(self, voxel: tuple[int, int, int]) -> tuple[int, int, int]:
        """Index along the anatomical axes of a voxel (W, H, D)."""
        turned = [0, 0, 0]
        for at, size, (axis, direction) in self._axes(voxel):
            turned[axis] = at if direction > 0 else size - 1 - at
        return turned[0], turned[1], turned[2]

    def voxel(self, index: tuple[float, float, float]) -> tuple[float, float, float]:
        """Voxel (W, H, D) at an index along the anatomical axes."""
        width, height, depth = (
            index[axis] if direction > 0 else size - 1 - index[axis]
            for _, size, (axis, direction) in self._axes((0, 0, 0))
        )
        return width, height, depth

    def _axes(self, parts: tuple[Any, Any, Any]) -> list[tuple[Any, int, tuple[int, float]]]:
        """Each part with the size of its array axis, its anatomical axis and direction."""
        return [
            (part, size, (int(axis), float(direction)))
            for part, size, (axis, direction) in zip(
                parts, self.grid.shape[::-1], self.orientation, strict=True
            )
        ]
