"""Cases as small arrays of one shape, so that a position means the same place in every patient."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from lib.cases.case import Case
from lib.cases.volumes import PreparedCase

Shape = tuple[int, int, int]

VIEW_SHAPE: Shape = (12, 24, 24)  # content rather than edges; 8 times cheaper than (24, 48, 48) on a CPU
_MIN_SPREAD = 1e-3  # of a prepared value; a constant channel becomes zero instead of noise
MARGIN = 0.04  # of the bounding box, on each side: the outline itself stays inside the view


def case_view(prepared: PreparedCase, *, shape: Shape = VIEW_SHAPE) -> NDArray[np.float16]:
    """The foreground's bounding box, standardised and resampled to one shape by averaging.

    x' = asinh((x - median) / interquartile range), both inside the foreground: the level and spread
    of a volume say which scanner made it, and PET's few hot voxels would hide all others.

    Args:
        prepared: A case on its grid; an absent modality stays a channel of zeros.
        shape: (D, H, W) of the result.

    Returns:
        (M + 1, D, H, W); the last channel is 1 where the voxel is foreground, else 0. A case whose
        foreground is empty is taken whole.

    Raises:
        ValueError: If a value is not finite.
    """
    inside = np.asarray(prepared.foreground)
    if not inside.any():
        inside = np.ones_like(inside)
    box = _bounding_box(inside)
    inside, channels = inside[box], np.asarray(prepared.array[(slice(None), *box)], dtype=np.float32)
    if not np.isfinite(channels).all():
        raise ValueError(
            f"the prepared case {prepared.id} must hold finite values; it has NaN or infinity. "
            "Prepare it again."
        )
    for m in np.flatnonzero(prepared.present):
        low, middle, high = np.percentile(channels[m][inside], (25, 50, 75))
        channels[m] = np.arcsinh((channels[m] - middle) / max(high - low, _MIN_SPREAD))
    stacked = torch.from_numpy(np.concatenate([channels, inside[None]], dtype=np.float32))
    view = functional.interpolate(stacked[None], size=shape, mode="area")[0].numpy()
    view[-1] = view[-1] >= min(0.5, float(view[-1].max()))  # a thin body keeps where it is thickest
    return view.astype(np.float16)


@dataclass(frozen=True, eq=False)
class PoolViews:
    """The views of a pool in one memory-mapped file, in the order of the cases.

    Attributes:
        array: (N, M + 1, D, H, W) float16; the last channel is the foreground.
        present: (N, M) bool; an absent modality's channel is zero.
    """

    array: NDArray[np.float16]
    present: NDArray[np.bool_]

    @property
    def views(self) -> NDArray[np.float16]:
        """(N, M, D, H, W), without a copy."""
        return self.array[:, :-1]

    @property
    def foreground(self) -> NDArray[np.float16]:
        """(N, D, H, W), 1 inside the body and 0 outside, without a copy."""
        return self.array[:, -1]


def write_views(
    cases: Sequence[Case], read: Callable[[Case], PreparedCase], path: Path, *, shape: Shape = VIEW_SHAPE
) -> PoolViews:
    """Write every case's view into one .npy file, reading each case once and holding one at a time.

    Args:
        cases: The pool, in the order of the result.
        read: Usually `VolumeCache.get`.
        path: File to write; replaced if it exists.
        shape: (D, H, W) of a view.

    Raises:
        ValueError: If the pool is empty.
        CaseError: If a case cannot be read.
    """
    if not cases:
        raise ValueError("the pool must have at least one case; got none. Check the studies folder.")
    rows = ((prepared.present, case_view(prepared, shape=shape)) for prepared in map(read, cases))
    present, view = next(rows)
    shape_of_all = (len(cases), *view.shape)
    array = np.lib.format.open_memmap(path, "w+", np.float16, shape_of_all)
    everywhere = np.zeros((len(cases), len(present)), dtype=bool)
    array[0], everywhere[0] = view, present
    for row, (present, view) in enumerate(rows, start=1):
        array[row], everywhere[row] = view, present
    array.flush()
    return PoolViews(np.load(path, mmap_mode="r"), everywhere)


def _bounding_box(inside: NDArray[np.bool_]) -> tuple[slice, ...]:
    """Slices of the smallest box around True, with the margin."""
    box = []
    for axis in range(inside.ndim):
        found = np.flatnonzero(inside.any(axis=tuple(other for other in range(inside.ndim) if other != axis)))
        margin = max(1, round(MARGIN * (found[-1] - found[0] + 1)))
        box.append(slice(max(0, found[0] - margin), found[-1] + 1 + margin))
    return tuple(box)
