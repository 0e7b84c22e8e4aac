"""Clusters of similar cases, and cases far from one another, in a pool of any size."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from scipy.spatial.distance import cdist
from sklearn.cluster import KMeans
from sklearn.metrics import pairwise_distances_argmin
from threadpoolctl import threadpool_limits

from lib.mdal.selection.candidates import Rows

_FIT_CASES = 50_000  # cases on which centres are fitted; 25 per cluster for the longest plan
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
