"""Cases resampled to one small shape, so that a position means the same place in every patient."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from lib.cases.boxes import Box, bounding_box, padded_box, whole_box
from lib.cases.preprocessing import PreparedCase
from lib.mdal.representation.properties import CaseProperties, measure_properties, stack_properties
from lib.runtime.files import replacing
from lib.runtime.own_files import UNREADABLE, map_array, read_arrays, set_aside

Shape = tuple[int, int, int]

VIEW_SHAPE: Shape = (28, 72, 56)  # voxels of 5 x 2.5 x 2.5 mm in a brain, and places of 10 mm
COARSE_SHAPE: Shape = (12, 24, 24)  # voxels of half a lesion, the size at which saliency is judged
VIEW_VERSION = 2  # raise when the meaning of a view or a property changes
_MIN_SPREAD = 1e-3  # in prepared values; a constant channel becomes zero instead of noise
_BLOCK = 16  # views that are resampled at a time
MARGIN_SHARE = 0.04  # of the bounding box, on each side; keeps the body's outline inside the view


@dataclass(frozen=True, eq=False)
class CaseView:
    """View of one case, the input of the encoders.

    Attributes:
        array: Modalities and foreground, shape (M + 1, D, H, W), float16; the last channel is 1 in the
            foreground and 0 elsewhere.
        present: Modalities that the case has, shape (M,), bool; the channel of an absent modality is zero.
        voxel_mm: Voxel size of the view along D, H, W in mm, shape (3,).
        properties: Label-free measurements of the prepared case.
    """

    array: NDArray[np.float16]
    present: NDArray[np.bool_]
    voxel_mm: NDArray[np.float64]
    properties: CaseProperties

    def save(self, path: Path) -> None:
        """Write the view to one file, atomically."""
        with replacing(path) as part, part.open("wb") as stream:
            np.savez(
                stream,
                array=self.array,
                present=self.present,
                voxel_mm=self.voxel_mm,
                **vars(self.properties),
            )

    @classmethod
    def load(cls, path: Path) -> CaseView | None:
        """Saved view; None if there is none or the file is damaged."""
        try:
            found = read_arrays(path)
            array, present, voxel_mm = (found.pop(name) for name in ("array", "present", "voxel_mm"))
            found.pop("mutual_information", None)  # written by earlier releases
            return cls(array, present, voxel_mm, CaseProperties(**found))
        except FileNotFoundError:
            return None
        except UNREADABLE as err:
            set_aside(path, f"{err}. The view is made again.")
            return None


def case_view(prepared: PreparedCase, *, shape: Shape = VIEW_SHAPE) -> CaseView:
    """Standardise the foreground's bounding box and resample it to one shape by averaging.

    x' = asinh((x - median) / interquartile range), both inside the foreground

    The intensity level and spread would reveal the scanner. The asinh keeps the few hot voxels of PET from
    hiding all others.

    Args:
        prepared: Case on its grid; the channel of an absent modality stays zero.
        shape: Shape (D, H, W) of the view.

    Returns:
        View of the foreground, or of the whole case if the foreground is empty.

    Raises:
        ValueError: If a value is not finite.
    """
    inside, box = np.asarray(prepared.foreground), view_box(prepared.foreground)
    inside = inside[box] if inside.any() else np.ones_like(inside[box])
    channels = np.asarray(prepared.array[(slice(None), *box)], dtype=np.float32)
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
    view[-1] = view[-1] >= min(0.5, float(view[-1].max()))  # a thin body keeps its thickest voxels
    voxel_mm = np.array(inside.shape) * prepared.grid.spacing / shape
    return CaseView(view.astype(np.float16), prepared.present, voxel_mm, measure_properties(prepared))


@dataclass(frozen=True, eq=False)
class PoolViews:
    """Views of a pool, in the order of its cases; small enough to be sent to another process.

    Attributes:
        file: The .npy file of all views.
        present: Modalities that each case has, shape (N, M), bool; absent channels are zero.
        voxel_mm: Voxel size of each view in mm, shape (N, 3).
    """

    file: Path
    present: NDArray[np.bool_]
    voxel_mm: NDArray[np.float64]

    @property
    def array(self) -> NDArray[np.float16]:
        """Memory-mapped views, shape (N, M + 1, D, H, W); the last channel is the foreground."""
        return np.asarray(map_array(self.file))

    def of_patients(self, groups: NDArray[np.intp]) -> PatientViews:
        """These views with the patient number of each case."""
        return PatientViews(self.views, self.present, self.foreground, groups)

    @property
    def shape(self) -> Shape:
        """Shape (D, H, W) of each view."""
        depth, height, width = self.array.shape[2:]
        return depth, height, width

    def coarse(self, rows: NDArray[np.intp]) -> NDArray[np.float32]:
        """Some views in voxels of half a lesion's size, shape (n, M + 1, D, H, W), made in blocks."""
        parts = [
            coarse(torch.from_numpy(np.asarray(self.array[block], np.float32)))
            for block in np.array_split(rows, max(1, -(-len(rows) // _BLOCK)))
        ]
        return np.asarray(torch.cat(parts).numpy())

    @property
    def views(self) -> NDArray[np.float16]:
        """Modalities of all cases, shape (N, M, D, H, W), without a copy."""
        return self.array[:, :-1]

    @property
    def foreground(self) -> NDArray[np.float16]:
        """Foreground of all cases, shape (N, D, H, W), without a copy; 1 inside the body and 0 outside."""
        return self.array[:, -1]


@dataclass(frozen=True, eq=False)
class PatientViews:
    """Views of N cases with their patients: what encoders are trained on and compared by.

    Attributes:
        views: Views of the cases, shape (N, M, D, H, W); read batch by batch, so they may be memory-mapped.
        present: Modalities that each case has, shape (N, M), bool.
        foreground: Foreground of each case, shape (N, D, H, W); above 0.5 inside the body.
        groups: Patient number of each case, shape (N,).
    """

    views: NDArray[np.float16]
    present: NDArray[np.bool_]
    foreground: NDArray[np.float16]
    groups: NDArray[np.intp]

    def batch(self, rows: NDArray[np.intp]) -> tuple[Tensor, Tensor, Tensor]:
        """Views (B, M, D, H, W), present (B, M) and foreground (B, D, H, W) of some cases."""
        return (
            torch.from_numpy(np.asarray(self.views[rows], np.float32)),
            torch.from_numpy(self.present[rows]),
            torch.from_numpy(np.asarray(self.foreground[rows], np.float32)),
        )


def gather_views(views: Iterable[CaseView], count: int, path: Path) -> tuple[PoolViews, CaseProperties]:
    """Write the views of a pool to one memory-mapped .npy file, with one view in memory at a time.

    Args:
        views: View of each case.
        count: Number of views.
        path: File to write; replaced if it exists.

    Returns:
        Views of the pool, and the measurements of its cases with a leading axis N.

    Raises:
        ValueError: If the pool is empty.
    """
    if count < 1:
        raise ValueError("the pool must have at least one case; got none. Check the studies folder.")
    present, voxel_mm, properties = [], [], []
    with replacing(path) as part:
        array: np.memmap[Any, np.dtype[np.float16]] | None = None
        for row, view in enumerate(views):
            if array is None:
                array = np.lib.format.open_memmap(part, "w+", np.float16, (count, *view.array.shape))
            array[row] = view.array
            present.append(view.present)
            voxel_mm.append(view.voxel_mm)
            properties.append(view.properties)
        if array is not None:
            array.flush()
    pool = PoolViews(path, np.stack(present), np.stack(voxel_mm))
    return pool, stack_properties(properties)


def coarse(views: Tensor) -> Tensor:
    """Views (n, M + 1, D, H, W) averaged to `COARSE_SHAPE`; the last channel stays 0 or 1."""
    found = functional.interpolate(views, size=COARSE_SHAPE, mode="area")
    inside = found[:, -1]
    most = inside.flatten(1).amax(dim=1).clamp(max=0.5)[:, None, None, None]
    found[:, -1] = ((inside >= most) & (inside > 0)).float()
    return found


def view_box(foreground: NDArray[np.bool_]) -> Box:
    """Part of a prepared case (D, H, W) that its view shows; the whole case if the foreground is empty."""
    box = bounding_box(foreground) or whole_box(foreground.shape)
    margins = [max(1, round(MARGIN_SHARE * (part.stop - part.start))) for part in box]
    return padded_box(box, margins, foreground.shape)
