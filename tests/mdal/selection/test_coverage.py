"""How well the first cases of an order stand for the pool, and how many are enough."""

from __future__ import annotations

import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lib.mdal.selection import coverage as module
from lib.mdal.selection.coverage import coverage, plateau, prefixes
from lib.mdal.selection.strategies import STRATEGIES
from tests.support.candidate_pools import five_groups, generator, of


def test_coverage_is_one_less_the_mean_distance_to_the_nearest_chosen_case():
    features = np.random.default_rng(1).standard_normal((30, 3)).astype(np.float32)
    order, at = np.random.default_rng(2).permutation(30), [1, 2, 7, 30]
    apart = np.array([[np.linalg.norm(a - b) for b in features] for a in features])
    naive = [1 - apart[:, order[:k]].min(axis=1).mean() / apart.mean() for k in at]
    assert np.allclose(coverage(features, order, at=at), naive, atol=1e-6)


def test_one_case_at_random_covers_nothing_on_average():
    features = np.random.default_rng(1).standard_normal((30, 3)).astype(np.float32)
    assert np.mean([coverage(features, np.array([i]), at=[1])[0] for i in range(30)]) == pytest.approx(
        0.0, abs=1e-9
    )


@given(
    st.lists(st.lists(st.integers(-3, 3), min_size=2, max_size=2), min_size=1, max_size=25).flatmap(
        lambda points: st.tuples(st.just(points), st.permutations(range(len(points))))
    )
)
@settings(max_examples=50, deadline=None)
def test_coverage_never_falls_and_ends_at_one(drawn):
    points, order = drawn
    curve = coverage(np.array(points, np.float32), np.array(order), at=range(1, len(order) + 1))
    assert (np.diff(curve) >= 0).all()
    assert curve[-1] == 1.0


@pytest.mark.alone
def test_a_large_pool_is_measured_on_a_sample_that_is_the_same_each_time():
    features = np.random.default_rng(1).standard_normal((9_000, 4)).astype(np.float32)
    order, at = np.random.default_rng(2).permutation(9_000), [10, 1_000, 9_000]
    start = time.monotonic()
    curve = coverage(features, order, at=at)
    assert time.monotonic() - start < 10
    assert curve[-1] == 1.0
    assert np.array_equal(curve, coverage(features, order, at=at))
    other = coverage(features, order, at=at, generator=np.random.default_rng(5))
    assert not np.array_equal(curve, other)
    assert np.allclose(curve, other, atol=0.02)


def test_a_sample_gives_nearly_the_coverage_of_the_whole(monkeypatch):
    features = np.random.default_rng(1).standard_normal((1_500, 4)).astype(np.float32)
    order, at = np.random.default_rng(2).permutation(1_500), [10, 100, 1_000]
    whole = coverage(features, order, at=at)
    monkeypatch.setattr(module, "MOST_MEASURED", 300)
    assert np.allclose(coverage(features, order, at=at), whole, atol=0.05)


@pytest.mark.parametrize("at", [[], [0, 1], [2, 2], [3, 1], [1, 6]])
def test_prefixes_that_do_not_rise_within_the_order_are_refused(at):
    with pytest.raises(ValueError, match="at must be rising prefixes from 1 to the 5 cases"):
        coverage(np.zeros((9, 2), np.float32), np.arange(5), at=at)


@pytest.mark.parametrize("name", ["kmeans", "diversemd"])
def test_five_tight_groups_are_covered_by_five_cases(name):
    features = five_groups()
    ids = [f"{i:03d}" for i in range(100)]
    order = np.array(
        [int(id) for id in STRATEGIES[name].select(of(ids, features, np.zeros(100)), 5, generator())]
    )
    at = range(1, 101)
    curve = coverage(features, order, at=at)
    assert curve[4] > 0.98
    assert plateau(curve, at, cases=100) == 5


def test_an_order_that_stays_in_one_group_has_its_plateau_later():
    features = five_groups()
    order = np.argsort(np.arange(100) % 5, kind="stable")  # all of a group before the next
    assert plateau(coverage(features, order, at=range(1, 101)), range(1, 101), cases=100) == 81


def test_the_plateau_is_known_before_the_whole_order_is_measured():
    features, order = five_groups(), np.arange(100)
    assert plateau(coverage(features, order, at=range(1, 11)), range(1, 11), cases=100) == 5


def test_a_case_that_must_cover_more_ends_the_plan_earlier():
    features = five_groups(spread=1.0)
    curve = coverage(features, np.arange(100), at=range(1, 101))
    ends = [plateau(curve, range(1, 101), cases=100, worth=worth) for worth in (0.0, 1.0, 2.0, 50.0)]
    assert ends == sorted(ends, reverse=True)
    assert (ends[0], ends[-1]) == (100, 1)


def test_a_flat_curve_ends_at_its_first_prefix():
    assert plateau(np.ones(3), [4, 8, 9], cases=20) == 4


def test_a_curve_without_its_prefixes_is_refused():
    with pytest.raises(ValueError, match="a value for each prefix; got 2 for 3"):
        plateau(np.zeros(2), [1, 2, 3], cases=9)
    with pytest.raises(ValueError, match="got 0 for 0"):
        plateau(np.zeros(0), [], cases=9)


@pytest.mark.parametrize("count", [1, 2, 99, 100, 101, 1_000_000])
def test_prefixes_rise_from_one_to_the_whole_order(count):
    at = prefixes(count)
    assert (at[0], at[-1]) == (1, count)
    assert len(at) <= 100
    assert (np.diff(at) > 0).all()
