"""Strategies that the app offers: an order of the pool, and the sentence that explains a case's rank."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.random import Generator

from lib.mdal.selection.baselines import k_means_centres, stratified, uniform
from lib.mdal.selection.candidates import Candidates, Rows, Selector, largest_first, planned, turns
from lib.mdal.selection.clusters import Clusters, find_clusters
from lib.mdal.selection.facility_location import paced


@dataclass(frozen=True)
class Standing:
    """Rank of a case in its pool, by several measures.

    Attributes:
        percentile: Share of the pool with a smaller modality difference, 0 to 100.
        pair: Modalities of the case that differ most, such as `CT/PET`; empty if it has fewer than two.
        extreme: Whether a damaged scan is likelier than an informative one.
        salient_percentile: Share of the pool with fewer salient places, 0 to 100; None if a place is not the
            same part of the body in every case.
    """

    percentile: float
    pair: str = ""
    extreme: bool = False
    salient_percentile: float | None = None

    @property
    def differs(self) -> str:
        """Phrase that says how much the modalities of the case differ."""
        pair = f", {self.pair} most" if self.pair else ""
        if self.percentile in (0.0, 100.0):
            return f"its modalities differ {'most' if self.percentile else 'least'} of all{pair}"
        return f"its modalities differ more than those of {self.percentile:.0f} % of the other cases{pair}"


@dataclass(frozen=True)
class Strategy:
    """A strategy that orders the pool.

    Attributes:
        name: Name by which clients request the strategy.
        title: One-line description.
        select: Selector that orders the candidates.
        by_difference: Whether the order uses the modality difference, so that it depends on the gates.
        explain: Function that explains the rank of a case; its text follows "Case 3 of 20".
    """

    name: str
    title: str
    select: Selector
    by_difference: bool
    explain: Callable[[Standing], str]


def max_md(candidates: Candidates, budget: int, generator: Generator) -> list[str]:
    """Order cases by MaxMD: the largest modality difference first.

    Source: Wang et al. 2025, as reconstructed from its abstract.
    """
    planned(candidates, budget)
    return candidates.named(candidates.falling(candidates.difference))


def diverse_md(candidates: Candidates, budget: int, generator: Generator) -> list[str]:
    """Order cases by DiverseMD: dissimilar cases of large modality difference first.

    The case of largest difference in each of K = budget k-means clusters comes first, then the second case of
    each cluster, and so on. A budget of the whole pool would make every case a cluster; the pool is then
    ordered as for a fifth of it.

    Args:
        candidates: Cases of the pool.
        budget: Number of cases that will be labelled.
        generator: Generator that draws the k-means++ start.

    Returns:
        Every id, best first.

    Raises:
        ValueError: If the budget is below 1.

    Source: Wang et al. 2025, as reconstructed from its abstract; the rounds after the first are ours. At
    most 2,000 clusters are made, so time grows with N K F.
    """
    pool = candidates.by_id()
    count = planned(pool, budget)
    return pool.named(by_cluster(pool, find_clusters(pool.features, count, generator)))


def cluster_of(candidates: Candidates, budget: int, generator: Generator) -> Rows:
    """Cluster to which DiverseMD assigns each case.

    Args:
        candidates: Cases of the pool.
        budget: Number of cases that will be labelled.
        generator: Generator in the same state as for `diverse_md`.

    Returns:
        Cluster of each case, shape (N,), in the order of the candidates; 0 for the largest cluster.
    """
    pool = candidates.by_id()
    group = find_clusters(pool.features, planned(pool, budget), generator).group
    number = dict(zip(pool.ids, group.tolist(), strict=True))
    return np.array([number[id] for id in candidates.ids], dtype=np.intp)


def by_cluster(pool: Candidates, clusters: Clusters) -> Rows:
    """Rows by turns of the clusters, each with its remaining case of largest difference."""
    order = largest_first(pool.difference)
    turn = turns(clusters.group, order)
    return order[np.argsort(turn[order], kind="stable")]


def _explain_rank(standing: Standing) -> str:
    return f": {standing.differs}."


def _explain_chance(standing: Standing) -> str:
    return f" in a uniform order: {standing.differs}."


def _explain_paced(standing: Standing) -> str:
    if standing.extreme:
        return f", kept for last: {standing.differs}, so its scans may be damaged."
    if standing.salient_percentile is None:
        return f", drawn at random as cases here show different parts of the body: {standing.differs}."
    return (
        ": it represents similar cases, it has more conspicuous places than "
        f"{standing.salient_percentile:.0f} % of the other cases, and {standing.differs}."
    )


STRATEGIES: dict[str, Strategy] = {
    strategy.name: strategy
    for strategy in (
        Strategy("mdal", "MaxMD: the largest modality difference first", max_md, True, _explain_rank),
        Strategy(
            "diversemd",
            "DiverseMD: diverse cases, in each group the largest modality difference",
            diverse_md,
            True,
            _explain_rank,
        ),
        Strategy(
            "paced",
            "Paced: cases that stand for many others and have much to see first, likely damaged scans last; "
            "random where cases show different parts of the body",
            paced,
            False,
            _explain_paced,
        ),
        Strategy(
            "kmeans",
            "k-means centres: the most central case of each group",
            k_means_centres,
            False,
            _explain_rank,
        ),
        Strategy(
            "stratified",
            "Equally likely within strata of how conspicuous a lesion may be, found without labels",
            stratified,
            False,
            _explain_rank,
        ),
        Strategy("uniform", "Every case equally likely", uniform, False, _explain_chance),
    )
}
"""All strategies by name; clients show the first one first."""
