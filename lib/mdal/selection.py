"""In which order the cases of a pool are labelled."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from sklearn.cluster import KMeans

Selector = Callable[[NDArray[np.float32], NDArray[np.float64], Sequence[str], int, Generator], list[str]]

WHOLE_POOL_SHARE = 0.2  # the largest share of labels that the abstract reports


def max_md(
    features: NDArray[np.float32],
    scores: NDArray[np.float64],
    ids: Sequence[str],
    budget: int,
    generator: Generator,
) -> list[str]:
    """MaxMD: the largest modality difference first, ties by case id.

    Args:
        features: (N, F); not used.
        scores: Modality difference (N,).
        ids: Of the N cases.
        budget: Cases that will be labelled; not used.
        generator: Not used.

    Returns:
        Every id, best first, so that any prefix is a budget.

    Raises:
        ValueError: If the lengths differ, a value is not finite, an id comes twice or budget < 1.

    Source: Wang et al. 2025, as reconstructed from its abstract.
    """
    _check(features, scores, ids, budget)
    return [ids[row] for row in _largest_first(scores, ids)]


def diverse_md(
    features: NDArray[np.float32],
    scores: NDArray[np.float64],
    ids: Sequence[str],
    budget: int,
    generator: Generator,
) -> list[str]:
    """DiverseMD: from each of K = budget clusters the case with the largest modality difference.

    The winners come first, by modality difference; then the second of every cluster, and so on. A
    budget of the whole pool would make every case a cluster; it is ordered as for a fifth of the pool.

    Args:
        features: Concatenated, PCA-reduced embeddings (N, F).
        scores: Modality difference (N,).
        ids: Of the N cases.
        budget: Cases that will be labelled.
        generator: Seeds k-means++.

    Returns:
        Every id, best first.

    Raises:
        ValueError: If the lengths differ, a value is not finite, an id comes twice or budget < 1.

    Source: Wang et al. 2025, as reconstructed from its abstract; rounds after the winners are ours.
    """
    _check(features, scores, ids, budget)
    order = _largest_first(scores, ids)
    by_id = np.argsort(np.asarray(ids))  # the order of the pool must not matter
    clusters = budget if budget < len(ids) else math.ceil(WHOLE_POOL_SHARE * len(ids))
    clusters = min(clusters, len(np.unique(features, axis=0)))
    means = KMeans(clusters, n_init=1, max_iter=50, random_state=int(generator.integers(2**31)))
    cluster = np.empty(len(ids), dtype=np.intp)
    cluster[by_id] = means.fit_predict(np.asarray(features, dtype=np.float64)[by_id])
    taken, turn = np.zeros(clusters, dtype=np.intp), np.empty(len(ids), dtype=np.intp)
    for row in order:
        turn[row] = taken[cluster[row]]
        taken[cluster[row]] += 1
    return [ids[row] for row in sorted(order, key=lambda row: turn[row])]  # stable: by MD within a turn


def uniform(
    features: NDArray[np.float32],
    scores: NDArray[np.float64],
    ids: Sequence[str],
    budget: int,
    generator: Generator,
) -> list[str]:
    """Every order equally likely: what the other two must beat.

    Args:
        features: (N, F); not used.
        scores: (N,); not used.
        ids: Of the N cases.
        budget: Not used.
        generator: Draws the order.

    Returns:
        Every id.

    Raises:
        ValueError: If the lengths differ, a value is not finite, an id comes twice or budget < 1.
    """
    _check(features, scores, ids, budget)
    return [str(id) for id in generator.permutation(sorted(ids))]


SELECTORS: dict[str, Selector] = {"mdal": max_md, "diversemd": diverse_md, "uniform": uniform}


def _largest_first(scores: NDArray[np.float64], ids: Sequence[str]) -> list[int]:
    return sorted(range(len(ids)), key=lambda row: (-scores[row], ids[row]))


def _check(
    features: NDArray[np.float32], scores: NDArray[np.float64], ids: Sequence[str], budget: int
) -> None:
    if not len(features) == len(scores) == len(ids) > 0:
        raise ValueError(
            "features, scores and ids must describe the same one or more cases; "
            f"got {len(features)}, {len(scores)} and {len(ids)}."
        )
    if len(set(ids)) < len(ids):
        raise ValueError(f"ids must be unique; {len(ids) - len(set(ids))} of {len(ids)} come again.")
    if budget < 1:
        raise ValueError(f"budget must be at least 1 case; got {budget}.")
    if not (np.isfinite(features).all() and np.isfinite(scores).all()):
        raise ValueError("features and scores must be finite; got NaN or infinity. Score the pool again.")
