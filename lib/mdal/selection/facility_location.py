"""One order for every budget: cases that stand for many others, with much to see, and unlike the usual."""

from __future__ import annotations

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from scipy.spatial.distance import cdist
from scipy.stats import norm, rankdata

from lib.mdal.scoring.difference import extreme
from lib.mdal.selection.candidates import MOST_PLANNED, Candidates, Rows, largest_first, planned, remaining
from lib.mdal.selection.clusters import sample

SALIENCY_WEIGHT = 0.6  # of how much of a case is striking: a deviation more makes its gain e^0.6 = 1.8-fold
ATYPICALITY_WEIGHT = 0.5  # of how far from the pool's middle a case looks
_MOST_DEVIATIONS = 2.0  # beyond, a score says no more
MOST_COMPARED = 4_000  # cases among which an order is planned; their distances are 128 MB


def paced(
    candidates: Candidates,
    budget: int,
    generator: Generator,
    *,
    salient: float = SALIENCY_WEIGHT,
    atypical: float = ATYPICALITY_WEIGHT,
    difference: float = 0.0,
) -> list[str]:
    """Paced: again and again the case that brings the pool nearest to what is chosen, weighted.

    value_i = sum_j max(0, d_j - |x_i - x_j|) * exp(0.6 s_i + 0.5 u_i)

    x_i is how the most salient places of case i look, where that is known, or its features; d_j the
    distance of case j to the nearest chosen one; s_i the normal score of the rank of how many places are
    striking, u_i that of how far x_i is from the pool's mean, both within two deviations. The sum is large
    for a case that stands for many others as long as nothing like it is chosen: what is frequent comes
    first, what is rare when its turn comes. The weights prefer, of cases that stand for as many, those with
    much to see and those that look unusual. Cases of extreme modality difference, likelier damaged than
    informative, come last, the most extreme at the very end.

    Where the same place is another part of the body in each case, what is salient cannot be told, and no
    order by the features alone was found to be better than chance: all but the extreme cases come in a
    random order.

    The order does not depend on the budget. Of a pool above 4,000 cases a sample of that many is ordered, at
    most 2,000 of it, and the others follow by weight.

    Args:
        candidates: The pool.
        budget: Cases that will be labelled.
        generator: Draws the random order, and the sample of a pool above 4,000 cases.
        salient: Weight of s_i.
        atypical: Weight of u_i.
        difference: Weight of the normal score of the modality difference; 0, as none was found to help.

    Returns:
        Every id, best first.

    Source: ours; the weights were settled on generated gliomas (docs/evidence.md). Typical first, hard later
    is what Hacohen, Dekel & Weinshall 2022 find of small budgets; the sum is that of facility location (Wei,
    Iyer & Bilmes 2015).
    """
    pool = candidates.by_id()
    planned(pool, budget)
    by_difference = largest_first(pool.difference)
    suspect = by_difference[extreme(pool.difference)[by_difference]][::-1]
    usual = remaining(suspect, np.arange(len(pool)))
    if not pool.aligned:
        return pool.named(np.concatenate([generator.permutation(usual), suspect]))
    rows = usual[sample(len(usual), MOST_COMPARED, generator)]
    points = (pool.features if pool.saliency_features is None else pool.saliency_features).astype(np.float64)
    weight = atypical * _normal_score(np.linalg.norm(points - points.mean(axis=0), axis=1))
    weight += difference * _normal_score(pool.difference)
    if pool.salient is not None:
        weight += salient * _normal_score(pool.salient)
    first = rows[_greedy(cdist(points[rows], points[rows]), weight[rows])]
    rest = remaining(np.concatenate([first, suspect]), largest_first(weight))
    return pool.named(np.concatenate([first, rest, suspect]))


def _normal_score(values: NDArray[np.float64]) -> NDArray[np.float64]:
    score = norm.ppf((rankdata(values) - 0.5) / len(values))
    return np.asarray(score.clip(-_MOST_DEVIATIONS, _MOST_DEVIATIONS))


def _greedy(apart: NDArray[np.float64], weight: NDArray[np.float64]) -> Rows:
    """Rows by value, at most as many as are ever planned; ties by row.

    Args:
        apart: (N, N) distances.
        weight: (N,) logarithm of the factor of a row's gain.
    """
    factor = np.exp(weight)
    nearest = apart.max(axis=1)
    gain = (nearest - apart).sum(axis=1)
    chosen: list[int] = []
    free = np.ones(len(apart), dtype=bool)
    while len(chosen) < min(len(apart), MOST_PLANNED):
        value = np.where(free, np.maximum(gain, 0.0) * factor, -np.inf)
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
