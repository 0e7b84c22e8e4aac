"""In which order the cases of a pool are labelled."""

from __future__ import annotations

import math
from functools import partial
from typing import Literal

import numpy as np
from numpy.random import Generator

from lib.mdal.selection.baselines import (
    STRATA,
    farthest_point,
    k_means_centres,
    k_means_then_farthest,
    largest_surprise,
    smallest_mutual_information,
    strata,
    stratified,
    uniform,
)
from lib.mdal.selection.candidates import Candidates, Rows, Selector, largest_first, planned, remaining, turns
from lib.mdal.selection.clusters import Clusters, farthest_first, find_clusters
from lib.mdal.selection.facility_location import paced
from lib.mdal.selection.typicality import density, probcover, typiclust

TOP = 3  # alpha: the farthest-point subset of B cases is sought among the alpha B of largest difference

Variant = Literal["cluster", "top", "strata"]


def max_md(candidates: Candidates, budget: int, generator: Generator) -> list[str]:
    """MaxMD: the largest modality difference first.

    Source: Wang et al. 2025, as reconstructed from its abstract.
    """
    planned(candidates, budget)
    return candidates.named(candidates.falling(candidates.difference))


def min_md(candidates: Candidates, budget: int, generator: Generator) -> list[str]:
    """MinMD: the smallest modality difference first, the reverse of what MaxMD claims."""
    planned(candidates, budget)
    return candidates.named(candidates.falling(-candidates.difference))


def diverse_md(
    candidates: Candidates, budget: int, generator: Generator, *, variant: Variant = "cluster"
) -> list[str]:
    """DiverseMD: cases of large modality difference that are unlike one another.

    A budget of the whole pool would make every case a cluster; it is ordered as for a fifth of the pool.

    Args:
        candidates: The pool.
        budget: Cases that will be labelled.
        generator: Draws k-means++.
        variant: "cluster": of each of K = budget k-means clusters the case of largest difference, by
            difference; then the second of each, and so on. "top": among the 3 B of largest difference each
            case farthest from those before it, from the largest difference on; then by difference. "strata":
            fifths of the pool by difference take turns, largest first, each in the order of "cluster".

    Returns:
        Every id, best first.

    Raises:
        ValueError: If the budget is below 1 or the variant unknown.

    Source: Wang et al. 2025, as reconstructed from its abstract; rounds after the winners, "top" and
    "strata" are ours. At most 2,000 clusters are made, so time grows with N K F.
    """
    pool = candidates.by_id()
    count = planned(pool, budget)
    if variant == "cluster":
        return pool.named(_by_cluster(pool, find_clusters(pool.features, count, generator)))
    if variant == "top":
        return pool.named(_farthest_of_the_top(pool, count))
    if variant == "strata":
        return pool.named(_by_stratum(pool, count, generator))
    raise ValueError(f"variant must be one of cluster, top, strata; got {variant!r}.")


def cluster_of(candidates: Candidates, budget: int, generator: Generator) -> Rows:
    """The cluster that DiverseMD puts each case in.

    Args:
        candidates: The pool.
        budget: Cases that will be labelled.
        generator: In the state in which `diverse_md` gets it.

    Returns:
        Shape (N,), in the order of the candidates; 0 for the largest cluster.
    """
    pool = candidates.by_id()
    group = find_clusters(pool.features, planned(pool, budget), generator).group
    number = dict(zip(pool.ids, group.tolist(), strict=True))
    return np.array([number[id] for id in candidates.ids], dtype=np.intp)


SELECTORS: dict[str, Selector] = {
    "mdal": max_md,
    "diversemd": diverse_md,
    "paced": paced,
    "diversemd_top": partial(diverse_md, variant="top"),
    "diversemd_strata": partial(diverse_md, variant="strata"),
    "minmd": min_md,
    "uniform": uniform,
    "stratified": stratified,
    "kmeans": k_means_centres,
    "farthest": farthest_point,
    "kmeans_farthest": k_means_then_farthest,
    "typiclust": typiclust,
    "probcover": probcover,
    "density": density,
    "surprise": largest_surprise,
    "nmi": smallest_mutual_information,
}

BY_DIFFERENCE = frozenset({"mdal", "minmd", "diversemd", "diversemd_top", "diversemd_strata"})
"""Strategies that rank by the modality difference: whether it is to be trusted decides about their order."""

DESCRIPTIONS: dict[str, str] = {
    "mdal": "MaxMD: the largest modality difference first",
    "diversemd": "DiverseMD: diverse cases, in each group the largest modality difference",
    "paced": "Paced: cases that stand for many others and have much to see first, likely damaged scans last; "
    "random where cases show different parts of the body",
    "diversemd_top": "DiverseMD among the top: of the largest modality differences the most unlike cases",
    "diversemd_strata": "DiverseMD by strata: diverse cases from every level of modality difference",
    "minmd": "MinMD: the smallest modality difference first",
    "uniform": "Every case equally likely",
    "stratified": "Equally likely within strata of how conspicuous a lesion may be, found without labels",
    "kmeans": "k-means centres: the most central case of each group",
    "farthest": "Core-set: each case the farthest from all before it",
    "kmeans_farthest": "Contrastive annotation: cases near k-means++ centres, then the farthest from them",
    "typiclust": "TypiClust: in each group the case with the nearest neighbours",
    "probcover": "ProbCover: each case the one that covers most of what is not covered yet",
    "density": "Density, after the idea of CALR: in each group the case most alike to the others",
    "surprise": "The modality that the other foretells worst first",
    "nmi": "The smallest mutual information between co-registered voxels first",
}


def _by_cluster(pool: Candidates, clusters: Clusters) -> Rows:
    order = largest_first(pool.difference)
    turn = turns(clusters.group, order)
    return order[np.argsort(turn[order], kind="stable")]  # by difference within a turn


def _farthest_of_the_top(pool: Candidates, count: int) -> Rows:
    order = largest_first(pool.difference)
    top = order[: TOP * count]
    spread, _ = farthest_first(pool.features[top].astype(np.float64), np.array([0]), count)
    return np.concatenate([top[spread], remaining(top[spread], order)])


def _by_stratum(pool: Candidates, count: int, generator: Generator) -> Rows:
    stratum = strata(largest_first(pool.difference))
    order = []
    for number in range(int(stratum.max()) + 1):
        rows = np.flatnonzero(stratum == number)
        part = pool.take(rows)
        order.append(
            rows[_by_cluster(part, find_clusters(part.features, math.ceil(count / STRATA), generator))]
        )
    turn = turns(stratum, np.concatenate(order))
    return np.asarray(np.lexsort((stratum, turn)))
