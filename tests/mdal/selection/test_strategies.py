"""Orders in which a pool is labelled."""

from __future__ import annotations

import time
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lib.mdal.scoring.difference import extreme
from lib.mdal.selection.candidates import Candidates
from lib.mdal.selection.clusters import find_clusters
from lib.mdal.selection.strategies import STRATEGIES, Standing, cluster_of, diverse_md, max_md
from tests.support.candidate_pools import DRAWN, generator, of, pool, rows


def test_every_strategy_has_a_title_and_a_sentence_for_each_standing():
    for name, strategy in STRATEGIES.items():
        assert (strategy.name, len(strategy.title) > 15) == (name, True)
        for standing in (
            Standing(0.0),
            Standing(50.0, "CT/PET", extreme=True),
            Standing(100.0, "CT/PET", salient_percentile=3),
        ):
            assert strategy.explain(standing).endswith(".")


@pytest.mark.parametrize("name", STRATEGIES)
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
    order = STRATEGIES[name].select(given_pool, budget, generator())
    assert sorted(order) == ids
    assert STRATEGIES[name].select(given_pool.take(np.array(places)), budget, generator()) == order


@pytest.mark.parametrize("name", STRATEGIES)
def test_the_same_seed_gives_the_same_order_whatever_the_order_of_the_pool(name):
    candidates = pool(60)
    first = STRATEGIES[name].select(candidates, 6, generator())
    assert first == STRATEGIES[name].select(candidates.take(np.arange(60)[::-1]), 6, generator())


@pytest.mark.parametrize("name", STRATEGIES)
def test_a_budget_below_one_is_refused(name):
    with pytest.raises(ValueError, match="budget must be at least 1 case; got 0"):
        STRATEGIES[name].select(pool(3), 0, generator())


def test_a_selector_names_the_column_that_it_lacks():
    with pytest.raises(ValueError, match="needs the column lesion_proxy; the candidates have difference"):
        STRATEGIES["stratified"].select(of("ab", [0, 1], [0.0, 1.0]), 1, generator())


@pytest.mark.parametrize("name", sorted(STRATEGIES.keys() - {"stratified"}))
def test_the_other_selectors_need_features_and_difference_only(name):
    full = pool()
    bare = Candidates(full.ids, full.features, full.difference)
    assert STRATEGIES[name].select(bare, 6, generator()) == STRATEGIES[name].select(full, 6, generator())


def test_max_md_takes_the_largest_first_and_ties_by_id():
    candidates = of("bdac", [0, 0, 0, 0], [1.0, 3.0, 1.0, 2.0])
    assert max_md(candidates, 2, generator()) == ["d", "c", "a", "b"]


def test_a_planted_outlier_of_modality_difference_comes_first():
    candidates = pool()
    candidates.difference[17] = 9.0
    assert max_md(candidates, 6, generator())[0] == "c00017"


@pytest.mark.parametrize("name", STRATEGIES)
def test_likely_damaged_cases_come_last_the_most_extreme_at_the_very_end(name):
    damage = np.random.default_rng(1).standard_normal(200)
    damage[[3, 50, 120]] = 9.0, 12.0, 10.0
    candidates = replace(pool(200), damage=damage)
    order = rows(STRATEGIES[name].select(candidates, 20, generator()))
    suspects = extreme(damage)
    assert suspects[[3, 50, 120]].all()
    assert order[-3:] == [3, 120, 50]
    assert set(order[-suspects.sum() :]) == set(np.flatnonzero(suspects))
    assert rows(max_md(candidates, 20, generator())) != rows(
        STRATEGIES["mdal"].select(candidates, 20, generator())
    )


def test_diverse_md_takes_the_largest_of_the_inner_half_of_each_cluster():
    candidates = of("abcdefg", [0, 0.1, 0.2, 5, 9, 9.2, 50], [5.0, 6.0, 4.0, 9.0, 1.0, 2.0, 0.0])
    order = diverse_md(candidates, 3, generator())
    assert order[0] == "d"  # of a, b, c and d, e, f, g the four nearest to the mean of 10.5
    assert order[1] == "g"
    assert order[2] in "ab"
    assert diverse_md(candidates, 6, generator()) == order


def test_diverse_md_takes_a_case_that_differs_as_a_whole_only_where_no_other_is_near_the_centre():
    candidates = replace(pool(40), damage=np.zeros(40))
    candidates.difference[7], candidates.damage[7] = 9.0, 1.0
    candidates.features[7] = candidates.features.mean(axis=0)
    assert diverse_md(candidates, 5, generator())[0] != "c00007"
    assert diverse_md(replace(candidates, damage=None), 5, generator())[0] == "c00007"


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("budget", [5, 10, 20])
def test_the_first_cases_of_a_diverse_md_plan_cover_as_many_clusters_as_a_plan_for_so_few(budget, seed):
    candidates = pool(120, seed=seed)
    long, short = (diverse_md(candidates, count, generator())[:budget] for count in (35, budget))
    group = find_clusters(candidates.features, budget, generator()).group
    covered, at_best = (len(set(group[rows(order)].tolist())) for order in (long, short))
    assert covered >= 0.8 * at_best


@pytest.mark.parametrize("name", ["diversemd", "kmeans"])
@pytest.mark.parametrize("seed", range(5))
def test_duplicates_are_not_both_chosen_early(name, seed):
    candidates = pool(40, seed=seed)
    candidates.features[1], candidates.difference[:2] = candidates.features[0] + 1e-4, 10.0
    assert max_md(candidates, 5, generator())[:2] == ["c00000", "c00001"]
    assert not {"c00000", "c00001"} <= set(STRATEGIES[name].select(candidates, 5, generator())[:5])


@pytest.mark.parametrize("name", ["diversemd", "kmeans"])
def test_a_budget_of_the_whole_pool_still_spreads(name):
    centres = np.repeat(np.eye(4, dtype=np.float32) * 100, 5, axis=0)
    features = centres + np.random.default_rng(0).standard_normal((20, 4)).astype(np.float32)
    difference = np.repeat([4.0, 3.0, 2.0, 1.0], 5) + np.linspace(0, 0.1, 20)
    candidates = of([f"{i:02d}" for i in range(20)], features, difference)
    first = STRATEGIES[name].select(candidates, 20, generator())[:4]
    assert {int(id) // 5 for id in first} == {0, 1, 2, 3}
    assert {int(id) // 5 for id in max_md(candidates, 20, generator())[:4]} == {0}


def test_identical_features_make_a_whole_order():
    candidates = replace(pool(), features=np.ones((30, 4), dtype=np.float32))
    assert len(set(diverse_md(candidates, 8, generator()))) == 30


@pytest.mark.parametrize("count", [2, 8, 20])
def test_the_first_cases_of_diverse_md_are_one_of_each_cluster(count):
    candidates = pool(50).take(np.random.default_rng(1).permutation(50))
    cluster = dict(zip(candidates.ids, cluster_of(candidates, count, generator()).tolist(), strict=True))
    assert sorted(cluster[id] for id in diverse_md(candidates, 8, generator())[:count]) == list(range(count))


@pytest.mark.alone
def test_ten_thousand_cases_take_seconds():
    candidates, start = pool(10_000, width=32), time.monotonic()
    assert len(diverse_md(candidates, 200, generator())) == 10_000
    assert time.monotonic() - start < 20


@pytest.mark.slow
@pytest.mark.parametrize("name", STRATEGIES)
def test_a_plan_longer_than_two_thousand_cases_of_a_large_pool_is_still_a_whole_order(name):
    candidates = pool(60_000, width=2)
    assert sorted(STRATEGIES[name].select(candidates, 12_000, generator())) == candidates.ids
