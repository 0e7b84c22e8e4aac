"""The statistics of the evidence, against what is known of them."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import ttest_1samp

from benchmarks.label_efficiency.evidence.statistics import (
    area,
    difference,
    holm,
    labels_needed,
    over_splits,
    slope,
)


def test_the_area_is_the_mean_height_over_doublings_of_the_budget() -> None:
    flat = np.full((2, 4, 3), 0.5)
    assert area(flat, (4, 8, 12, 20)) == pytest.approx(np.full((2, 3), 0.5))
    rising = np.array([0.0, 1.0, 2.0])[None, :, None]
    assert area(rising, (2, 4, 8)) == pytest.approx(1.0)
    late = np.array([0.0, 0.0, 1.0])[None, :, None]
    for budgets in ((2, 4, 8), (5, 10, 20)):
        assert area(late, budgets) == pytest.approx(0.25)


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


@pytest.mark.parametrize("overlap", [0.0, 0.5])
def test_divisions_that_share_patients_are_worth_less_than_new_pools(overlap: float) -> None:
    values = np.array([0.02, 0.05, 0.03, 0.06, 0.04])
    found = over_splits(values, overlap=overlap)
    half = (found.interval.high - found.interval.low) / 2
    assert found.interval.mean == pytest.approx(0.04)
    assert half == pytest.approx(2.776 * values.std(ddof=1) * math.sqrt(0.2 + overlap), rel=1e-3)
    if not overlap:
        assert found.p == pytest.approx(ttest_1samp(values, 0.0).pvalue)
    else:
        assert found.p > over_splits(values, overlap=0.0).p


def test_holm_multiplies_the_smallest_p_by_all_and_never_falls() -> None:
    assert holm({"a": 0.01, "b": 0.04, "c": 0.03}) == pytest.approx({"a": 0.03, "b": 0.06, "c": 0.06})
    assert holm({"a": 0.6, "b": 0.7}) == {"a": 1.0, "b": 1.0}


def test_labels_are_read_off_straight_lines_between_the_budgets() -> None:
    assert labels_needed((4, 8, 12), (0.4, 0.5, 0.6), 0.55) == pytest.approx(10)
    assert labels_needed((4, 8, 12), (0.4, 0.5, 0.6), 0.3) == 4
    assert labels_needed((4, 8, 12), (0.4, 0.5, 0.6), 0.7) == math.inf
    assert labels_needed((4, 8, 12), (0.4, 0.6, 0.5), 0.55) == pytest.approx(7)


def test_the_slope_is_not_that_of_what_is_controlled() -> None:
    random = np.random.default_rng(0)
    volume = random.normal(size=200)
    difference_of_subset = volume + random.normal(size=200)
    outcome = 0.5 + 0.1 * volume + 0.001 * random.normal(size=200)
    found = slope(outcome, difference_of_subset, volume)
    assert found is not None
    assert abs(found.value) < 0.001
    assert found.low < 0 < found.high
    direct = slope(outcome + 0.02 * difference_of_subset, difference_of_subset, volume)
    assert direct is not None
    assert direct.value == pytest.approx(0.02 * difference_of_subset.std(), abs=0.001)
    assert direct.p < 1e-6


def test_a_damaged_case_or_another_division_is_not_taken_for_the_difference() -> None:
    random = np.random.default_rng(0)
    damaged, split = random.integers(0, 3, 90).astype(float), np.repeat([0.0, 1.0], 45)
    md = damaged + split + random.normal(size=90)
    outcome = 0.5 - 0.1 * damaged - 0.2 * split + 0.001 * random.normal(size=90)
    naive, found = slope(outcome, md), slope(outcome, md, damaged, split, np.zeros(90))
    assert naive is not None
    assert found is not None
    assert abs(naive.value) > 0.01
    assert abs(found.value) < 0.001


def test_too_few_subsets_or_none_that_differ_give_no_slope() -> None:
    values = np.arange(4.0)
    assert slope(values, values, values[::-1].copy()) is None
    assert slope(np.arange(9.0), np.zeros(9), np.arange(9.0)) is None
