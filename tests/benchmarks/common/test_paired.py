"""Intervals of means and of rank correlations."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import spearmanr

from benchmarks.common.paired import difference, holm, mean_interval, spearman_interval


def test_a_constant_difference_has_no_width_and_a_noisy_one_holds_its_mean() -> None:
    constant = mean_interval(np.full((3, 14), 0.1), draws=100)
    assert (constant.low, constant.high) == pytest.approx((0.1, 0.1))
    noisy = mean_interval(np.random.default_rng(0).normal(size=(3, 14)), draws=1000)
    assert noisy.low < noisy.mean < noisy.high
    with_patients = np.repeat(np.random.default_rng(0).normal(size=(1, 14)), 3, axis=0)
    few = mean_interval(with_patients, draws=1000)  # three seeds that agree are not 42 patients
    assert few.high - few.low > 0.5


def test_the_rank_correlation_is_scipys_mean_over_the_seeds() -> None:
    random = np.random.default_rng(0)
    first = random.normal(size=(2, 5, 3))
    second = (first + random.normal(size=first.shape)).round(1)
    expected = np.mean([spearmanr(a.ravel(), b.ravel())[0] for a, b in zip(first, second, strict=True)])
    assert spearman_interval(first, second, draws=50).mean == pytest.approx(expected)
    assert np.isnan(spearman_interval(first, np.zeros_like(second), draws=50).mean)


def test_a_paired_difference_does_not_see_that_patients_differ() -> None:
    random = np.random.default_rng(0)
    patients = random.normal(0.5, 0.3, 20)
    first, second = (patients + random.normal(level, 0.01, (6, 20)) for level in (0.05, 0.0))
    found = difference(first, second, draws=2_000)
    assert found.interval.mean == pytest.approx(0.05, abs=0.01)
    assert 0.03 < found.interval.low < found.interval.high < 0.07  # unpaired it would be 0.2 wide
    assert found.p < 0.01


def test_a_difference_of_nothing_has_a_p_that_is_not_small() -> None:
    values = np.random.default_rng(0).normal(size=(4, 10))
    found = difference(values, values, draws=2_000)
    assert found.interval.mean == 0
    assert found.interval.low < 0 < found.interval.high
    assert found.p > 0.5


@pytest.mark.parametrize("seeds", [3, 15])
def test_the_interval_of_a_difference_covers_the_truth_about_as_often_as_it_says(seeds: int) -> None:
    random, covered, draws = np.random.default_rng(0), 0, 300
    for draw in range(draws):
        patients = random.normal(0, 1, 30)
        first, second = (patients + random.normal(0, 0.2, (count, 1)) for count in (seeds, 15))
        first, second = (each + random.normal(0, 0.3, each.shape) for each in (first, second))
        interval = difference(first, second, draws=400, seed=draw).interval
        covered += interval.low <= 0 <= interval.high
    assert 0.9 <= covered / draws <= 0.99  # three seeds without their correction: 0.893


def test_holm_multiplies_the_smallest_p_by_all_and_never_falls() -> None:
    assert holm({"a": 0.01, "b": 0.04, "c": 0.03}) == pytest.approx({"a": 0.03, "b": 0.06, "c": 0.06})
    assert holm({"a": 0.6, "b": 0.7}) == {"a": 1.0, "b": 1.0}
