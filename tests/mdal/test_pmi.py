"""PMI against worlds whose truth is known, and never in sample."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr

from lib.mdal.pmi import HeldOut, critic_pmi, gaussian_pmi, out_of_fold_pmi, standardise_folds


def gaussian_world(n=300, d=8, rho=0.7, seed=0):
    """Correlated pairs whose PMI is known in closed form, sum over the d independent coordinates."""
    random = np.random.default_rng(seed)
    x = random.standard_normal((n, d))
    y = rho * x + np.sqrt(1 - rho**2) * random.standard_normal((n, d))
    truth = -0.5 * d * np.log(1 - rho**2) - (
        (rho**2 * (x**2 + y**2) - 2 * rho * x * y) / (2 * (1 - rho**2))
    ).sum(axis=1)
    rotation = np.linalg.qr(random.standard_normal((d, d)))[0]
    return x, y @ rotation, truth


def fit_gaussian(x, y):
    def fit(train):
        score = gaussian_pmi(x[train], y[train], components=x.shape[1])
        return lambda rows: score(x[rows], y[rows])

    return fit


def test_out_of_fold_gaussian_pmi_follows_the_truth():
    x, y, truth = gaussian_world()
    found, fold = out_of_fold_pmi(fit_gaussian(x, y), np.arange(300), folds=5, seed=0)
    assert spearmanr(found, truth).statistic >= 0.75
    assert found.mean() == pytest.approx(truth.mean(), abs=1.0)  # nats
    assert np.bincount(fold).tolist() == [60] * 5


def test_gaussian_pmi_is_the_closed_form_when_the_covariance_is_known():
    x, y, truth = gaussian_world(n=60_000, d=2)
    found = gaussian_pmi(x, y, components=2)(x[:200], y[:200])
    np.testing.assert_allclose(found, truth[:200], atol=0.1)


def test_independent_modalities_share_nothing():
    random = np.random.default_rng(0)
    x, y = random.standard_normal((2, 4000, 4))
    assert gaussian_pmi(x, y)(x[:500], y[:500]).mean() == pytest.approx(0.0, abs=0.02)


def test_a_swapped_counterpart_lowers_pmi():
    x, y, _ = gaussian_world()
    y[[0, 1]] = y[[1, 0]]
    found, _ = out_of_fold_pmi(fit_gaussian(x, y), np.arange(300), folds=5, seed=0)
    assert (found[:2] < np.quantile(found, 0.1)).all()


def test_gaussian_pmi_needs_three_common_cases():
    with pytest.raises(ValueError, match="same 3 or more cases; got 2 and 2 rows"):
        gaussian_pmi(np.zeros((2, 4)), np.zeros((2, 4)))


def test_critic_pmi_is_the_critic_less_log_mean_exp_of_other_patients():
    critic = torch.randn(2, 4, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    groups, valid = torch.tensor([0, 0, 1, 2]), torch.tensor([[True] * 4, [True, True, True, False]])
    others = [
        critic[p, i, j].exp()
        for p in range(2)
        for i in range(4)
        for j in range(4)
        if groups[i] != groups[j] and valid[p, i] and valid[p, j]
    ]
    constant = torch.stack(others).mean().log()
    found = critic_pmi(critic, groups=groups, valid=valid)
    torch.testing.assert_close(found[0], critic[0].diagonal() - constant)
    assert found[1, 3].isnan()


def test_critic_pmi_recovers_the_truth_from_the_optimal_critic_and_does_not_saturate():
    random = np.random.default_rng(1)
    x = random.standard_normal((2000, 1))
    y = 0.8 * x + 0.6 * random.standard_normal(x.shape)
    ratio = -0.5 * np.log(0.36) - (0.64 * (x**2 + y.T**2) - 1.6 * x * y.T) / 0.72  # PMI of every pair
    found = critic_pmi(torch.from_numpy(ratio + 5.0))
    np.testing.assert_allclose(found, np.diag(ratio), atol=0.1)
    certain = critic_pmi(torch.eye(4, dtype=torch.float64) * 50)
    assert (certain > 10 * np.log(4)).all()


def test_critic_pmi_of_a_single_patient_is_unknown():
    assert critic_pmi(torch.ones(2, 2), groups=torch.zeros(2)).isnan().all()


class Memoriser:
    """Knows by heart every case it was fitted on."""

    def fit(self, train):
        known = set(train.tolist())
        return lambda rows: np.array([100.0 if row in known else 0.0 for row in rows])


def test_a_memorising_estimator_gains_nothing():
    found, _ = out_of_fold_pmi(Memoriser().fit, np.arange(20), folds=5, seed=0)
    assert (found == 0).all()


def test_a_patient_is_never_split_between_training_and_scoring():
    groups, seen = np.repeat(np.arange(9), 3), []

    def fit(train):
        def score(rows):
            assert not set(groups[train]) & set(groups[rows])
            seen.extend(rows.tolist())
            return rows.astype(float)

        return score

    found, fold = out_of_fold_pmi(fit, groups, folds=4, seed=1)
    assert sorted(seen) == list(range(27))
    np.testing.assert_array_equal(found, np.arange(27.0))
    assert all(len(set(fold[groups == patient])) == 1 for patient in range(9))


def test_asking_for_a_trained_patient_is_an_error():
    groups = np.array(["anna", "anna", "ben", "cleo"])
    held_out = HeldOut(lambda rows: rows.astype(float), frozenset({"anna", "ben"}))
    assert held_out(np.array([3]), groups).tolist() == [3.0]
    with pytest.raises(ValueError, match="it was trained on anna, ben"):
        held_out(np.array([1, 2, 3]), groups)


def test_what_a_case_holds_cannot_change_its_own_estimator():
    x, y, _ = gaussian_world(n=60, d=3)
    before, fold = out_of_fold_pmi(fit_gaussian(x, y), np.arange(60), folds=5, seed=0)
    x[7] = 50.0
    after, _ = out_of_fold_pmi(fit_gaussian(x, y), np.arange(60), folds=5, seed=0)
    companions = (fold == fold[7]) & (np.arange(60) != 7)
    np.testing.assert_array_equal(before[companions], after[companions])
    assert (before[fold != fold[7]] != after[fold != fold[7]]).all()


@pytest.mark.parametrize("folds", [1, 4])
def test_folds_must_fit_the_patients(folds):
    with pytest.raises(ValueError, match=rf"from 2 to the number of patients \(3\); got {folds}"):
        out_of_fold_pmi(Memoriser().fit, np.array([0, 0, 1, 2]), folds=folds, seed=0)


def test_standardising_removes_the_constant_of_a_large_fold_and_keeps_gaps():
    random = np.random.default_rng(0)
    fold = np.repeat([0, 1], 500)
    pmi = random.standard_normal((1000, 2)) + 5.0 * fold[:, None]
    pmi[3, 1] = np.nan
    found = standardise_folds(pmi, fold)
    assert np.isnan(found[3, 1])
    assert np.isnan(found).sum() == 1
    assert abs(np.nanmean(found[:500]) - np.nanmean(found[500:])) < 0.2


def test_three_alike_cases_of_a_fold_are_not_stretched_to_the_pools_width():
    pmi = np.concatenate([np.random.default_rng(0).standard_normal(30), [0.0, 0.01, 0.02]])
    found = standardise_folds(pmi, np.repeat([0, 1], [30, 3]))
    assert np.ptp(found[30:]) < 0.1
