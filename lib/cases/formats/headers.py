"""What an image file says of itself, before a voxel is read."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lib.cases.case import CaseError

RAS_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])  # from either to the other


@dataclass(frozen=True, eq=False)
class Header:
    """A checked header: one volume, or several of one shape one after another.

    Attributes:
        shape: (D, H, W) of each volume.
        affine: (4, 4), index to RAS+ mm as `Grid` has it.
        dtype: Type of a stored voxel, with its byte order.
        gap: Bytes between the header and the first voxel, of no interest here.
        channels: How many volumes there are.
        channel: The one that is asked for.
        slope: Value = stored number x slope + intercept.
        intercept: In the unit of the values.
    """

    shape: tuple[int, int, int]
    affine: NDArray[np.float64]
    dtype: np.dtype[Any]
    gap: int = 0
    channels: int = 1
    channel: int = 0
    slope: float = 1.0
    intercept: float = 0.0

    @property
    def voxels(self) -> int:
        """Voxels of one volume."""
        return prod(self.shape)


def require(holds: bool, sentence: str) -> None:
    """Refuse a file.

    Raises:
        CaseError: With the sentence, unless it holds.
    """
    if not holds:
        raise CaseError(sentence)
