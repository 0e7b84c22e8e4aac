"""One order for every budget: typical, diverse and rich cases first, then more and more by difference."""

from __future__ import annotations

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from scipy.spatial.distance import cdist
from scipy.stats import norm, rankdata

from lib.mdal.candidates import MOST_PLANNED, Candidates, Rows, largest_first, planned, remaining
from lib.mdal.clusters import sample
from lib.mdal.difference import extreme

SIZE_WEIGHT = 0.6  # of how much of a case is striking: a deviation more is worth e^0.6 = 1.8 times the gain
DIFFERENCE_WEIGHT = 0.5  # of the difference, once it counts in full
FULL_SHARE = 0.2  # of the pool, from which on it does; the share of labels that the MDAL abstract reports
_MOST_DEVIATIONS = 2.0  # beyond, a score says no more
MOST_COMPARED = 4_000  # cases among which an order is planned; their distances are 128 MB


def paced(
    candidates: Candidates,
    budget: int,
    generator: Generator,
    *,
    size_weight: float = SIZE_WEIGHT,
    difference_weight: float = DIFFERENCE_WEIGHT,
) -> list[str]:
    """Paced: again and again the case that brings the pool nearest to what is chosen, weighted.

    value_i(r) = sum_j max(0, d_j - |x_i - x_j|) * exp(0.6 s_i + 0.5 min(1, r / 0.2 N) z_i)

    x_i is how the most striking places of case i look, where that is known, or its features; d_j the
    distance of case j to the nearest chosen one; s_i the normal score of the rank of how many places are
    striking, z_i that of the modality difference, both within two deviations. The first cases are thus those
    of a greedy k-median, typical and diverse, with much to see in them; later ones tend to differ more, too.
    Cases of extreme difference, likelier damaged than informative, come last, the most extreme at the very
    end. The order does not depend on the budget. Of a pool above 4,000 cases a sample of that many is
    ordered, at most 2,000 of it, and the others follow by difference.

    Source: ours; settled on generated gliomas (docs/evidence.md). Typical first, hard later is what Hacohen,
    Dekel & Weinshall 2022 find of small budgets; the sum is that of facility location (Wei, Iyer & Bilmes
    2015).
    """
    pool = candidates.by_id()
    planned(pool, budget)
    by_difference = largest_first(pool.difference)
    suspect = by_difference[extreme(pool.difference)[by_difference]][::-1]
    usual = remaining(suspect, np.arange(len(pool)))
    rows = usual[sample(len(usual), MOST_COMPARED, generator)]
    size = np.zeros(len(pool)) if pool.striking is None else size_weight * _normal_score(pool.striking)
    difference = difference_weight * _normal_score(pool.difference)
    points = (pool.features if pool.look is None else pool.look)[rows].astype(np.float64)
    apart = cdist(points, points)
    first = rows[_greedy(apart, size[rows], difference[rows], FULL_SHARE * len(pool))]
    rest = remaining(np.concatenate([first, suspect]), by_difference)
    return pool.named(np.concatenate([first, rest, suspect]))


def _normal_score(values: NDArray[np.float64]) -> NDArray[np.float64]:
    score = norm.ppf((rankdata(values) - 0.5) / len(values))
    return np.asarray(score.clip(-_MOST_DEVIATIONS, _MOST_DEVIATIONS))


def _greedy(
    apart: NDArray[np.float64], size: NDArray[np.float64], difference: NDArray[np.float64], full: float
) -> Rows:
    """Rows by value, at most as many as are ever planned; ties by row.

    Args:
        apart: (N, N) distances.
        size: (N,) weight that always counts.
        difference: (N,) weight that counts more with every rank.
        full: Rank from which on it counts in full.
    """
    nearest = apart.max(axis=1)
    gain = (nearest - apart).sum(axis=1)
    chosen: list[int] = []
    free = np.ones(len(apart), dtype=bool)
    while len(chosen) < min(len(apart), MOST_PLANNED):
        weight = size + min(1.0, len(chosen) / max(full, 1.0)) * difference
        value = np.where(free, np.maximum(gain, 0.0) * np.exp(weight), -np.inf)
        if value.max() <= 0.0:  # what is left lies on what is chosen
            value = np.where(free, weight, -np.inf)
        row = int(value.argmax())
        chosen.append(row)
        free[row] = False
        closer = np.flatnonzero(apart[row] < nearest)
        near = apart[:, closer]
        gain -= np.maximum(nearest[closer] - near, 0.0).sum(axis=1)
        nearest[closer] = apart[row, closer]
        gain += np.maximum(nearest[closer] - near, 0.0).sum(axis=1)
    return np.array(chosen, dtype=np.intp)
