"""Orders that the product no longer offers: strategies of the literature and variants of DiverseMD.

The study of label efficiency (docs/evidence.md) compared them with the product's strategies.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from scipy.spatial.distance import cdist
from sklearn.metrics import euclidean_distances

from lib.mdal.selection.baselines import STRATA, nearest_to_centres, strata, uniform
from lib.mdal.selection.candidates import (
    Candidates,
    Rows,
    Selector,
    largest_first,
    planned,
    remaining,
    turns,
)
from lib.mdal.selection.clusters import Clusters, blocks, farthest_first, find_clusters, sample
from lib.mdal.selection.strategies import STRATEGIES, diverse_md, max_md

TOP = 3  # alpha: the farthest-point subset of B cases is sought among the alpha B of largest difference
NEIGHBOURS = 20  # this and the next two as in TypiClust
MOST_CLUSTERS = 500
SMALL_CLUSTER = 5  # members; a cluster of so few is dropped
_MOST_COMPARED = 1_000  # members of a cluster among which neighbours are sought
MOST_COVERED = 4_000  # cases that ProbCover covers; their distances take 128 MB
MOST_KINDS = 10  # groups in place of the classes, which nobody knows before the labels
ONE_IMPURE_IN = 20  # balls: 95 % hold one kind only, the purity in the ProbCover paper


def min_md(candidates: Candidates, budget: int, generator: Generator) -> list[str]:
    """MinMD: the smallest modality difference first, the reverse of MaxMD."""
    planned(candidates, budget)
    return candidates.named(candidates.falling(-candidates.difference))


def diverse_md_of_the_top(candidates: Candidates, budget: int, generator: Generator) -> list[str]:
    """DiverseMD among the 3 B cases of largest difference: each case is the farthest from those before it.

    The first case is the one of largest difference. Cases past the budget are ordered by difference.
    """
    pool = candidates.by_id()
    count = planned(pool, budget)
    order = largest_first(pool.difference)
    top = order[: TOP * count]
    spread, _ = farthest_first(pool.features[top].astype(np.float64), np.array([0]), count)
    return pool.named(np.concatenate([top[spread], remaining(top[spread], order)]))


def diverse_md_by_strata(candidates: Candidates, budget: int, generator: Generator) -> list[str]:
    """DiverseMD within fifths of the pool by difference; the fifths take turns, the largest first."""
    pool = candidates.by_id()
    count = planned(pool, budget)
    stratum = strata(largest_first(pool.difference))
    order = []
    for number in range(int(stratum.max()) + 1):
        rows = np.flatnonzero(stratum == number)
        part = pool.take(rows)
        clusters = find_clusters(part.features, math.ceil(count / STRATA), generator)
        order.append(rows[_largest_difference_first(part, clusters)])
    turn = turns(stratum, np.concatenate(order))
    return pool.named(np.asarray(np.lexsort((stratum, turn))))


def _largest_difference_first(pool: Candidates, clusters: Clusters) -> Rows:
    """Rows by turns of the clusters, each with its remaining case of largest difference."""
    order = largest_first(pool.difference)
    turn = turns(clusters.group, order)
    return order[np.argsort(turn[order], kind="stable")]


def farthest_point(candidates: Candidates, budget: int, generator: Generator) -> list[str]:
    """Core-set, greedy k-centre: the most central case, then each time the case farthest from all before it.

    Cases past the budget are ordered by their distance to the nearest chosen case. Time grows with N F B, and
    B is at most 2,000.

    Source: Sener & Savarese 2018. The choice of the first case is ours, as their method starts from labelled
    cases.
    """
    pool = candidates.by_id()
    points = pool.features.astype(np.float64)
    central = cdist(points, points.mean(axis=0, keepdims=True)).argmin()
    return pool.named(_spread(points, np.array([central]), planned(pool, budget)))


def k_means_then_farthest(candidates: Candidates, budget: int, generator: Generator) -> list[str]:
    """Contrastive annotation: cases near k-means++ centres, then the case farthest from all before it.

    The first half of the budget is chosen as in `k_means_centres`, the second as in `farthest_point`. Time
    grows with N F B, and B is at most 2,000.

    Source: contrastive annotation, of which we know only that it selects once, by k-means++ and then by
    farthest point. Giving each half of the budget is our choice.
    """
    pool = candidates.by_id()
    count = planned(pool, budget)
    half = math.ceil(count / 2)
    start = nearest_to_centres(pool, half, generator)[:half]
    return pool.named(_spread(pool.features.astype(np.float64), start, count))


def typiclust(candidates: Candidates, budget: int, generator: Generator) -> list[str]:
    """TypiClust: the most typical case of each of K clusters in turn, the largest cluster first.

    typicality_i = 1 / mean distance to the nearest min(20, n / 2) of the n members that are left

    K is the budget, at most 500. Clusters of five members or fewer are dropped, unless all are so small;
    a cluster whose turn comes again loses the cases that it gave. Cases past the budget follow by the
    turns of all clusters. In clusters of more than 1,000 members neighbours are sought among a sample of
    1,000, so time grows with N F (K + 1,000).

    Source: Hacohen, Dekel & Weinshall 2022, as their code has it; it fails where every cluster is small.
    """
    pool = candidates.by_id()
    count = planned(pool, budget)
    clusters = find_clusters(pool.features, min(count, MOST_CLUSTERS), generator)
    members = list(clusters.members())
    left = [rows for rows in members if len(rows) > SMALL_CLUSTER] or members
    chosen: list[int] = []
    turn = 0
    while len(chosen) < count and any(map(len, left)):
        rows, place = left[turn % len(left)], turn % len(left)
        turn += 1
        if len(rows):
            first = int(neighbour_distance(pool.features[rows], generator).argmin())
            chosen.append(int(rows[first]))
            left[place] = np.delete(rows, first)
    distance = np.zeros(len(pool))
    for rows in members:
        distance[rows] = neighbour_distance(pool.features[rows], generator)
    order = largest_cluster_first(clusters, -distance)
    return pool.named(
        np.concatenate([chosen, remaining(np.array(chosen, dtype=np.intp), order)]).astype(np.intp)
    )


def density(candidates: Candidates, budget: int, generator: Generator) -> list[str]:
    """The densest case of each of K = budget clusters, then the second densest.

    density_i = mean over the other members j of the cluster of cos(features_i, features_j)

    The largest cluster comes first. Time grows with N K F, and K is at most 2,000: the mean of the cosines is
    the product with the mean of the unit vectors.

    Source: the idea of CALR (Jin et al. 2022). Its abstract describes representative sampling from a cold
    start without feedback from a model; k-means and information density (Settles & Craven 2008) are our
    reading of it.
    """
    pool = candidates.by_id()
    clusters = find_clusters(pool.features, planned(pool, budget), generator)
    similarity = np.empty(len(pool), dtype=np.float32)
    for members in clusters.members():
        similarity[members] = _mean_cosine(pool.features[members])
    return pool.named(largest_cluster_first(clusters, similarity))


def probcover(candidates: Candidates, budget: int, generator: Generator) -> list[str]:
    """ProbCover: each time the case whose ball of radius delta covers the most cases not yet covered.

    delta is the largest radius at which 95 % of the balls hold cases of one kind only. The kinds are k-means
    clusters, as many as the budget and at most 10. When every case is covered, the cover starts anew. Cases
    past the budget are ordered by the number of cases in their ball. In a pool of more than 4,000 cases a
    sample of 4,000 is covered, so time grows with N F 4,000 and memory with N.

    Source: Yehuda et al. 2022. The number of kinds (theirs is the number of classes), the sample and the
    order after the first cover are our choices.
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


RIVAL_ORDERS: dict[str, Selector] = {
    "mdal_unguarded": max_md,
    "diversemd_unguarded": diverse_md,
    "diversemd_top": diverse_md_of_the_top,
    "diversemd_strata": diverse_md_by_strata,
    "minmd": min_md,
    "farthest": farthest_point,
    "kmeans_farthest": k_means_then_farthest,
    "typiclust": typiclust,
    "probcover": probcover,
    "density": density,
}
ORDERS: dict[str, Selector] = {
    **{name: each.select for name, each in STRATEGIES.items()},
    **RIVAL_ORDERS,
    "uniform": uniform,  # Random, damaged scans included
}
"""Every order that a benchmark can compare, by name."""

TITLES: dict[str, str] = {
    **{name: each.title for name, each in STRATEGIES.items()},
    "mdal_unguarded": "MaxMD, likely damaged cases not last",
    "diversemd_unguarded": "DiverseMD, likely damaged cases not last",
    "diversemd_top": "DiverseMD among the top: of the largest modality differences the most unlike cases",
    "diversemd_strata": "DiverseMD by strata: diverse cases from every level of modality difference",
    "minmd": "MinMD: the smallest modality difference first",
    "farthest": "Core-set: each case the farthest from all before it",
    "kmeans_farthest": "Contrastive annotation: cases near k-means++ centres, then the farthest from them",
    "typiclust": "TypiClust: in each group the case with the nearest neighbours",
    "probcover": "ProbCover: each case the one that covers most of what is not covered yet",
    "density": "Density, after the idea of CALR: in each group the case most alike to the others",
    "surprise": "The modality that the other foretells worst first",
    "nmi": "The smallest mutual information between co-registered voxels first",
}
WITHDRAWN = frozenset({"surprise", "nmi", "mdal_usual", "diversemd_usual"})
"""Orders in the published rows of the first study that no release can compute any more."""


def _spread(points: NDArray[np.float64], start: Rows, count: int) -> Rows:
    chosen, distance = farthest_first(points, start, count)
    return np.concatenate([chosen, remaining(chosen, largest_first(distance))])


def largest_cluster_first(clusters: Clusters, value: NDArray[np.floating[Any]]) -> Rows:
    """Rows by turns of the clusters, the largest first, each with its case of largest value."""
    return np.asarray(np.lexsort((clusters.group, turns(clusters.group, largest_first(value)))))


def neighbour_distance(features: NDArray[np.float32], generator: Generator) -> NDArray[np.float64]:
    """Mean distance of each member to the nearest half of the others, at most 20, shape (N,); 0 if alone."""
    if len(features) == 1:
        return np.zeros(1)
    compared = sample(len(features), _MOST_COMPARED, generator)
    points = features[compared].astype(np.float64)
    count = max(1, min(NEIGHBOURS, len(features) // 2, len(points) - 1))
    itself = np.isin(np.arange(len(features)), compared)
    mean = np.empty(len(features))
    for block in blocks(len(features), _MOST_COMPARED):
        nearest = np.partition(cdist(features[block], points), count, axis=1)[:, : count + 1]
        nearest.sort(axis=1)  # a sum in another order differs in its last digit
        mean[block] = np.where(itself[block], nearest[:, 1:].mean(axis=1), nearest[:, :-1].mean(axis=1))
    return mean


def _mean_cosine(features: NDArray[np.float32]) -> NDArray[np.float32]:
    """Mean cosine of each member with the others, shape (N,); 0 for a lone case."""
    points = features.astype(np.float64)
    norms = np.linalg.norm(points, axis=1, keepdims=True)
    units = points / np.where(norms > 0, norms, 1.0)
    together = (units * units.sum(axis=0)).sum(axis=1) - np.square(units).sum(axis=1)
    mean = together / max(len(units) - 1, 1)
    return np.asarray(mean, dtype=np.float32)  # so that the two members of a pair tie exactly


def _pure_radius(apart: NDArray[np.float64], kinds: Rows) -> float:
    """Largest radius at which 95 % of the open balls hold one kind only; infinite if there is one kind."""
    foreign = kinds[:, None] != kinds
    nearest_foreign = apart.min(axis=1, where=foreign, initial=np.inf)
    return float(np.sort(nearest_foreign)[len(apart) // ONE_IMPURE_IN])


def _greedy_cover(near: NDArray[np.bool_], count: int) -> Rows:
    """Rows in the order of a greedy cover: each covers the most cases not yet covered; ties by row."""
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
