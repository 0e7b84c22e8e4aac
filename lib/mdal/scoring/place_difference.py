"""Modality difference of each place, on the scale that is usual at this place in the pool.

PMI has a level of its own at each place: the edge of a brain differs from its ventricles in every patient.
A place is therefore compared with the same place in the other patients before anything is averaged.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from lib.mdal.representation.views import Shape
from lib.mdal.scoring.pmi import Array, finite_mean

LESION_SHARE = 0.02  # share of the places of a case that the lesion-focused difference averages
MIN_CASES = 5  # cases that must know a place; of fewer, median and spread say nothing
_TO_DEVIATION = 1.4826  # a normal distribution's standard deviation over its median absolute deviation
_LEAST_SPREAD = 1e-3  # nats
_USUAL = 0.8  # mean of |z| of a normal distribution
_BLOCK = 64  # cases that are smoothed at a time


@dataclass(frozen=True, eq=False)
class PlaceScale:
    """What is usual at each place.

    Attributes:
        centre: Median -PMI in nats over some cases, shape (P, places); NaN where too few know a place.
        spread: Robust standard deviation in nats, same shape.
    """

    centre: Array
    spread: Array

    @classmethod
    def of(cls, difference: Array, *, least: int = MIN_CASES) -> PlaceScale:
        """Scale of -PMI, shape (N, P, places); NaN outside the body and for an absent modality."""
        centre = _median(difference, axis=0)
        spread = _TO_DEVIATION * _median(np.abs(difference - centre), axis=0)
        known = np.isfinite(difference).sum(axis=0) >= least
        return cls(np.where(known, centre[0], np.nan), np.maximum(spread[0], _LEAST_SPREAD))

    def standardise(self, difference: Array) -> Array:
        """(-PMI - median) / spread of each place, same shape."""
        return np.asarray((difference - self.centre) / self.spread)


def standardise_places(nats: Array, held_out: NDArray[np.intp], *, levels: Array | None = None) -> Array:
    """Modality difference of each place in deviations from what is usual there.

    z = -(PMI - median over the pool) / (1.4826 median |PMI - median over the pool|)

    The models of two folds differ by a constant, so the median of each fold and pair is subtracted first.

    Args:
        nats: Out-of-fold PMI of each case, pair of modalities and place, shape (N, P, places); NaN outside
            the body and for an absent modality.
        held_out: Fold of each case, shape (N,).
        levels: Median -PMI of each fold and pair, shape (folds, P), if `nats` has some of the places only.

    Returns:
        Same shape; larger differs more. NaN where fewer than `MIN_CASES` cases know the place.
    """
    difference = -np.asarray(nats, dtype=np.float64)
    for fold in np.unique(held_out):
        rows = held_out == fold
        difference[rows] -= fold_level(nats[rows])[:, None] if levels is None else levels[fold][:, None]
    return PlaceScale.of(difference).standardise(difference)


def fold_level(nats: Array) -> Array:
    """Median -PMI of the cases of one fold in nats, shape (P,)."""
    return -_median(nats, axis=(0, 2))[0, :, 0]


def case_difference(places: Array) -> Array:
    """Mean over the pairs of modalities that a case has, shape (N, places), of (N, P, places)."""
    return finite_mean(places, axis=1)


def departure(places: Array, counts: Shape) -> Array:
    """How far the difference of each place departs from what is usual there, upwards or downwards.

    A lesion is often unusual in both modalities at once, and PMI is then high: an unusual, but consistent
    place. So either direction counts. Neighbouring places see overlapping parts of an image, and a single
    place that departs alone is noise; so each place takes the mean over itself and its neighbours. An unknown
    neighbour counts as a usual place; otherwise the body's edge, with few neighbours, would depart most.

    Args:
        places: Standardised difference of each place, shape (N, places) or (N, P, places).
        counts: Number of places along D, H, W.

    Returns:
        Same shape, 0 or more; NaN where the place is unknown.
    """
    flat = places.reshape(-1, places.shape[-1])
    blocks = (flat[start : start + _BLOCK] for start in range(0, len(flat), _BLOCK))
    found = [_smoothed(np.abs(block), counts) for block in blocks]
    return np.concatenate(found).reshape(places.shape)


def _smoothed(values: Array, counts: Shape) -> Array:
    """Mean over the 27 places around each place, shape (n, places)."""
    known = np.isfinite(values)
    filled = torch.from_numpy(np.where(known, values, _USUAL)).view(len(values), 1, *counts)
    padded = functional.pad(filled, (1,) * 6, value=_USUAL)
    return np.where(known, functional.avg_pool3d(padded, 3, stride=1).view(len(values), -1).numpy(), np.nan)


def lesion_focused(places: Array, share: float = LESION_SHARE) -> Array:
    """Mean of the places of each case that differ most, shape (N,), NaN for a case without a known place.

    Args:
        places: Value of each place, shape (N, places).
        share: Share of a case's known places to average, at least one place.

    Raises:
        ValueError: If the share is not above 0 and at most 1.
    """
    if not 0 < share <= 1:
        raise ValueError(f"share must be above 0 and at most 1; got {share}.")
    falling = -np.sort(-places, axis=1)  # NaN comes last
    known = np.isfinite(places).sum(axis=1)
    count = np.maximum(1, np.floor(share * known)).astype(int)
    taken = np.arange(places.shape[1]) < count[:, None]
    return finite_mean(np.where(taken, falling, np.nan), axis=1)


def above_whole_case(places: Array, share: float = LESION_SHARE) -> Array:
    """How far the places that differ most exceed the median place of the same case, shape (N,)."""
    return lesion_focused(places, share) - whole_case(places)


def whole_case(places: Array) -> Array:
    """Median of the places of each case, shape (N,): damage moves the whole case, a lesion few places."""
    return _median(places, axis=1)[:, 0]


def _median(values: Array, axis: int | tuple[int, ...]) -> Array:
    """Median of the finite values, with its axes kept; NaN where there is none."""
    known = np.isfinite(values).any(axis=axis, keepdims=True)
    found = np.nanmedian(np.where(known, values, 0.0), axis=axis, keepdims=True)
    return np.asarray(np.where(known, found, np.nan))
