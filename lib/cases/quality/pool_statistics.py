"""Statistics of a pool: medians, spreads and shared grids, from the measurements of its cases."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lib.cases.formats.image import Grid
from lib.cases.quality.alignment import Fit
from lib.cases.quality.plausibility import doubts

MIN_POOL = 5  # with fewer cases nothing counts as usual
SHARED_GRID_FRACTION = 0.9  # two modalities that share a grid in so many cases are expected to share it

Facts = Mapping[str, Any]


@dataclass(frozen=True)
class PoolStatistics:
    """Statistics of a pool; a key is missing if fewer than `MIN_POOL` cases contribute to it.

    Attributes:
        geometry: (modality, `spacing` or `extent`) -> (median, deviation), each of log mm along D, H, W.
        pairs: (modality, modality, `dice` or `shared`) -> median.
        levels: (modality, the others) -> median of `Fit.level`.
        covered: Modality -> median share of the body of all others that it shows.
        one_grid: Pairs of modalities that share a grid in nearly every case.
        owners: (modality, voxel hash) -> ids of the cases with this image.
    """

    geometry: Mapping[tuple[str, str], tuple[NDArray[np.float64], NDArray[np.float64]]]
    pairs: Mapping[tuple[str, str, str], float]
    levels: Mapping[tuple[str, tuple[str, ...]], float]
    covered: Mapping[str, float]
    one_grid: tuple[tuple[str, str], ...]
    owners: Mapping[tuple[str, str], set[str]]

    @classmethod
    def of(cls, measurements: Mapping[str, Facts]) -> PoolStatistics:
        """Statistics of measured cases, by case id."""
        geometry: dict[tuple[str, str], list[NDArray[np.float64]]] = defaultdict(list)
        pairs: dict[tuple[str, str, str], list[float]] = defaultdict(list)
        levels: dict[tuple[str, tuple[str, ...]], list[float]] = defaultdict(list)
        covered: dict[str, list[float]] = defaultdict(list)
        grids: dict[tuple[str, str], list[bool]] = defaultdict(list)
        owners: dict[tuple[str, str], set[str]] = defaultdict(set)
        for case, facts in measurements.items():
            volumes = readable(facts)
            for name, volume in volumes.items():
                owners[name, volume["voxels"]].add(case)
                for what, value in extents(volume).items():
                    geometry[name, what].append(np.log(value))
                if "covered" in volume:
                    covered[name].append(volume["covered"])
                if fit := Fit.of(name, facts["pairs"]):
                    levels[name, fit.others].append(fit.level)
            for pair in facts["pairs"]:
                for what in ("dice", "shared"):
                    if pair[what] is not None:
                        pairs[*pair["modalities"], what].append(pair[what])
            for first, second in combinations(volumes, 2):
                grids[first, second].append(same_grid(volumes[first], volumes[second]))
        return cls(
            {key: _middle(values) for key, values in _enough(geometry)},
            {key: float(np.median(values)) for key, values in _enough(pairs)},
            {key: float(np.median(values)) for key, values in _enough(levels)},
            {name: float(np.median(values)) for name, values in _enough(covered)},
            tuple(key for key, values in _enough(grids) if np.mean(values) >= SHARED_GRID_FRACTION),
            owners,
        )


def readable(facts: Facts) -> dict[str, Facts]:
    """Facts of the readable volumes by modality, in alphabetical order."""
    return {
        name: facts["modalities"][name]
        for name in sorted(facts["modalities"])
        if "error" not in facts["modalities"][name]
    }


def sound_part(facts: Facts) -> Facts:
    """Facts without implausible volumes and without the pairs of these volumes."""
    implausible = {name for name, volume in readable(facts).items() if any(doubts(name, volume))}
    if not implausible:
        return facts
    return {
        "modalities": {
            name: facts["modalities"][name] for name in facts["modalities"] if name not in implausible
        },
        "pairs": [pair for pair in facts["pairs"] if not implausible & set(pair["modalities"])],
    }


def extents(volume: Facts) -> dict[str, NDArray[np.float64]]:
    """Voxel size and field of view in mm along D, H, W."""
    spacing = np.array(volume["spacing"])
    return {"spacing": spacing, "extent": spacing * np.array(volume["shape"])}


def same_grid(one: Facts, other: Facts) -> bool:
    """Whether two measured volumes have every voxel at the same position."""
    if one["shape"] != other["shape"]:
        return False
    d, h, w = one["shape"]
    return Grid((d, h, w), np.array(one["affine"])).same_as(
        Grid((d, h, w), np.array(other["affine"])), tolerance=0.5
    )


def _enough(found: Mapping[Any, list[Any]]) -> Iterator[tuple[Any, list[Any]]]:
    return ((key, values) for key, values in found.items() if len(values) >= MIN_POOL)


def _middle(values: list[NDArray[np.float64]]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Median, and median absolute deviation scaled to a standard deviation."""
    median = np.median(values, axis=0)
    return median, 1.4826 * np.median(np.abs(np.array(values) - median), axis=0)
