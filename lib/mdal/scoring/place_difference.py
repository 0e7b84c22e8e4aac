"""Modality difference of each place, on the scale that is usual at this place in the pool.

PMI has a level of its own at each place: the edge of a brain differs from its ventricles in every patient.
A place is therefore compared with the same place in the other patients before anything is averaged.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from lib.mdal.scoring.pmi import Array, finite_mean

LESION_SHARE = 0.02  # share of the places of a case that the lesion-focused difference averages
MIN_CASES = 5  # cases that must know a place; of fewer, median and spread say nothing
_TO_DEVIATION = 1.4826  # a normal distribution's standard deviation over its median absolute deviation
_LEAST_SPREAD = 1e-3  # nats


def standardise_places(nats: Array, held_out: NDArray[np.intp]) -> Array:
    """Modality difference of each place in deviations from what is usual there.

    z = -(PMI - median over the pool) / (1.4826 median |PMI - median over the pool|)

    The models of two folds differ by a constant, so the median of each fold and pair is subtracted first.

    Args:
        nats: Out-of-fold PMI of each case, pair of modalities and place, shape (N, P, places); NaN outside
            the body and for an absent modality.
        held_out: Fold of each case, shape (N,).

    Returns:
        Same shape; larger differs more. NaN where fewer than `MIN_CASES` cases know the place.
    """
    difference = -np.asarray(nats, dtype=np.float64)
    for fold in np.unique(held_out):
        rows = held_out == fold
        difference[rows] -= _median(difference[rows], axis=(0, 2))
    centre = _median(difference, axis=0)
    spread = _TO_DEVIATION * _median(np.abs(difference - centre), axis=0)
    known = np.isfinite(difference).sum(axis=0) >= MIN_CASES
    return np.asarray(np.where(known, (difference - centre) / np.maximum(spread, _LEAST_SPREAD), np.nan))


def case_difference(places: Array) -> Array:
    """Mean over the pairs of modalities that a case has, shape (N, places), of (N, P, places)."""
    return finite_mean(places, axis=1)


def lesion_focused(places: Array, share: float = LESION_SHARE) -> Array:
    """Mean of the places of each case that differ most, shape (N,), NaN for a case without a known place.

    Args:
        places: Standardised difference of each place, shape (N, places).
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


def whole_case(places: Array) -> Array:
    """Median of the places of each case, shape (N,): damage moves the whole case, a lesion few places."""
    return _median(places, axis=1)[:, 0]


def _median(values: Array, axis: int | tuple[int, ...]) -> Array:
    """Median of the finite values, with its axes kept; NaN where there is none."""
    known = np.isfinite(values).any(axis=axis, keepdims=True)
    found = np.nanmedian(np.where(known, values, 0.0), axis=axis, keepdims=True)
    return np.asarray(np.where(known, found, np.nan))
