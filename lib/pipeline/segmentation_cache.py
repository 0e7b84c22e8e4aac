"""Segmentations on disk: quick to serve, bounded in bytes, dropped when the model or the case changes."""

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

from lib.cases.formats.image import Grid, Volume, resample
from lib.ciml.decomposition.table import Decomposition
from lib.ciml.inference.predict import Answer
from lib.runtime.disk_cache import PART, bytes_in, evict_least_recently_used
from lib.runtime.files import replacing
from lib.runtime.own_files import UNREADABLE, set_aside

_STEPS = 256  # of a probability; half of them is exactly 0.5
_BETWEEN = "~"  # no case id has it

Region = tuple[slice, ...]


@dataclass(frozen=True, eq=False)
class Segmentation:
    """A model's answer for one case, as it is kept.

    Attributes:
        probabilities: (R, d, h, w) uint8 in 1/256, rounded down so that 0.5 stays 128; the part of the grid
            where one is not 0.
        origin: Voxel of the grid at which that part begins, (D, H, W).
        grid: Of the case's reference.
        decomposition: Says what the regions are.
        about: What is told with it; JSON.
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
        """What is worth keeping of an answer."""
        steps = np.minimum(answer.probabilities * _STEPS, _STEPS - 1).astype(np.uint8)
        part = _occupied(steps.any(axis=0))
        corner = [(inner.start or 0) + outer.start for inner, outer in zip(answer.box, part, strict=True)]
        return cls(
            np.ascontiguousarray(steps[(slice(None), *part)]),
            (corner[0], corner[1], corner[2]),
            grid,
            decomposition,
            about,
        )

    def label_on(self, grid: Grid) -> NDArray[np.uint8]:
        """Label map (D, H, W) on a grid, by the probabilities there; 0 is background."""
        label = np.zeros(grid.shape, dtype=np.uint8)
        inside = _occupied((self.probabilities >= _STEPS // 2).any(axis=0))
        if grid.same_as(self.grid):
            place = _moved(inside, self.origin)
            label[place] = self._painted(self.probabilities[(slice(None), *inside)])
            return label
        own = _part_of(self.grid, _moved(_whole(self.probabilities.shape[1:]), self.origin))
        place = _reach(own, grid)
        there = _part_of(grid, place)
        moved = [resample(Volume(region, own), there).array for region in self.probabilities]
        label[place] = self._painted(np.stack(moved))
        return label

    def _painted(self, probabilities: NDArray[np.uint8]) -> NDArray[np.uint8]:
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
        """What `save` wrote."""
        with path.open("rb") as stream, np.load(stream) as content:
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
        """Keep at most `max_bytes` under `folder`; what was longest unused goes first."""
        self.folder, self.max_bytes = folder, max_bytes

    def get(self, model: str, case_id: str, key: str) -> Segmentation | None:
        """What a model said of a case as it is now; None if nothing is kept."""
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
        """Whether `get` would find something."""
        return self._path(model, case_id, key).exists()

    def put(self, model: str, case_id: str, key: str, segmentation: Segmentation) -> None:
        """Keep a segmentation, in place of those of the same case as it was before."""
        path = self._path(model, case_id, key)
        for earlier in path.parent.glob("*.npz"):
            if earlier.name.startswith(f"{case_id}{_BETWEEN}"):
                earlier.unlink(missing_ok=True)
        segmentation.save(path)
        evict_least_recently_used(self._files(), self.max_bytes)

    def keep_only(self, model: str) -> None:
        """Drop what other models said."""
        with suppress(FileNotFoundError):
            for folder in self.folder.iterdir():
                if folder.name != model:
                    shutil.rmtree(folder, ignore_errors=True)

    def size(self) -> int:
        """Bytes in use."""
        return sum(bytes_in(file) for file in self._files())

    def _path(self, model: str, case_id: str, key: str) -> Path:
        return self.folder / model / f"{case_id}{_BETWEEN}{key}.npz"

    def _files(self) -> list[Path]:
        return [path for path in self.folder.glob("*/*.npz") if not path.name.startswith(PART)]


def _occupied(mask: NDArray[np.bool_]) -> Region:
    """The smallest part that holds the mask; one voxel if it is empty."""
    found = []
    for axis in range(mask.ndim):
        others = tuple(other for other in range(mask.ndim) if other != axis)
        places = np.flatnonzero(mask.any(axis=others))
        found.append(slice(int(places[0]), int(places[-1]) + 1) if len(places) else slice(0, 1))
    return tuple(found)


def _whole(shape: tuple[int, ...]) -> Region:
    return tuple(slice(0, size) for size in shape)


def _moved(part: Region, by: tuple[int, ...]) -> Region:
    return tuple(slice(piece.start + step, piece.stop + step) for piece, step in zip(part, by, strict=True))


def _part_of(grid: Grid, part: Region) -> Grid:
    """The grid of a part of a grid."""
    depth, height, width = (piece.stop - piece.start for piece in part)
    affine = grid.affine.copy()
    affine[:, 3] = affine @ [*(piece.start for piece in reversed(part)), 1.0]
    return Grid((depth, height, width), affine)


def _reach(own: Grid, grid: Grid) -> Region:
    """The part of a grid that another one covers, at least one voxel: the rest costs no interpolation."""
    corners = np.array(np.meshgrid(*((-1, size) for size in own.shape[::-1]), [1], indexing="ij")).reshape(
        4, -1
    )
    there = np.linalg.solve(grid.affine, own.affine @ corners)[:3][::-1]  # (D, H, W) of the asked grid
    first = np.clip(np.floor(there.min(axis=1)), 0, np.array(grid.shape) - 1).astype(int)
    last = np.clip(np.ceil(there.max(axis=1)), first, np.array(grid.shape) - 1).astype(int)
    return tuple(slice(int(low), int(high) + 1) for low, high in zip(first, last, strict=True))
