"""Strategies that the app offers: an order of the pool, and the sentence that explains a case's rank."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from lib.mdal.selection.baselines import k_means_centres, stratified, uniform
from lib.mdal.selection.candidates import (
    Candidates,
    Rows,
    Selector,
    damage_last,
    largest_first,
    planned,
)
from lib.mdal.selection.clusters import cluster_tree
from lib.mdal.selection.facility_location import representative

_PLACES_TELL_NOTHING = " in random order, as the scans here show different parts of the body."
SOUND_SHARE = 0.8  # of the pool, by the difference of the case as a whole: DiverseMD prefers these


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
        return (
            f"its modalities differ more than those of {_percent(self.percentile)} of the other cases{pair}"
        )


@dataclass(frozen=True)
class Strategy:
    """A strategy that orders the pool.

    Attributes:
        name: Name by which clients request the strategy.
        title: One-line description.
        select: Selector that orders the candidates.
        by_difference: Whether the order uses the modality difference, so that it depends on the gates.
        explain_usual: Function that explains the rank of a case that is not likely damaged.
        random: When the order is a random one; `by place` if scans show different parts of the body.
        by_budget: Whether another budget gives another order.
    """

    name: str
    title: str
    select: Selector
    by_difference: bool
    explain_usual: Callable[[Standing], str]
    random: Literal["always", "by place", "never"] = "never"
    by_budget: bool = False

    def is_random(self, *, aligned: bool) -> bool:
        """Whether the order of a pool is a random one.

        Args:
            aligned: Whether a place is the same part of the body in every case of the pool.
        """
        return self.random == "always" or (self.random == "by place" and not aligned)

    def explain(self, standing: Standing) -> str:
        """Why a case has its rank; the text follows "Case 3 of 20"."""
        if standing.extreme:
            return ", kept for last: as a whole it differs far more than the pool; its scans may be damaged."
        return self.explain_usual(standing)


def max_md(candidates: Candidates, budget: int, generator: Generator) -> list[str]:
    """Order cases by MaxMD: the largest modality difference first.

    Source: Wang et al. 2025, as reconstructed from its abstract.
    """
    planned(candidates, budget)
    return candidates.named(candidates.falling(candidates.difference))


def diverse_md(candidates: Candidates, budget: int, generator: Generator) -> list[str]:
    """Order cases by DiverseMD: dissimilar cases of large modality difference first.

    The pool is one cluster at first. Each step splits the widest cluster in two and takes a case of the half
    that has none yet. So the first k cases stand for k clusters, for any k, and the order does not depend on
    the budget. Of a cluster, the case of largest difference is taken among the half nearest to the centre, if
    the case as a whole differs less than that of four fifths of the pool.

    Args:
        candidates: Cases of the pool.
        budget: Number of cases that will be labelled.
        generator: Generator of k-means in a pool of more than 4,000 cases.

    Returns:
        Every id, best first.

    Raises:
        ValueError: If the budget is below 1.

    Source: Wang et al. 2025, as reconstructed from its abstract; the nested clusters and the limits are ours.
    """
    pool = candidates.by_id()
    planned(pool, budget)
    tree = cluster_tree(pool.features, generator)
    sound = np.ones(len(pool), dtype=np.bool_)
    if pool.damage is not None:
        sound = pool.damage <= np.quantile(pool.damage, SOUND_SHARE)
    order = [_of_cluster(pool, tree.leaves, sound)]
    taken = np.zeros(len(pool), dtype=np.bool_)
    taken[order[0]] = True
    for start, middle, stop in tree.splits:
        halves = tree.leaves[start:middle], tree.leaves[middle:stop]
        chosen = _of_cluster(pool, halves[int(taken[halves[0]].any())], sound)
        order.append(chosen)
        taken[chosen] = True
    return pool.named(np.array(order, dtype=np.intp))


def cluster_of(candidates: Candidates, count: int, generator: Generator) -> Rows:
    """Cluster of each case when the pool is divided into as many clusters as DiverseMD takes cases.

    Args:
        candidates: Cases of the pool.
        count: Number of clusters.
        generator: Generator in the same state as for `diverse_md`.

    Returns:
        Cluster of each case, shape (N,), in the order of the candidates; 0 for the largest cluster.
    """
    pool = candidates.by_id()
    group = cluster_tree(pool.features, generator).cut(planned(pool, count))
    number = dict(zip(pool.ids, group.tolist(), strict=True))
    return np.array([number[id] for id in candidates.ids], dtype=np.intp)


def _of_cluster(pool: Candidates, rows: Rows, sound: NDArray[np.bool_]) -> int:
    """Row of the case that stands for a cluster; ties break by row."""
    rows = np.sort(rows)
    points = pool.features[rows].astype(np.float64)
    apart = np.linalg.norm(points - points.mean(axis=0), axis=1).astype(np.float32)
    near = np.sort(rows[largest_first(-apart)[: math.ceil(len(rows) / 2)]])
    if sound[near].any():
        near = near[sound[near]]
    return int(near[largest_first(pool.difference[near])[0]])


def _explain_rank(standing: Standing) -> str:
    return f": {standing.differs}."


def _explain_chance(standing: Standing) -> str:
    return " in random order."


def _explain_group(standing: Standing) -> str:
    return ", near the centre of its group of similar cases."


def _explain_strata(standing: Standing) -> str:
    if standing.salient_percentile is None:
        return _PLACES_TELL_NOTHING
    return ", drawn at random from the cases with about as many conspicuous places."


def _explain_representative(standing: Standing) -> str:
    if standing.salient_percentile is None:
        return _PLACES_TELL_NOTHING
    return f": it stands for many similar cases and has {_conspicuous(standing.salient_percentile)}."


def _conspicuous(percentile: float) -> str:
    if percentile in (0.0, 100.0):
        return f"the {'most' if percentile else 'fewest'} conspicuous places of all"
    return f"more conspicuous places than {_percent(percentile)} of the other cases"


def _percent(percentile: float) -> str:
    """A share of the other cases that is neither none nor all of them."""
    return f"{min(99, max(1, round(percentile)))} %"


STRATEGIES: dict[str, Strategy] = {
    strategy.name: strategy
    for strategy in (
        Strategy(
            "mdal", "MaxMD: the largest modality difference first", damage_last(max_md), True, _explain_rank
        ),
        Strategy(
            "diversemd",
            "DiverseMD: diverse cases, in each group the largest modality difference",
            damage_last(diverse_md),
            True,
            _explain_rank,
        ),
        Strategy(
            "representative",
            "Representative: cases that stand for many others and have much to see first, likely damaged "
            "scans last; random where cases show different parts of the body",
            damage_last(representative),
            False,
            _explain_representative,
            random="by place",
        ),
        Strategy(
            "kmeans",
            "k-means centres: the most central case of each group",
            damage_last(k_means_centres),
            False,
            _explain_group,
            by_budget=True,
        ),
        Strategy(
            "stratified",
            "Equally likely within strata of how conspicuous a lesion may be, found without labels",
            damage_last(stratified),
            False,
            _explain_strata,
            random="by place",
        ),
        Strategy(
            "uniform",
            "Every case equally likely",
            damage_last(uniform),
            False,
            _explain_chance,
            random="always",
        ),
    )
}
"""All strategies by name; clients show the first one first."""
