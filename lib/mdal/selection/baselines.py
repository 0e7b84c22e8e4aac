"""Baselines that an order by modality difference must beat: uniform, stratified and k-means."""

from __future__ import annotations

import numpy as np
from numpy.random import Generator

from lib.mdal.selection.candidates import Candidates, Rows, largest_first, planned, turns
from lib.mdal.selection.clusters import find_clusters

STRATA = 5  # quintiles; a fifth of the pool is the longest plan in the MDAL abstract


def uniform(candidates: Candidates, budget: int, generator: Generator) -> list[str]:
    """Order the cases uniformly at random."""
    planned(candidates, budget)
    return [str(id) for id in generator.permutation(sorted(candidates.ids))]


def stratified(candidates: Candidates, budget: int, generator: Generator) -> list[str]:
    """Order uniformly within fifths of the pool by lesion proxy; the fifths take turns in a random order."""
    pool = candidates.by_id()
    planned(pool, budget)
    order = largest_first(pool.column("lesion_proxy"))
    turn = turns(strata(order), generator.permutation(len(pool)))
    return pool.named(np.lexsort((generator.permutation(len(pool)), turn)))


def k_means_centres(candidates: Candidates, budget: int, generator: Generator) -> list[str]:
    """Order the cases by closeness to the centres of K = budget clusters, which take turns by size.

    Time grows with N K F, and K is at most 2,000.
    """
    pool = candidates.by_id()
    return pool.named(nearest_to_centres(pool, planned(pool, budget), generator))


def strata(order: Rows) -> Rows:
    """Fifth of an order that each case is in, shape (N,); 0 for the first fifth."""
    stratum = np.empty(len(order), dtype=np.intp)
    for number, rows in enumerate(np.array_split(order, STRATA)):
        stratum[rows] = number
    return stratum


def nearest_to_centres(pool: Candidates, count: int, generator: Generator) -> Rows:
    """Rows by closeness to `count` cluster centres: the nearest case of each cluster, then the second."""
    clusters = find_clusters(pool.features, count, generator)
    turn = turns(clusters.group, largest_first(-clusters.distances(pool.features)))
    return np.asarray(np.lexsort((clusters.group, turn)))
