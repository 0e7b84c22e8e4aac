"""Modality difference of every place of a pool, computed in blocks from the folds' files."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lib.mdal.representation.views import Shape
from lib.mdal.scoring.place_difference import (
    above_whole_case,
    case_difference,
    departure,
    fold_level,
    standardise_places,
    whole_case,
)
from lib.mdal.scoring.pmi import Array, Rows, finite_mean
from lib.runtime.own_files import map_array

_PLACES = 256  # places that are standardised at a time
_CASES = 64  # cases whose places are averaged at a time

Places = NDArray[np.float16]


@dataclass(frozen=True, eq=False)
class FoldPlaces:
    """Out-of-fold PMI at each place of the cases of one repeat.

    Attributes:
        files: The .npy file of each fold, of shape (n, P, places), float16.
        rows: Rows of the cases of each fold in the pool.
    """

    files: Sequence[Path]
    rows: Sequence[Rows]

    def differences(self) -> Places:
        """Standardised difference of each place, shape (N, P, places)."""
        folds = [map_array(file) for file in self.files]
        levels = np.stack([fold_level(np.asarray(fold, np.float32)) for fold in folds])
        count, (pairs, places) = sum(map(len, self.rows)), folds[0].shape[1:]
        held_out = np.empty(count, dtype=np.intp)
        for number, rows in enumerate(self.rows):
            held_out[rows] = number
        found = np.empty((count, pairs, places), dtype=np.float16)
        for start in range(0, places, _PLACES):
            block = slice(start, start + _PLACES)
            nats = np.empty((count, pairs, min(_PLACES, places - start)))
            for fold, rows in zip(folds, self.rows, strict=True):
                nats[rows] = fold[:, :, block]
            found[:, :, block] = standardise_places(nats, held_out, levels=levels)
        return found


@dataclass(frozen=True, eq=False)
class CaseDifferences:
    """Differences of N cases by their places; NaN for a case or a pair without a known place.

    Attributes:
        lesion: How far the places that depart most exceed the median place, shape (N,).
        lesion_by_pair: The same for each pair of modalities, shape (N, P).
        damage: Median difference over the places, shape (N,).
    """

    lesion: Array
    lesion_by_pair: Array
    damage: Array

    @classmethod
    def of(cls, places: Places, counts: Shape) -> CaseDifferences:
        """Differences by the standardised places, shape (N, P, places)."""
        lesion, by_pair, damage = [], [], []
        for start in range(0, len(places), _CASES):
            block = places[start : start + _CASES].astype(np.float64)
            lesion.append(above_whole_case(departure_of_case(block, counts)))
            pairs = departure(block, counts)
            by_pair.append(
                np.stack([above_whole_case(pairs[:, pair]) for pair in range(pairs.shape[1])], axis=1)
            )
            damage.append(whole_case(case_difference(block)))
        return cls(np.concatenate(lesion), np.concatenate(by_pair), np.concatenate(damage))


def departure_of_case(places: Array, counts: Shape) -> Array:
    """Departure of each place, mean over the pairs, shape (n, places), of (n, P, places)."""
    return departure(finite_mean(np.abs(places), axis=1), counts)
