"""Made-up differences of places, with one place that departs most."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from lib.mdal.representation.encoder import STRIDE, place_counts
from lib.mdal.representation.views import COARSE_SHAPE
from lib.pipeline.place_differences import PlaceDifferences

COUNTS = place_counts(COARSE_SHAPE, STRIDE)
PLACES = int(np.prod(COUNTS))


def peak(place: int, *, height: float = 5.0) -> NDArray[np.float64]:
    """Differences of a usual size that grow towards a place, shape (places,)."""
    apart = np.indices(COUNTS).reshape(3, -1) - np.array(np.unravel_index(place, COUNTS))[:, None]
    return np.asarray(np.sign(height) * (0.8 + abs(height) * np.exp(-np.square(apart).sum(axis=0))))


def differences(
    of_cases: dict[str, NDArray[np.float64]], pairs: Sequence[str] = ("CT/PET",)
) -> PlaceDifferences:
    """Differences of shape (places,) or (pairs, places) by case."""
    places = np.stack([np.broadcast_to(of, (len(pairs), PLACES)) for of in of_cases.values()])
    rows = {id: row for row, id in enumerate(of_cases)}
    return PlaceDifferences(rows, tuple(pairs), places.astype(np.float16), COARSE_SHAPE)
