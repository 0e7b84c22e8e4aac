"""Clusters of similar cases, and cases far from one another, in a pool of any size."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from scipy.cluster.hierarchy import leaves_list, linkage
from scipy.spatial.distance import cdist, pdist
from sklearn.cluster import KMeans
from sklearn.metrics import pairwise_distances_argmin
from threadpoolctl import threadpool_limits

from lib.mdal.selection.candidates import Rows

_FIT_CASES = 50_000  # cases on which centres are fitted; 25 per cluster for the longest plan
_MOST_JOINED = 4_000  # cases that are joined one by one; their distances take 64 MB
_JOINED_CLUSTERS = 2_000  # clusters that are joined in a larger pool
_BLOCK = 4_096  # rows at a time; bounds memory for any pool size


@dataclass(frozen=True, eq=False)
class Clusters:
    """K clusters, numbered from the largest; ties break by the first row.

    Attributes:
        group: Cluster of each case, shape (N,).
        centres: Mean of each cluster, shape (K, F).
    """

    group: Rows
    centres: NDArray[np.float64]

    def members(self) -> Iterator[Rows]:
        """Rows of each cluster, the largest cluster first."""
        ends = np.cumsum(np.bincount(self.group))
        return iter(np.split(np.argsort(self.group, kind="stable"), ends[:-1]))

    def distances(self, features: NDArray[np.float32]) -> NDArray[np.float32]:
        """Distance of each case to the centre of its cluster, shape (N,)."""
        distance = np.empty(len(features), dtype=np.float32)  # float32, so that rounding breaks no tie
        for block in blocks(len(features)):
            distance[block] = np.linalg.norm(features[block] - self.centres[self.group[block]], axis=1)
        return distance


@dataclass(frozen=True, eq=False)
class ClusterTree:
    """Nested clusters: cutting the tree into k + 1 clusters splits one of the k clusters in two.

    Attributes:
        leaves: All N rows, ordered so that every cluster is a slice.
        splits: Start, middle and stop of each cluster that is split, the widest split first.
    """

    leaves: Rows
    splits: tuple[tuple[int, int, int], ...]

    def cut(self, count: int) -> Rows:
        """Cluster of each row when the tree is cut into `count` clusters, the largest first, shape (N,)."""
        edges = sorted(middle for _, middle, _ in self.splits[: count - 1])
        parts = [np.sort(rows) for rows in np.split(self.leaves, edges)]
        group = np.empty(len(self.leaves), dtype=np.intp)
        for number, rows in enumerate(sorted(parts, key=lambda rows: (-len(rows), rows[0]))):
            group[rows] = number
        return group


def cluster_tree(features: NDArray[np.float32], generator: Generator) -> ClusterTree:
    """Ward's clusters: at each step the two clusters are joined whose union adds the least variance.

    In a pool of more than 4,000 cases, 2,000 k-means clusters are joined; their members are separated last.

    Args:
        features: Features of each case, shape (N, F), in order of id.
        generator: Generator of k-means, for a large pool.

    Source: Ward 1963, in SciPy.
    """
    if len(features) <= _MOST_JOINED:
        members, points = [np.array([row]) for row in range(len(features))], features.astype(np.float64)
    else:
        clusters = find_clusters(features, _JOINED_CLUSTERS, generator)
        members, points = list(clusters.members()), clusters.centres
    merges = linkage(pdist(points), method="ward") if len(members) > 1 else np.empty((0, 4))
    order = leaves_list(merges).tolist() if len(members) > 1 else [0]
    ends = np.cumsum([len(members[leaf]) for leaf in order])
    spans = {leaf: (int(end) - len(members[leaf]), int(end)) for leaf, end in zip(order, ends, strict=True)}
    inner = [(row, row + 1, stop) for start, stop in spans.values() for row in range(start, stop - 1)]
    joined = []
    for number, pair in enumerate(merges[:, :2].astype(int).tolist(), start=len(members)):
        low, high = sorted(spans[node] for node in pair)
        joined.append((low[0], high[0], high[1]))
        spans[number] = (low[0], high[1])
    leaves = np.concatenate([members[leaf] for leaf in order])
    return ClusterTree(leaves, (*reversed(joined), *inner))


def blocks(count: int, size: int = _BLOCK) -> Iterator[slice]:
    """Slices that cover `count` rows."""
    return (slice(start, min(start + size, count)) for start in range(0, count, size))


def sample(count: int, most: int, generator: Generator) -> Rows:
    """Random sample of at most `most` of `count` rows, in rising order."""
    if count <= most:
        return np.arange(count)
    return np.sort(generator.choice(count, most, replace=False))


def find_clusters(features: NDArray[np.float32], count: int, generator: Generator) -> Clusters:
    """k-means from a k-means++ start.

    The centres are fitted on a sample of at most 50,000 cases; every case then joins the nearest centre. Time
    grows with N K F, memory with N.

    Args:
        features: Features of each case, shape (N, F), in order of id.
        count: Number of clusters; fewer are returned if fewer cases differ.
        generator: Generator that draws the sample and the k-means++ start.
    """
    fitted = sample(len(features), _FIT_CASES, generator)
    points = features[fitted].astype(np.float64)
    count = min(count, len({row.tobytes() for row in points + 0.0}))  # + 0.0: -0.0 is 0.0
    means = KMeans(count, n_init=1, max_iter=50, random_state=int(generator.integers(2**31)))
    with threadpool_limits(1, user_api="openmp"):  # threads add up in any order: the last digit would vary
        group = means.fit(points).labels_
    if len(fitted) < len(features):
        group = pairwise_distances_argmin(features, means.cluster_centers_.astype(np.float32))
    return _from_the_largest(np.asarray(group, dtype=np.intp), means.cluster_centers_)


def farthest_first(points: NDArray[np.float64], chosen: Rows, count: int) -> tuple[Rows, NDArray[np.float64]]:
    """Greedy k-centre: repeatedly choose the case farthest from all chosen cases.

    Time grows with N F `count`, memory with N.

    Args:
        points: Features of each case, shape (N, F).
        chosen: One or more rows to start from.
        count: Number of rows to return, including the start.

    Returns:
        Chosen rows in order, and the distance of each case to the nearest chosen case, shape (N,).
    """
    order = chosen.tolist()
    nearest = cdist(points, points[chosen[:1]])[:, 0]
    for row in order[1:]:
        np.minimum(nearest, cdist(points, points[[row]])[:, 0], out=nearest)
    nearest[chosen] = -1.0  # duplicates of a chosen case are at 0; the case itself is excluded
    while len(order) < min(count, len(points)):
        row = int(nearest.argmax())
        order.append(row)
        np.minimum(nearest, cdist(points, points[[row]])[:, 0], out=nearest)
        nearest[row] = -1.0
    return np.array(order, dtype=np.intp), np.maximum(nearest, 0.0)


def _from_the_largest(group: Rows, centres: NDArray[np.float64]) -> Clusters:
    found, first, sizes = np.unique(group, return_index=True, return_counts=True)
    by_size = found[np.lexsort((first, -sizes))]
    number = np.empty(len(centres), dtype=np.intp)
    number[by_size] = np.arange(len(by_size))
    return Clusters(number[group], centres[by_size])
