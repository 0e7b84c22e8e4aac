"""Intervals of means and of rank correlations."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import spearmanr

from benchmarks.common.paired import mean_interval, spearman_interval


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
