"""Orders that begin with cases that stand for many others."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial.distance import cdist

from benchmarks.common import rival_orders as module
from benchmarks.common.rival_orders import MOST_KINDS, NEIGHBOURS, density, probcover, typiclust
from lib.mdal.selection.clusters import find_clusters
from tests.support.candidate_pools import generator, pool, rows


def in_clusters(candidates, budget):
    """The rows of each cluster that a selector finds, from the largest on."""
    return [r.tolist() for r in find_clusters(candidates.features, budget, generator()).members()]


def by_turns(groups, value):
    ranked = [sorted(members, key=lambda row: -value[row]) for members in groups]
    longest = max(len(members) for members in ranked)
    return [members[turn] for turn in range(longest) for members in ranked if turn < len(members)]


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("budget", [1, 3, 12])
def test_typiclust_is_the_paper_s_typicality_among_the_members_that_are_left(seed, budget):
    candidates = pool(60, seed=seed)
    every = in_clusters(candidates, budget)
    groups, chosen = [list(members) for members in every if len(members) > 5] or every, []
    while len(chosen) < budget:
        members = groups[len(chosen) % len(groups)]
        points = {i: candidates.features[i].astype(float) for i in members}
        nearest = {
            i: sorted(np.linalg.norm(points[i] - points[j]) for j in members if j != i)[
                : min(NEIGHBOURS, len(members) // 2)
            ]
            for i in members
        }
        chosen.append(max(members, key=lambda i: 1 / (np.mean(nearest[i]) + 1e-5) if nearest[i] else 0.0))
        members.remove(chosen[-1])
    assert rows(typiclust(candidates, budget, generator()))[:budget] == chosen


def test_typiclust_leaves_small_groups_out_unless_all_are_small():
    candidates = pool(40, width=3)
    candidates.features[:] = candidates.features * 0.1
    candidates.features[:5] += 50.0  # five cases of their own kind
    assert not set(range(5)) & set(rows(typiclust(candidates, 2, generator()))[:2])
    few = pool(8, width=3)
    assert len(set(rows(typiclust(few, 4, generator()))[:4])) == 4


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("budget", [1, 3, 12])
def test_density_is_the_mean_cosine_with_the_others_of_the_cluster(seed, budget):
    candidates = pool(60, seed=seed)
    groups, value = in_clusters(candidates, budget), np.zeros(60)
    unit = candidates.features.astype(float)
    unit /= np.linalg.norm(unit, axis=1, keepdims=True)
    for members in groups:
        for i in members:
            value[i] = round(np.mean([unit[i] @ unit[j] for j in members if j != i] or [0.0]), 9)
    assert rows(density(candidates, budget, generator())) == by_turns(groups, value)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("budget", [2, 5, 25])
def test_probcover_is_the_greedy_cover_with_the_largest_pure_balls(seed, budget):
    n = 60
    candidates = pool(n, seed=seed, width=2)
    points = candidates.features.astype(float)
    kind = find_clusters(candidates.features, min(budget, MOST_KINDS), generator()).group
    apart = np.array([[np.linalg.norm(a - b) for b in points] for a in points])

    def purity(delta):
        return np.mean([(kind[apart[i] < delta] == kind[i]).all() for i in range(n)])

    delta = max(radius for radius in np.unique(apart) if purity(radius) >= 0.95)
    ball = [{j for j in range(n) if apart[i, j] < delta} for i in range(n)]
    chosen, open_cases = [], set(range(n))
    while len(chosen) < budget:
        chosen.append(max((i for i in range(n) if i not in chosen), key=lambda i: len(ball[i] & open_cases)))
        open_cases = open_cases - ball[chosen[-1]] or set(range(n))
    rest = sorted((i for i in range(n) if i not in chosen), key=lambda i: -len(ball[i]))
    assert rows(probcover(candidates, budget, generator())) == chosen + rest


@pytest.mark.parametrize("select", [typiclust, density, probcover])
def test_planted_groups_each_give_a_case_before_any_gives_two_and_an_outlier_waits(select):
    random = np.random.default_rng(0)
    truth = np.repeat(np.arange(4), [40, 30, 20, 10])
    candidates = pool(100)
    candidates.features[:] = (20.0 * np.eye(4)[truth] + random.standard_normal((100, 4))).astype(np.float32)
    candidates.features[5] += 5.0  # still of the first group, at its rim
    order = rows(select(candidates, 4, generator()))
    assert sorted(truth[order[:4]]) == [0, 1, 2, 3]
    if select is typiclust:  # a cosine does not see how far out a case is, nor a ball where in it a case lies
        assert order.index(5) > 50


@pytest.mark.parametrize("select", [typiclust, density, probcover])
def test_alike_cases_come_by_id(select):
    candidates = pool(30, width=3)
    candidates.features[:] = 1.25
    assert rows(select(candidates, 4, generator())) == list(range(30))


def test_a_sample_of_a_large_cluster_ranks_typicality_much_as_the_whole():
    candidates = pool(3000, width=3)  # three times the members that are compared
    apart = np.sort(cdist(candidates.features, candidates.features), axis=1)[:, 1 : NEIGHBOURS + 1]
    whole = np.argsort(apart.mean(axis=1), kind="stable").tolist()
    part = rows(typiclust(candidates, 1, generator()))
    assert part != whole
    assert len(set(part[:500]) & set(whole[:500])) > 300


def test_probcover_of_a_sample_still_covers_the_planted_groups_and_orders_every_case(monkeypatch):
    monkeypatch.setattr(module, "MOST_COVERED", 50)
    truth = np.arange(300) % 3
    candidates = pool(300, width=3)
    candidates.features[:] = candidates.features * 0.1 + 10 * np.eye(3, dtype=np.float32)[truth]
    order = rows(probcover(candidates, 3, generator()))
    assert sorted(truth[order[:3]]) == [0, 1, 2]
    assert sorted(order) == list(range(300))
