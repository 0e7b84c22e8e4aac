"""Orders that a modality difference must beat: chance, one other column, or spread alone."""

from __future__ import annotations

import math

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from scipy.spatial.distance import cdist

from lib.mdal.selection.candidates import Candidates, Rows, largest_first, planned, remaining, turns
from lib.mdal.selection.clusters import farthest_first, find_clusters

STRATA = 5  # quintiles: a fifth of the pool is the longest plan that the MDAL abstract reports


def uniform(candidates: Candidates, budget: int, generator: Generator) -> list[str]:
    """Every order equally likely."""
    planned(candidates, budget)
    return [str(id) for id in generator.permutation(sorted(candidates.ids))]


def stratified(candidates: Candidates, budget: int, generator: Generator) -> list[str]:
    """Uniform within fifths of the pool by lesion proxy, which take turns in an order drawn each turn."""
    pool = candidates.by_id()
    planned(pool, budget)
    order = largest_first(pool.column("lesion_proxy"))
    turn = turns(strata(order), generator.permutation(len(pool)))
    return pool.named(np.lexsort((generator.permutation(len(pool)), turn)))


def largest_surprise(candidates: Candidates, budget: int, generator: Generator) -> list[str]:
    """The largest conditional surprise -log p(y|x) first."""
    planned(candidates, budget)
    return candidates.named(candidates.falling(candidates.column("surprise")))


def smallest_mutual_information(candidates: Candidates, budget: int, generator: Generator) -> list[str]:
    """The smallest normalised mutual information of the co-registered voxels first."""
    planned(candidates, budget)
    return candidates.named(candidates.falling(-candidates.column("mutual_information")))


def k_means_centres(candidates: Candidates, budget: int, generator: Generator) -> list[str]:
    """The case nearest the centre of each of K = budget clusters, largest cluster first; then the second.

    Time grows with N K F, and K is at most 2,000.
    """
    pool = candidates.by_id()
    return pool.named(_nearest_to_centres(pool, planned(pool, budget), generator))


def farthest_point(candidates: Candidates, budget: int, generator: Generator) -> list[str]:
    """Core-set, greedy k-centre: from the most central case on, each the farthest from all before it.

    Cases past the budget come by their distance to the nearest chosen case. Time grows with N F B, and B is
    at most 2,000.

    Source: Sener & Savarese 2018; the first case is ours, as theirs starts from labelled cases.
    """
    pool = candidates.by_id()
    points = pool.features.astype(np.float64)
    central = cdist(points, points.mean(axis=0, keepdims=True)).argmin()
    return pool.named(_spread(points, np.array([central]), planned(pool, budget)))


def k_means_then_farthest(candidates: Candidates, budget: int, generator: Generator) -> list[str]:
    """Contrastive annotation: cases near k-means++ centres, then the farthest from all before them.

    The first half of the budget is as in `k_means_centres`, the second as in `farthest_point`. Time grows
    with N F B, and B is at most 2,000.

    Source: contrastive annotation, known to us as one-shot selection by k-means++ and then farthest point
    only; giving each a half is ours.
    """
    pool = candidates.by_id()
    count = planned(pool, budget)
    half = math.ceil(count / 2)
    start = _nearest_to_centres(pool, half, generator)[:half]
    return pool.named(_spread(pool.features.astype(np.float64), start, count))


def strata(order: Rows) -> Rows:
    """Which fifth of an order each case is in, shape (N,); 0 for the first."""
    stratum = np.empty(len(order), dtype=np.intp)
    for number, rows in enumerate(np.array_split(order, STRATA)):
        stratum[rows] = number
    return stratum


def _nearest_to_centres(pool: Candidates, count: int, generator: Generator) -> Rows:
    clusters = find_clusters(pool.features, count, generator)
    turn = turns(clusters.group, largest_first(-clusters.distances(pool.features)))
    return np.asarray(np.lexsort((clusters.group, turn)))


def _spread(points: NDArray[np.float64], start: Rows, count: int) -> Rows:
    chosen, distance = farthest_first(points, start, count)
    return np.concatenate([chosen, remaining(chosen, largest_first(distance))])
