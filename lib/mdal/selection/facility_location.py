"""The order `representative`: cases that stand for many others and have much to see first."""

from __future__ import annotations

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from scipy.spatial.distance import cdist
from scipy.stats import norm, rankdata

from lib.mdal.selection.candidates import MOST_PLANNED, Candidates, Rows, largest_first, planned, remaining
from lib.mdal.selection.clusters import sample

SALIENCY_WEIGHT = 0.6  # weight of saliency; one standard deviation multiplies the gain by e^0.6 = 1.8
ATYPICALITY_WEIGHT = 0.5  # weight of the distance of a case from the pool's mean
_MOST_DEVIATIONS = 2.0  # normal scores are clipped to this
MOST_COMPARED = 4_000  # cases that are ordered jointly; their distances take 128 MB


def representative(
    candidates: Candidates,
    budget: int,
    generator: Generator,
    *,
    salient: float = SALIENCY_WEIGHT,
    atypical: float = ATYPICALITY_WEIGHT,
    difference: float = 0.0,
) -> list[str]:
    """Order cases by the weighted gain in how closely the chosen cases represent the pool.

    value_i = sum_j max(0, d_j - |x_i - x_j|) * exp(0.6 s_i + 0.5 u_i)

    x_i are the saliency features of case i, or its features if these are unknown. d_j is the distance of
    case j to the nearest chosen case. s_i is the normal score of the number of salient places, and u_i that
    of the distance of x_i from the pool's mean; both are clipped to two standard deviations.

    The sum is large for a case that represents many others, as long as no similar case is chosen: frequent
    kinds of cases come first, rare ones later. Among equally representative cases, the weights prefer those
    with many salient places and an unusual appearance.

    If a place is a different part of the body in each case, saliency means little, and no order by the
    features alone was found to be better than chance. The order is then random.

    The order does not depend on the budget. In a pool of more than 4,000 cases, a sample of 4,000 is ordered,
    at most 2,000 of them jointly, and the other cases follow by weight.

    Args:
        candidates: Cases of the pool.
        budget: Number of cases that will be labelled.
        generator: Generator of the random order, and of the sample of a pool of more than 4,000 cases.
        salient: Weight of s_i.
        atypical: Weight of u_i.
        difference: Weight of the normal score of the modality difference; 0, as no weight was found to help.

    Returns:
        Every id, best first.

    Source: ours; the weights were chosen on generated gliomas (docs/evidence.md). Hacohen, Dekel & Weinshall
    2022 find that small budgets need typical cases first. The sum is the facility location function (Wei,
    Iyer & Bilmes 2015).
    """
    pool = candidates.by_id()
    planned(pool, budget)
    if not pool.aligned:
        return pool.named(generator.permutation(len(pool)))
    rows = sample(len(pool), MOST_COMPARED, generator)
    points = (pool.features if pool.saliency_features is None else pool.saliency_features).astype(np.float64)
    weight = atypical * _normal_score(np.linalg.norm(points - points.mean(axis=0), axis=1))
    weight += difference * _normal_score(pool.difference)
    if pool.salient is not None:
        weight += salient * _normal_score(pool.salient)
    first = rows[_greedy(cdist(points[rows], points[rows]), weight[rows])]
    return pool.named(np.concatenate([first, remaining(first, largest_first(weight))]))


def _normal_score(values: NDArray[np.float64]) -> NDArray[np.float64]:
    score = norm.ppf((rankdata(values) - 0.5) / len(values))
    return np.asarray(score.clip(-_MOST_DEVIATIONS, _MOST_DEVIATIONS))


def _greedy(apart: NDArray[np.float64], weight: NDArray[np.float64]) -> Rows:
    """Rows chosen greedily by value, at most `MOST_PLANNED`; ties break by row.

    Args:
        apart: Distances between the cases, shape (N, N).
        weight: Logarithm of the factor of each row's gain, shape (N,).
    """
    factor = np.exp(weight)
    nearest = apart.max(axis=1)
    gain = (nearest - apart).sum(axis=1)
    chosen: list[int] = []
    free = np.ones(len(apart), dtype=bool)
    while len(chosen) < min(len(apart), MOST_PLANNED):
        value = np.where(free, np.maximum(gain, 0.0) * factor, -np.inf)
        if value.max() <= 0.0:  # all remaining cases are duplicates of chosen ones
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
