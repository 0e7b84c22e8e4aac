"""Headers of image files, checked before a voxel is read."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lib.cases.case import CaseError

NUMBER = r"[-+]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][-+]?[0-9]+)?"  # in a header that is text
RAS_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])  # converts RAS to LPS and back


@dataclass(frozen=True, eq=False)
class Header:
    """Checked header of a file with one volume, or with several volumes of one shape.

    Attributes:
        shape: Shape (D, H, W) of each volume.
        affine: Index to RAS+ mm as in `Grid`, shape (4, 4).
        dtype: Type and byte order of a stored voxel.
        gap: Bytes to skip between the header and the first voxel.
        channels: Number of volumes.
        channel: Index of the wanted volume.
        slope: Slope in: value = stored number x slope + intercept.
        intercept: Intercept, in the unit of the values.
        segments: Name and value of each segment that the header names; empty for other files.
    """

    shape: tuple[int, int, int]
    affine: NDArray[np.float64]
    dtype: np.dtype[Any]
    gap: int = 0
    channels: int = 1
    channel: int = 0
    slope: float = 1.0
    intercept: float = 0.0
    segments: tuple[tuple[str, int], ...] = ()

    @property
    def voxels(self) -> int:
        """Number of voxels of one volume."""
        return prod(self.shape)


def require(holds: bool, sentence: str) -> None:
    """Refuse a file unless a condition holds.

    Raises:
        CaseError: If the condition does not hold; the message is the sentence.
    """
    if not holds:
        raise CaseError(sentence)
