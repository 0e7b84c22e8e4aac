"""Modality difference from PMI."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from lib.mdal.scoring.difference import extreme, modality_difference, pool_patches, standardised


def test_modality_difference_is_the_mean_negated_z_score():
    pmi = np.array([[1.0, 30.0], [2.0, 10.0], [3.0, 20.0]])
    z = (pmi - pmi.mean(axis=0)) / pmi.std(axis=0)
    assert modality_difference(pmi) == pytest.approx(-z.mean(axis=1))


def test_a_pair_with_large_numbers_does_not_rule():
    pmi = np.random.default_rng(0).standard_normal((20, 2))
    assert modality_difference(pmi) == pytest.approx(modality_difference(pmi * [1.0, 1000.0]))


def test_a_difference_is_extreme_far_above_the_pool_whatever_its_scale_and_however_many_are():
    sound = np.random.default_rng(0).standard_normal(90).clip(-2, 2)
    damaged = np.linspace(4.0, 8.0, 10)
    values = np.concatenate([sound, damaged])
    assert np.flatnonzero(extreme(values)).tolist() == list(range(90, 100))
    assert np.array_equal(extreme(100 * values + 7), extreme(values))
    assert not extreme(-values)[90:].any()


def test_no_difference_is_extreme_among_equal_ones():
    assert not extreme(np.ones(5)).any()


def test_a_missing_pair_is_left_out_of_the_mean():
    pmi = np.array([[1.0, np.nan], [2.0, 5.0], [3.0, 7.0]])
    pairs = standardised(pmi)
    assert np.isnan(pairs[0, 1])
    assert modality_difference(pmi)[0] == -pairs[0, 0]


def test_a_case_without_any_pair_is_an_error():
    with pytest.raises(ValueError, match=r"rows \[1\] have none"):
        modality_difference(np.array([[1.0, 2.0], [np.nan, np.nan]]))


def test_pmi_must_be_cases_by_pairs():
    with pytest.raises(ValueError, match=r"must be \(N, P\).*got shape \(3,\)"):
        modality_difference(np.zeros(3))


def test_a_pair_that_does_not_vary_says_nothing():
    assert modality_difference(np.ones((1, 3))).tolist() == [0.0]
    assert modality_difference(np.ones((4, 1))).tolist() == [0.0] * 4


def test_patches_are_pooled_by_the_mean_or_by_the_top_tenth():
    values = torch.arange(40.0).view(2, 20)
    inside = torch.ones(2, 20, dtype=torch.bool)
    inside[1, -1] = False
    assert pool_patches(values, inside).tolist() == [9.5, 29.0]
    assert pool_patches(values, inside, share=0.1).tolist() == [18.5, 37.5]
    assert pool_patches(values, torch.zeros_like(inside)).isnan().all()
    with pytest.raises(ValueError, match="share must be above 0 and at most 1; got 0"):
        pool_patches(values, inside, share=0)
