"""Orders that begin with cases that stand for many others."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from scipy.spatial.distance import cdist
from sklearn.metrics import euclidean_distances

from lib.mdal.selection.candidates import Candidates, Rows, largest_first, planned, remaining, turns
from lib.mdal.selection.clusters import Clusters, blocks, find_clusters, sample

NEIGHBOURS = 20  # the paper's
_MOST_COMPARED = 1_000  # members of a cluster among which neighbours are sought
MOST_COVERED = 4_000  # cases that ProbCover covers; their distances are 128 MB
MOST_KINDS = 10  # groups that stand for the classes, which nobody knows before the labels
ONE_IMPURE_IN = 20  # balls: 95 % are of one kind, the paper's purity


def typiclust(candidates: Candidates, budget: int, generator: Generator) -> list[str]:
    """TypiClust: the most typical case of each of K = budget clusters, largest first; then the second.

    typicality_i = 1 / mean distance to the 20 nearest neighbours in the cluster

    In clusters of more than 1,000 members neighbours are sought among a sample of that many, so time grows
    with N F (K + 1,000), and K is at most 2,000.

    Source: Hacohen, Dekel & Weinshall 2022; all clusters are found at once, as all labels are bought at once.
    """
    pool = candidates.by_id()
    clusters = find_clusters(pool.features, planned(pool, budget), generator)
    distance = np.zeros(len(pool))
    for members in clusters.members():
        distance[members] = _neighbour_distance(pool.features[members], generator)
    return pool.named(_by_cluster(clusters, -distance))


def density(candidates: Candidates, budget: int, generator: Generator) -> list[str]:
    """The densest case of each of K = budget clusters, largest cluster first; then the second.

    density_i = mean over the other members j of the cluster of cos(features_i, features_j)

    Time grows with N K F, and K is at most 2,000: the mean of cosines is the cosine with the mean.

    Source: the idea of CALR (Jin et al. 2022), whose abstract says representative sampling from a cold start
    without feedback of a model. k-means and information density (Settles & Craven 2008) are our reading.
    """
    pool = candidates.by_id()
    clusters = find_clusters(pool.features, planned(pool, budget), generator)
    similarity = np.empty(len(pool), dtype=np.float32)
    for members in clusters.members():
        similarity[members] = _mean_cosine(pool.features[members])
    return pool.named(_by_cluster(clusters, similarity))


def probcover(candidates: Candidates, budget: int, generator: Generator) -> list[str]:
    """ProbCover: again and again the case whose ball of radius delta covers most cases not yet covered.

    delta is the largest radius at which 95 % of the balls hold cases of one kind only; the kinds are k-means
    clusters, as many as the budget and at most 10. Once all is covered the cover starts anew. Cases past
    the budget come by how many their ball covers. Of a pool above 4,000 cases a sample of that many is
    covered, so time grows with N F 4,000 and memory with N.

    Source: Yehuda et al. 2022; the number of kinds (theirs is that of the classes), the sample and what
    follows the first cover are ours.
    """
    pool = candidates.by_id()
    count = planned(pool, budget)
    covered = sample(len(pool), MOST_COVERED, generator)
    features = pool.features[covered]
    kinds = find_clusters(features, min(count, MOST_KINDS), generator).group
    points = features.astype(np.float64)
    apart = cdist(points, points)
    delta = _pure_radius(apart, kinds)
    near = (apart < delta) | np.eye(len(points), dtype=bool)
    chosen = covered[_greedy_cover(near, count)]
    degrees = np.empty(len(pool), dtype=np.float64)
    for block in blocks(len(pool), 512):
        degrees[block] = (euclidean_distances(pool.features[block], points) < delta).sum(axis=1)
    degrees[covered] = near.sum(axis=1)
    return pool.named(np.concatenate([chosen, remaining(chosen, largest_first(degrees))]))


def _by_cluster(clusters: Clusters, value: NDArray[np.floating[Any]]) -> Rows:
    return np.asarray(np.lexsort((clusters.group, turns(clusters.group, largest_first(value)))))


def _neighbour_distance(features: NDArray[np.float32], generator: Generator) -> NDArray[np.float64]:
    """Mean distance of each member to its nearest others, shape (N,); 0 for a lone case."""
    if len(features) == 1:
        return np.zeros(1)
    compared = sample(len(features), _MOST_COMPARED, generator)
    points = features[compared].astype(np.float64)
    count = min(NEIGHBOURS, len(points) - 1)
    itself = np.isin(np.arange(len(features)), compared)
    mean = np.empty(len(features))
    for block in blocks(len(features), _MOST_COMPARED):
        nearest = np.partition(cdist(features[block], points), count, axis=1)[:, : count + 1]
        nearest.sort(axis=1)  # a sum of other order differs in its last digit
        mean[block] = np.where(itself[block], nearest[:, 1:].mean(axis=1), nearest[:, :-1].mean(axis=1))
    return mean


def _mean_cosine(features: NDArray[np.float32]) -> NDArray[np.float32]:
    """Mean cosine of each member with the others, shape (N,); 0 for a lone case."""
    points = features.astype(np.float64)
    norms = np.linalg.norm(points, axis=1, keepdims=True)
    units = points / np.where(norms > 0, norms, 1.0)
    together = (units * units.sum(axis=0)).sum(axis=1) - np.square(units).sum(axis=1)
    mean = together / max(len(units) - 1, 1)
    return np.asarray(mean, dtype=np.float32)  # of two, neither is denser by the last digit


def _pure_radius(apart: NDArray[np.float64], kinds: Rows) -> float:
    """The largest open ball of which at least 95 % hold one kind only; infinite where there is one kind."""
    foreign = kinds[:, None] != kinds
    nearest_foreign = apart.min(axis=1, where=foreign, initial=np.inf)
    return float(np.sort(nearest_foreign)[len(apart) // ONE_IMPURE_IN])


def _greedy_cover(near: NDArray[np.bool_], count: int) -> Rows:
    """Rows by how many cases not yet covered each covers when it is chosen; ties by row."""
    chosen: list[int] = []
    uncovered, degrees = np.ones(len(near), dtype=bool), near.sum(axis=1)
    while len(chosen) < min(count, len(near)):
        open_degrees = degrees.copy()
        open_degrees[chosen] = -1
        row = int(open_degrees.argmax())
        chosen.append(row)
        newly = near[row] & uncovered
        uncovered &= ~newly
        degrees = degrees - near[newly].sum(axis=0)
        if not uncovered.any():
            uncovered[:], degrees = True, near.sum(axis=1)
    return np.array(chosen, dtype=np.intp)
