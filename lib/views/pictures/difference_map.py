"""Maps of where two modalities of a case differ: the departure of each place, on the case's grid."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from lib.cases.boxes import Box
from lib.cases.formats.image import Volume
from lib.cases.preprocessing import PreparedCase
from lib.pipeline.place_differences import PlaceDifferences

OUTSIDE = -1000.0  # value outside all places, below any departure; viewers do not handle NaN
_COLOURED = (50.0, 98.0)  # range of the colours, in percentiles of the pool
_MOST_CASES = 200  # cases by which the range is judged


@dataclass(frozen=True)
class ColourRange:
    """Range of the colours for a pair, the same for every case of the pool.

    Attributes:
        low: Median departure of the pool's places in deviations; smaller values are not coloured.
        high: 98th percentile of the departure in deviations, with the strongest colour.
    """

    low: float
    high: float


def colour_range(differences: PlaceDifferences, pair: str | None = None) -> ColourRange:
    """Range of the colours for a pair; None for the mean over the pairs."""
    return _ranges(differences)[pair]


def difference_map(case: PreparedCase, differences: PlaceDifferences, pair: str | None = None) -> Volume:
    """Departure of each place in deviations, constant over its surroundings; `OUTSIDE` elsewhere.

    Args:
        case: Prepared case.
        differences: Places of the case and the pair.
        pair: Pair of modalities, one of `differences.pairs_of`; None for the mean over the pairs.
    """
    map = np.full(case.grid.shape, OUTSIDE, dtype=np.float32)
    found = differences.departures(np.array([differences.rows[case.id]]), pair)[0]
    for place in np.flatnonzero(np.isfinite(found)):
        map[differences.box(case, int(place))] = found[place]
    return Volume(map, case.grid)


def middle_of(case: PreparedCase, box: Box) -> tuple[float, float, float]:
    """Middle of a part of a case, in RAS mm."""
    middle = [(part.start + part.stop - 1) / 2.0 for part in reversed(box)]
    x, y, z = (case.grid.affine @ [*middle, 1.0])[:3]
    return float(x), float(y), float(z)


@lru_cache(maxsize=1)
def _ranges(differences: PlaceDifferences) -> dict[str | None, ColourRange]:
    ranges: dict[str | None, ColourRange] = {}
    count = len(differences.rows)
    rows = np.arange(0, count, -(-count // _MOST_CASES))
    for pair in (*differences.pairs, None):
        found = differences.departures(rows, pair)
        known = found[np.isfinite(found)]
        low, high = np.percentile(known, _COLOURED) if known.size else (0.0, 1.0)
        ranges[pair] = ColourRange(float(low), max(float(high), float(low) + 1e-3))
    return ranges
