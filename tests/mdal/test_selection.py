"""Orders in which a pool is labelled."""

from __future__ import annotations

import time

import numpy as np
import pytest

from lib.mdal.selection import SELECTORS, diverse_md, max_md, uniform


def pool(n=30, *, seed=0):
    random = np.random.default_rng(seed)
    return (
        random.standard_normal((n, 4)).astype(np.float32),
        random.standard_normal(n),
        [f"c{i:05d}" for i in range(n)],
    )


def generator():
    return np.random.default_rng(7)


@pytest.mark.parametrize("name", SELECTORS)
@pytest.mark.parametrize(("n", "budget"), [(1, 1), (1, 5), (7, 3), (7, 7), (7, 100), (50, 1)])
def test_every_order_holds_the_whole_pool_once(name, n, budget):
    features, scores, ids = pool(n)
    assert sorted(SELECTORS[name](features, scores, ids, budget, generator())) == ids


@pytest.mark.parametrize("name", SELECTORS)
def test_the_same_seed_gives_the_same_order_whatever_the_order_of_the_pool(name):
    features, scores, ids = pool()
    turned = np.arange(30)[::-1]
    first = SELECTORS[name](features, scores, ids, 6, generator())
    again = SELECTORS[name](features[turned], scores[turned], [ids[i] for i in turned], 6, generator())
    assert first == again


def test_max_md_takes_the_largest_first_and_ties_by_id():
    ids, scores = ["b", "d", "a", "c"], np.array([1.0, 3.0, 1.0, 2.0])
    assert max_md(np.zeros((4, 1), np.float32), scores, ids, 2, generator()) == ["d", "c", "a", "b"]


def test_diverse_md_takes_the_largest_of_every_cluster_then_the_second():
    features = np.array([[0], [0.1], [0.2], [9], [9.1], [50]], dtype=np.float32)
    scores = np.array([5.0, 6.0, 4.0, 1.0, 2.0, 0.0])
    order = diverse_md(features, scores, list("abcdef"), 3, generator())
    assert order == ["b", "e", "f", "a", "d", "c"]


@pytest.mark.parametrize("seed", range(5))
def test_diverse_md_does_not_spend_a_small_budget_on_duplicates(seed):
    features, scores, ids = pool(40, seed=seed)
    features[1], scores[:2] = features[0] + 1e-4, 10.0
    assert max_md(features, scores, ids, 5, generator())[:2] == ids[:2]
    assert not set(ids[:2]) <= set(diverse_md(features, scores, ids, 5, generator())[:5])


def test_a_budget_of_the_whole_pool_still_spreads():
    centres = np.repeat(np.eye(4, dtype=np.float32) * 100, 5, axis=0)
    features = centres + np.random.default_rng(0).standard_normal((20, 4)).astype(np.float32)
    scores = np.repeat([4.0, 3.0, 2.0, 1.0], 5) + np.linspace(0, 0.1, 20)
    ids = [f"{i:02d}" for i in range(20)]
    first = diverse_md(features, scores, ids, 20, generator())[:4]
    assert {int(id) // 5 for id in first} == {0, 1, 2, 3}
    assert {int(id) // 5 for id in max_md(features, scores, ids, 20, generator())[:4]} == {0}


def test_identical_features_leave_the_modality_difference_to_decide():
    _, scores, ids = pool()
    features = np.ones((30, 4), dtype=np.float32)
    assert diverse_md(features, scores, ids, 8, generator()) == max_md(features, scores, ids, 8, generator())


def test_uniform_pays_no_heed_to_the_score():
    features, scores, ids = pool(200)
    order = uniform(features, np.arange(200.0), ids, 10, generator())
    assert order != ids
    assert order == uniform(features, -np.arange(200.0), ids, 10, generator())
    assert order != uniform(features, scores, ids, 10, np.random.default_rng(8))


def test_ten_thousand_cases_take_seconds():
    random = np.random.default_rng(0)
    features, scores = random.standard_normal((10_000, 32)).astype(np.float32), random.standard_normal(10_000)
    ids, start = [f"{i}" for i in range(10_000)], time.monotonic()
    assert len(diverse_md(features, scores, ids, 200, generator())) == 10_000
    assert time.monotonic() - start < 20


@pytest.mark.parametrize("name", SELECTORS)
def test_what_cannot_be_ordered_is_refused(name):
    features, scores, ids = pool(3)
    select = SELECTORS[name]
    with pytest.raises(ValueError, match="must describe the same one or more cases; got 3, 2 and 3"):
        select(features, scores[:2], ids, 1, generator())
    with pytest.raises(ValueError, match="same one or more cases; got 0, 0 and 0"):
        select(features[:0], scores[:0], [], 1, generator())
    with pytest.raises(ValueError, match="ids must be unique; 1 of 3"):
        select(features, scores, ["a", "a", "b"], 1, generator())
    with pytest.raises(ValueError, match="budget must be at least 1 case; got 0"):
        select(features, scores, ids, 0, generator())
    with pytest.raises(ValueError, match="must be finite"):
        select(features, np.array([0.0, np.nan, 1.0]), ids, 1, generator())
