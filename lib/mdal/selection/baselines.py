"""Orders that a modality difference must beat: chance, strata of the lesion proxy, k-means."""

from __future__ import annotations

import numpy as np
from numpy.random import Generator

from lib.mdal.selection.candidates import Candidates, Rows, largest_first, planned, turns
from lib.mdal.selection.clusters import find_clusters

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


def k_means_centres(candidates: Candidates, budget: int, generator: Generator) -> list[str]:
    """The case nearest the centre of each of K = budget clusters, largest cluster first; then the second.

    Time grows with N K F, and K is at most 2,000.
    """
    pool = candidates.by_id()
    return pool.named(nearest_to_centres(pool, planned(pool, budget), generator))


def strata(order: Rows) -> Rows:
    """Which fifth of an order each case is in, shape (N,); 0 for the first."""
    stratum = np.empty(len(order), dtype=np.intp)
    for number, rows in enumerate(np.array_split(order, STRATA)):
        stratum[rows] = number
    return stratum


def nearest_to_centres(pool: Candidates, count: int, generator: Generator) -> Rows:
    """Rows of the cases nearest to each of `count` centres, largest cluster first; then the second."""
    clusters = find_clusters(pool.features, count, generator)
    turn = turns(clusters.group, largest_first(-clusters.distances(pool.features)))
    return np.asarray(np.lexsort((clusters.group, turn)))
