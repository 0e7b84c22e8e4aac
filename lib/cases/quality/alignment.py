"""Alignment of two modalities: mutual information in their present position, moved, and mirrored.

The amount of shared information depends on the kinds of modality, the body part and the field of view.
There is therefore no absolute limit; the test is whether the modalities fit better in another position.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import nibabel as nib
import numpy as np
from numpy.typing import NDArray

from lib.cases.formats.image import Grid

SEARCH_MM = 25.0  # larger displacements show in the body outlines
BINS = 16  # grey levels of the joint histogram; equally filled, so no window has to be chosen
MIRRORS = ("left-right", "front-back", "head-feet")
MIN_EVIDENCE = 0.03  # mutual information of two images; less is noise and says nothing about position
MIN_SHARED = 0.2  # fraction of the reference's field of view that both must fill to be compared


def grey_levels(array: NDArray[np.float32], bins: int = BINS) -> NDArray[np.intp]:
    """Equally filled grey levels 0 .. bins - 1; `bins` where the array is NaN (outside the field of view)."""
    inside = np.isfinite(array)
    if not inside.any():
        return np.full(array.shape, bins, dtype=np.intp)
    edges = np.unique(np.quantile(array[inside], np.linspace(0.0, 1.0, bins + 1)[1:-1]))
    return np.where(inside, np.searchsorted(edges, array, side="right"), bins).astype(np.intp)


def mutual_information(x: NDArray[np.intp], y: NDArray[np.intp], bins: int = BINS) -> float:
    """Normalised mutual information of grey levels, 0 (independent) to 1, corrected for chance.

    I = 2 (H(x) + H(y) - H(x, y) - (n_x - 1)(n_y - 1) / 2N) / (H(x) + H(y)), Miller-Madow's correction.

    Args:
        x: Grey levels, any shape; `bins` means outside.
        y: The same shape.
        bins: Number of levels.
    """
    joint = np.bincount((x * (bins + 1) + y).ravel(), minlength=(bins + 1) ** 2)
    joint = joint.reshape(bins + 1, bins + 1)[:bins, :bins]
    count = joint.sum()
    if count == 0:
        return 0.0
    rows, columns = joint.sum(axis=1), joint.sum(axis=0)
    apart = entropy(rows, count) + entropy(columns, count)
    chance = (np.count_nonzero(rows) - 1) * (np.count_nonzero(columns) - 1) / (2.0 * count)
    information = apart - entropy(joint, count) - chance
    return float(max(0.0, 2.0 * information / apart)) if apart > 0.0 else 0.0


def align(
    x: NDArray[np.intp], y: NDArray[np.intp], reach: tuple[int, int, int]
) -> tuple[float, float, tuple[int, int, int]]:
    """Agreement in the present position, best agreement within reach, and the move of `y` in voxels for it.

    The search is a coordinate ascent, one axis after the other, until nothing improves.
    """
    best = (0, 0, 0)
    seen = {best: mutual_information(x, y)}
    for _ in range(3):
        start = best
        for axis, limit in enumerate(reach):
            for step in range(-limit, limit + 1):
                move = _with(best, axis, step)
                if move not in seen:
                    seen[move] = mutual_information(*_overlap(x, y, move))
            best = max(seen, key=lambda move: (seen[move], -sum(map(abs, move))))
        if best == start:
            break
    return seen[0, 0, 0], seen[best], best


def alignment(x: NDArray[np.intp], y: NDArray[np.intp], grid: Grid) -> dict[str, Any]:
    """Measurements of two modalities for `Fit`.

    Returns:
        `agreement`: agreement in the present position. `best`: agreement after the second modality is moved
        by `shift_mm` (RAS). `mirrored`: best agreement after the second modality is mirrored along each axis
        of `MIRRORS`, by name of the axis.
    """
    d, h, w = (
        min(round(SEARCH_MM / size), length // 3)
        for size, length in zip(grid.spacing, grid.shape, strict=True)
    )
    reach = (d, h, w)
    agreement, best, move = align(x, y, reach)
    worlds = nib.orientations.io_orientation(grid.affine)[::-1, 0]
    mirrored = {MIRRORS[int(worlds[axis])]: align(x, np.flip(y, axis), reach)[1] for axis in range(3)}
    shift = grid.affine[:3, :3] @ np.array(move[::-1], dtype=float)
    return {"agreement": agreement, "best": best, "shift_mm": shift.tolist(), "mirrored": mirrored}


@dataclass(frozen=True)
class Fit:
    """Fit of one modality to the others of its case.

    Attributes:
        name: Name of the modality.
        others: Names of the modalities it was compared with.
        level: Sum over the others of the best normalised mutual information.
        gain: log(level / the same sum in the present position); 0 if no move improves the fit.
        move: Mean over the others of the best move, RAS mm.
        spread: Largest distance between two of these moves, mm.
        mirror: Best sum for the mirrored modality / level.
        axis: Axis of the best mirror.
    """

    name: str
    others: tuple[str, ...]
    level: float
    gain: float
    move: tuple[float, float, float]
    spread: float
    mirror: float
    axis: str

    @property
    def distance(self) -> float:
        """Length of the move in mm."""
        return float(np.linalg.norm(self.move))

    @property
    def is_conclusive(self) -> bool:
        """Whether the images share enough information, mirrored or not, to judge their position."""
        return self.level * max(1.0, self.mirror) >= MIN_EVIDENCE * len(self.others)

    @classmethod
    def of(cls, name: str, pairs: list[Mapping[str, Any]]) -> Fit | None:
        """Fit of a modality, from the measured pairs of its case; None if no pair can be compared."""
        own = [
            pair
            for pair in pairs
            if name in pair["modalities"] and pair["shared"] >= MIN_SHARED and "best" in pair
        ]
        if not own:
            return None
        others = tuple(next(other for other in pair["modalities"] if other != name) for pair in own)
        moves = np.array([pair["shift_mm"] for pair in own])
        moves *= np.array([1.0 if pair["modalities"][1] == name else -1.0 for pair in own])[:, None]
        level = max(sum(pair["best"] for pair in own), 1e-6)
        present = sum(pair["agreement"] for pair in own)
        mirrors = {axis: sum(pair["mirrored"][axis] for pair in own) / level for axis in MIRRORS}
        axis = max(mirrors, key=lambda axis: mirrors[axis])
        spread = max(float(np.linalg.norm(one - other)) for one in moves for other in moves)
        x, y, z = moves.mean(axis=0).tolist()
        return cls(
            name,
            others,
            level,
            float(np.log(level / max(present, 1e-3 * level))),
            (x, y, z),
            spread,
            mirrors[axis],
            axis,
        )


def _with(move: tuple[int, int, int], axis: int, step: int) -> tuple[int, int, int]:
    d, h, w = (step if index == axis else old for index, old in enumerate(move))
    return d, h, w


def _overlap(
    x: NDArray[np.intp], y: NDArray[np.intp], move: tuple[int, int, int]
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Overlapping parts of `x` and of `y` moved by whole voxels, as views."""
    fixed = tuple(slice(max(0, k), n + min(0, k)) for n, k in zip(x.shape, move, strict=True))
    moved = tuple(slice(max(0, -k), n + min(0, -k)) for n, k in zip(x.shape, move, strict=True))
    return x[fixed], y[moved]


def entropy(counts: NDArray[np.intp], total: int) -> float:
    """Entropy in nats of counts of any shape, which add up to a total."""
    p = counts[counts > 0] / total
    return float(-(p * np.log(p)).sum())
