"""The statistics of the evidence, against what is known of them."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import ttest_1samp

from benchmarks.common.paired import over_splits
from benchmarks.label_efficiency.evidence.statistics import area, labels_needed, slope


def test_the_area_is_the_mean_height_over_doublings_of_the_budget() -> None:
    flat = np.full((2, 4, 3), 0.5)
    assert area(flat, (4, 8, 12, 20)) == pytest.approx(np.full((2, 3), 0.5))
    rising = np.array([0.0, 1.0, 2.0])[None, :, None]
    assert area(rising, (2, 4, 8)) == pytest.approx(1.0)
    late = np.array([0.0, 0.0, 1.0])[None, :, None]
    for budgets in ((2, 4, 8), (5, 10, 20)):
        assert area(late, budgets) == pytest.approx(0.25)


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
