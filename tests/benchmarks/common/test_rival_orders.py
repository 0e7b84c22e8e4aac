"""Orders that the product no longer offers."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.common.rival_orders import (
    ORDERS,
    RIVAL_ORDERS,
    TITLES,
    diverse_md_by_strata,
    diverse_md_of_the_top,
    farthest_point,
    k_means_then_farthest,
    min_md,
)
from lib.mdal.selection.baselines import k_means_centres
from lib.mdal.selection.candidates import Candidates
from lib.mdal.selection.coverage import coverage, plateau
from lib.mdal.selection.strategies import max_md
from tests.support.candidate_pools import DRAWN, five_groups, generator, of, pool, rows


def test_every_order_has_a_title():
    assert ORDERS.keys() <= TITLES.keys()


@pytest.mark.parametrize("name", RIVAL_ORDERS)
@given(
    DRAWN,
    st.integers(1, 50),
)
@settings(max_examples=25, deadline=None)
def test_every_order_holds_the_whole_pool_once_whatever_its_order_and_ties(name, drawn, budget):
    features, values, places = drawn
    column = np.array(values, dtype=np.float64)
    ids = [f"c{i:02d}" for i in range(len(values))]
    given_pool = Candidates(ids, np.array(features, np.float32), column, column)
    order = RIVAL_ORDERS[name](given_pool, budget, generator())
    assert sorted(order) == ids
    assert RIVAL_ORDERS[name](given_pool.take(np.array(places)), budget, generator()) == order


@pytest.mark.parametrize("name", RIVAL_ORDERS)
def test_the_same_seed_gives_the_same_order_whatever_the_order_of_the_pool(name):
    candidates = pool(60)
    first = RIVAL_ORDERS[name](candidates, 6, generator())
    assert first == RIVAL_ORDERS[name](candidates.take(np.arange(60)[::-1]), 6, generator())


@pytest.mark.parametrize("name", RIVAL_ORDERS)
def test_a_budget_below_one_is_refused(name):
    with pytest.raises(ValueError, match="budget must be at least 1 case; got 0"):
        RIVAL_ORDERS[name](pool(3), 0, generator())


@pytest.mark.parametrize("name", RIVAL_ORDERS)
def test_the_other_selectors_need_features_and_difference_only(name):
    full = pool()
    bare = Candidates(full.ids, full.features, full.difference)
    assert RIVAL_ORDERS[name](bare, 6, generator()) == RIVAL_ORDERS[name](full, 6, generator())


def test_min_md_takes_the_smallest_first_and_ties_by_id():
    candidates = of("bdac", [0, 0, 0, 0], [1.0, 3.0, 1.0, 2.0])
    assert min_md(candidates, 2, generator()) == ["a", "b", "c", "d"]


@pytest.mark.parametrize("name", ["diversemd_top", "diversemd_strata"])
def test_a_planted_outlier_of_modality_difference_comes_first(name):
    candidates = pool()
    candidates.difference[17] = 9.0
    assert RIVAL_ORDERS[name](candidates, 6, generator())[0] == "c00017"


def test_diverse_md_of_the_top_leaves_out_what_is_unlike_but_of_small_difference():
    features = [0, 0.1, 5, 5.1, 9, 9.1, 50, 60]
    candidates = of("abcdefgh", features, [8.0, 7.0, 6.0, 5.0, 4.0, 3.0, 2.0, 1.0])
    order = diverse_md_of_the_top(candidates, 2, generator())
    assert order == ["a", "f", "b", "c", "d", "e", "g", "h"]


def test_diverse_md_by_strata_takes_from_every_fifth_in_turn():
    candidates = of([f"{i}" for i in range(10)], np.zeros(10), np.arange(10.0))
    order = diverse_md_by_strata(candidates, 5, generator())
    assert order == ["9", "7", "5", "3", "1", "8", "6", "4", "2", "0"]


def test_diverse_md_by_strata_spreads_within_a_fifth():
    features, difference = np.zeros(50), np.linspace(1.0, 2.0, 50)
    features[40] = 90.0  # unlike the rest of the largest fifth, and the smallest difference in it
    order = diverse_md_by_strata(of([f"{i:02}" for i in range(50)], features, difference), 10, generator())
    assert [id for id in order[:10] if id >= "40"] == ["49", "40"]


@pytest.mark.parametrize("name", sorted(RIVAL_ORDERS.keys() - {"minmd", "mdal_unguarded"}))
@pytest.mark.parametrize("seed", range(5))
def test_duplicates_are_not_both_chosen_early(name, seed):
    candidates = pool(40, seed=seed)
    candidates.features[1], candidates.difference[:2] = candidates.features[0] + 1e-4, 10.0
    assert max_md(candidates, 5, generator())[:2] == ["c00000", "c00001"]
    assert not {"c00000", "c00001"} <= set(RIVAL_ORDERS[name](candidates, 5, generator())[:5])


@pytest.mark.parametrize("name", ["farthest", "kmeans_farthest", "typiclust", "density"])
def test_a_budget_of_the_whole_pool_still_spreads(name):
    centres = np.repeat(np.eye(4, dtype=np.float32) * 100, 5, axis=0)
    features = centres + np.random.default_rng(0).standard_normal((20, 4)).astype(np.float32)
    difference = np.repeat([4.0, 3.0, 2.0, 1.0], 5) + np.linspace(0, 0.1, 20)
    candidates = of([f"{i:02d}" for i in range(20)], features, difference)
    first = RIVAL_ORDERS[name](candidates, 20, generator())[:4]
    assert {int(id) // 5 for id in first} == {0, 1, 2, 3}
    assert {int(id) // 5 for id in max_md(candidates, 20, generator())[:4]} == {0}


@pytest.mark.slow
@pytest.mark.parametrize("name", RIVAL_ORDERS)
def test_a_plan_longer_than_two_thousand_cases_of_a_large_pool_is_still_a_whole_order(name):
    candidates = pool(60_000, width=2)
    assert sorted(RIVAL_ORDERS[name](candidates, 12_000, generator())) == candidates.ids


@pytest.mark.parametrize("seed", range(5))
def test_farthest_point_is_greedy_k_centre_from_the_most_central_case(seed):
    candidates = pool(40, seed=seed)
    points = candidates.features.astype(np.float64)

    def apart(i, j):
        return np.linalg.norm(points[i] - points[j])

    chosen = [int(np.argmin([np.linalg.norm(x - points.mean(axis=0)) for x in points]))]
    while len(chosen) < 9:
        left = [i for i in range(40) if i not in chosen]
        chosen.append(max(left, key=lambda i: min(apart(i, j) for j in chosen)))
    left = [i for i in range(40) if i not in chosen]
    left.sort(key=lambda i: -min(apart(i, j) for j in chosen))
    assert rows(farthest_point(candidates, 9, generator())) == chosen + left


def test_contrastive_annotation_spends_half_on_centres_and_half_on_the_farthest():
    features = [0, 0.1, 0.2, 10, 10.1, 10.2, 10.3, 5, -4]
    candidates = of("abcdefghi", features, np.zeros(9))
    order = k_means_then_farthest(candidates, 4, generator())
    assert set(order[:2]) <= set("abcdefg")
    assert set(order[2:4]) == {"h", "i"}
    half = k_means_centres(candidates, 2, generator())[:2]
    assert order[:2] == half


@pytest.mark.parametrize("name", ["farthest", "typiclust", "density", "probcover"])
def test_five_tight_groups_are_covered_by_five_cases(name):
    features = five_groups()
    ids = [f"{i:03d}" for i in range(100)]
    order = np.array([int(id) for id in RIVAL_ORDERS[name](of(ids, features, np.zeros(100)), 5, generator())])
    at = range(1, 101)
    curve = coverage(features, order, at=at)
    assert curve[4] > 0.98
    assert plateau(curve, at, cases=100) == 5
