"""Cached segmentations: quick to serve, bounded in bytes, dropped when the model or the case changes."""

from __future__ import annotations

import json
import os
import shutil
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import entr

from lib.cases.boxes import Box, bounding_box, covered_box, grid_of_box, whole_box
from lib.cases.formats.image import Grid, Volume, resample
from lib.ciml.decomposition.table import Decomposition
from lib.ciml.inference.predict import Answer
from lib.runtime.disk_cache import PART, bytes_in, evict_least_recently_used
from lib.runtime.files import replacing
from lib.runtime.own_files import UNREADABLE, read_arrays, set_aside

_STEPS = 256  # steps of a probability; half of them is exactly 0.5
_SEPARATOR = "~"  # no case id contains it

_ONE_VOXEL = (slice(0, 1), slice(0, 1), slice(0, 1))  # kept of a segmentation without any probability


@dataclass(frozen=True, eq=False)
class Segmentation:
    """A model's answer for one case, in the form that is cached.

    Attributes:
        probabilities: Probabilities of the regions in 1/256, uint8 (R, d, h, w), rounded down so that 0.5
            stays 128; cropped to the box outside which all of them are 0.
        origin: First voxel of that box in the grid, (D, H, W).
        grid: Grid of the case's reference.
        decomposition: Decomposition that names the R regions.
        about: Facts about the segmentation, JSON.
    """

    probabilities: NDArray[np.uint8]
    origin: tuple[int, int, int]
    grid: Grid
    decomposition: Decomposition
    about: dict[str, Any]

    @classmethod
    def of(
        cls, answer: Answer, grid: Grid, decomposition: Decomposition, about: dict[str, Any]
    ) -> Segmentation:
        """The part of an answer that is cached."""
        steps = np.minimum(answer.probabilities * _STEPS, _STEPS - 1).astype(np.uint8)
        part = bounding_box(steps.any(axis=0)) or _ONE_VOXEL
        corner = [inner.start + outer.start for inner, outer in zip(answer.box, part, strict=True)]
        return cls(
            np.ascontiguousarray(steps[(slice(None), *part)]),
            (corner[0], corner[1], corner[2]),
            grid,
            decomposition,
            about,
        )

    def label_on(self, grid: Grid) -> NDArray[np.uint8]:
        """Label map (D, H, W) on a grid, from the probabilities resampled to it; 0 is background."""
        label = np.zeros(grid.shape, dtype=np.uint8)
        inside = bounding_box((self.probabilities >= _STEPS // 2).any(axis=0))
        if inside is None:
            return label
        if grid.same_as(self.grid):
            label[_shifted(inside, self.origin)] = self._labels_of(self.probabilities[(slice(None), *inside)])
        elif found := self._moved_to(grid):
            box, probabilities = found
            label[box] = self._labels_of(probabilities)
        return label

    def uncertainty_on(self, grid: Grid) -> NDArray[np.float32]:
        """Uncertainty (D, H, W) on a grid: binary entropy in nats, averaged over the regions.

        0 is certain, and 0.693 a coin toss. The figure `uncertainty_nats` is its mean over the body.
        """
        uncertainty = np.zeros(grid.shape, dtype=np.float32)
        if found := self._moved_to(grid):
            box, steps = found
            each = np.arange(_STEPS) / _STEPS
            uncertainty[box] = (entr(each) + entr(1.0 - each)).astype(np.float32)[steps].mean(axis=0)
        return uncertainty

    def _moved_to(self, grid: Grid) -> tuple[Box, NDArray[np.uint8]] | None:
        """Probabilities on the part of a grid that they cover; None if they cover none of it."""
        part = _shifted(whole_box(self.probabilities.shape[1:]), self.origin)
        if grid.same_as(self.grid):
            return part, self.probabilities
        own = grid_of_box(self.grid, part)
        box = covered_box(grid, by=own)
        if box is None:
            return None
        there = grid_of_box(grid, box)
        return box, np.stack([resample(Volume(region, own), there).array for region in self.probabilities])

    def outlined(self) -> Volume | None:
        """Mask (uint8) of all regions together, cut to the part that holds them; None if there is nothing."""
        mask = (self.probabilities >= _STEPS // 2).any(axis=0)
        inside = bounding_box(mask)
        if inside is None:
            return None
        return Volume(mask[inside].view(np.uint8), grid_of_box(self.grid, _shifted(inside, self.origin)))

    def masks(self) -> NDArray[np.bool_]:
        """Masks of the regions on the case's grid, shape (R, D, H, W)."""
        masks = np.zeros((len(self.probabilities), *self.grid.shape), dtype=bool)
        inside = _shifted(whole_box(self.probabilities.shape[1:]), self.origin)
        masks[(slice(None), *inside)] = self.probabilities >= _STEPS // 2
        return masks

    def _labels_of(self, probabilities: NDArray[np.uint8]) -> NDArray[np.uint8]:
        return self.decomposition.labels_of(probabilities, threshold=_STEPS // 2)

    def save(self, path: Path) -> None:
        """Write atomically."""
        header = {
            "origin": self.origin,
            "shape": self.grid.shape,
            "affine": self.grid.affine.tolist(),
            "decomposition": self.decomposition.to_dict(),
            "about": self.about,
        }
        with replacing(path) as part:
            np.savez(part, probabilities=self.probabilities, header=np.array(json.dumps(header)))

    @classmethod
    def load(cls, path: Path) -> Segmentation:
        """Read a file that `save` wrote."""
        content = read_arrays(path)
        header, probabilities = json.loads(str(content["header"])), content["probabilities"]
        return cls(
            probabilities,
            tuple(header["origin"]),
            Grid(tuple(header["shape"]), np.array(header["affine"])),
            Decomposition.from_dict(header["decomposition"]),
            header["about"],
        )


class SegmentationCache:
    """Segmentations by model and case, bounded in bytes, safe between processes."""

    def __init__(self, folder: Path, *, max_bytes: int) -> None:
        """Keep at most `max_bytes` under `folder`; the least recently used segmentation is evicted first."""
        self.folder, self.max_bytes = folder, max_bytes

    def get(self, model: str, case_id: str, key: str) -> Segmentation | None:
        """A model's segmentation of the case in its current state; None if there is none in the cache."""
        path = self._path(model, case_id, key)
        try:
            found = Segmentation.load(path)
            os.utime(path)
        except FileNotFoundError:
            return None
        except UNREADABLE as err:
            set_aside(path, f"{err}. It is made again.")
            return None
        return found

    def has(self, model: str, case_id: str, key: str) -> bool:
        """Whether `get` would find a segmentation."""
        return self._path(model, case_id, key).exists()

    def put(self, model: str, case_id: str, key: str, segmentation: Segmentation) -> None:
        """Store a segmentation and remove those of earlier states of the same case."""
        path = self._path(model, case_id, key)
        for earlier in path.parent.glob("*.npz"):
            if earlier.name.startswith(f"{case_id}{_SEPARATOR}"):
                earlier.unlink(missing_ok=True)
        segmentation.save(path)
        evict_least_recently_used(self._files(), self.max_bytes)

    def keep_only(self, model: str) -> None:
        """Drop the segmentations of every other model."""
        with suppress(FileNotFoundError):
            for folder in self.folder.iterdir():
                if folder.name != model:
                    shutil.rmtree(folder, ignore_errors=True)

    def size(self) -> int:
        """Bytes in use."""
        return sum(bytes_in(file) for file in self._files())

    def _path(self, model: str, case_id: str, key: str) -> Path:
        return self.folder / model / f"{case_id}{_SEPARATOR}{key}.npz"

    def _files(self) -> list[Path]:
        return [path for path in self.folder.glob("*/*.npz") if not path.name.startswith(PART)]


def _shifted(box: Box, by: tuple[int, int, int]) -> Box:
    depth, height, width = (
        slice(part.start + step, part.stop + step) for part, step in zip(box, by, strict=True)
    )
    return depth, height, width
