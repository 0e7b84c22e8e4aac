"""PMI against worlds whose truth is known, and never in sample."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr

from benchmarks.mdal.out_of_fold import HeldOut, out_of_fold_pmi
from lib.mdal.scoring.gaussian_copula import GaussianPmi, gaussian_pmi
from lib.mdal.scoring.pmi import assign_folds, critic_pmi, standardise_folds


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


def warped(values):
    """Every feature through a monotone map of its own; neither maps nor features keep a Gaussian shape."""
    maps = [np.sinh, lambda z: z**3, np.exp, lambda z: -np.exp(-z)]
    return np.column_stack([maps[k % 4](column) for k, column in enumerate(values.T)])


def fit_gaussian(x, y):
    def fit(train):
        score = gaussian_pmi(x[train], y[train], components=x.shape[1])
        return lambda rows: score(x[rows], y[rows])

    return fit


def fit_default(x, y):
    def fit(train):
        score = gaussian_pmi(x[train], y[train])
        return lambda rows: score(x[rows], y[rows])

    return fit


def test_out_of_fold_gaussian_pmi_follows_the_truth():
    x, y, truth = gaussian_world()
    found, fold = out_of_fold_pmi(fit_gaussian(x, y), np.arange(300), folds=5, seed=0)
    assert spearmanr(found, truth).statistic >= 0.75
    assert found.mean() == pytest.approx(truth.mean(), abs=1.0)  # nats
    assert np.bincount(fold).tolist() == [60] * 5


@pytest.mark.parametrize(("normal_scores", "tolerance"), [(True, 0.1), (False, 0.1)])
def test_gaussian_pmi_is_the_closed_form_when_the_covariance_is_known(normal_scores, tolerance):
    x, y, truth = gaussian_world(n=60_000, d=2)
    found = gaussian_pmi(x, y, components=2, normal_scores=normal_scores)(x[:200], y[:200])
    np.testing.assert_allclose(found, truth[:200], atol=tolerance)


def test_more_training_cases_bring_pmi_nearer_to_the_closed_form():
    x, y, truth = gaussian_world(n=9000)
    errors = []
    for n in (100, 800, 8000):
        found = gaussian_pmi(x[:n], y[:n])(x[8000:], y[8000:])
        errors.append(np.abs(found - truth[8000:]).mean())
    assert errors[1] < 0.6 * errors[0]
    assert errors[2] < 0.6 * errors[1]


def test_default_pmi_follows_the_truth_whatever_the_shape_of_the_features():
    x, y, truth = gaussian_world(d=4)
    found, _ = out_of_fold_pmi(fit_default(warped(x), warped(y)), np.arange(300), folds=5, seed=0)
    assert spearmanr(found, truth).statistic >= 0.75

    def fit(train):
        score = gaussian_pmi(warped(x)[train], warped(y)[train], components=4, normal_scores=False)
        return lambda rows: score(warped(x)[rows], warped(y)[rows])

    without, _ = out_of_fold_pmi(fit, np.arange(300), folds=5, seed=0)
    assert spearmanr(without, truth).statistic < spearmanr(found, truth).statistic - 0.1


@pytest.mark.parametrize("n", [120, 1500])  # every value is kept as a quantile, or some are
def test_monotone_maps_of_single_features_change_nothing(n):
    x, y, _ = gaussian_world(n=n + 50)
    plain = gaussian_pmi(x[:n], y[:n])
    mapped = gaussian_pmi(warped(x[:n]), warped(y[:n]))
    np.testing.assert_allclose(mapped(warped(x[n:]), warped(y[n:])), plain(x[n:], y[n:]), atol=1e-8)


def test_the_two_modalities_can_be_swapped():
    x, y, _ = gaussian_world()
    there, back = gaussian_pmi(x[:200], y[:200]), gaussian_pmi(y[:200], x[:200])
    np.testing.assert_allclose(there(x[200:], y[200:]), back(y[200:], x[200:]), atol=1e-8)


def test_a_saved_estimator_scores_as_before(tmp_path):
    x, y, _ = gaussian_world()
    score = gaussian_pmi(x[:200], y[:200])
    torch.save({name: torch.from_numpy(value) for name, value in score.state().items()}, tmp_path / "head.pt")
    again = GaussianPmi.from_state(torch.load(tmp_path / "head.pt", weights_only=True))
    np.testing.assert_array_equal(again(x[200:], y[200:]), score(x[200:], y[200:]))


def test_a_state_of_something_else_is_refused():
    with pytest.raises(ValueError, match=r"a state must hold covariance, .*; got weight"):
        GaussianPmi.from_state({"weight": np.zeros(3)})


def test_a_value_far_outside_the_training_range_counts_as_its_end():
    x, y, _ = gaussian_world()
    score = gaussian_pmi(x, y)
    far = np.full((1, 8), 1e300)
    np.testing.assert_array_equal(score(far, -far), score(x.max(axis=0)[None] + 1, y.min(axis=0)[None] - 1))


def test_a_constant_feature_and_ties_do_no_harm():
    x, y, truth = gaussian_world(d=4)
    x, y = np.hstack([x.round(1), np.zeros((300, 1))]), np.hstack([y, np.ones((300, 1))])
    found, _ = out_of_fold_pmi(fit_default(x, y), np.arange(300), folds=5, seed=0)
    assert spearmanr(found, truth).statistic >= 0.75


def test_a_feature_can_be_turned_round_even_where_values_are_tied():
    x, y, _ = gaussian_world(d=4)
    x = x.round()
    np.testing.assert_allclose(gaussian_pmi(-x, y)(-x, y), gaussian_pmi(x, y)(x, y), atol=1e-8)


def embedded(n, shared, private, seed=0):
    """Pairs whose first directions, of unit variance, are shared and whose faint rest is not."""
    random = np.random.default_rng(seed)
    x, y = random.standard_normal((2, n, shared + private))
    y[:, :shared] = 0.6 * x[:, :shared] + 0.8 * y[:, :shared]
    scale = np.r_[np.ones(shared), np.full(private, 0.2)]
    turns = [np.linalg.qr(random.standard_normal((shared + private,) * 2))[0] for _ in range(2)]
    return (x * scale) @ turns[0], (y * scale) @ turns[1]


def test_as_many_components_are_taken_as_the_modalities_share():
    few = gaussian_pmi(*embedded(1000, shared=4, private=60))
    every = gaussian_pmi(*embedded(1000, shared=16, private=0))
    assert few.first_directions.shape == (64, 4)
    assert every.first_directions.shape == (16, 16)


@pytest.mark.parametrize("n", [3, 4, 5, 6, 9])
def test_a_handful_of_cases_gives_finite_pmi(n):
    x, y, _ = gaussian_world(n=n + 5)
    assert np.isfinite(gaussian_pmi(x[:n], y[:n])(x, y)).all()


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


def test_pmi_of_other_widths_is_refused():
    x, y, _ = gaussian_world(n=30)
    with pytest.raises(ValueError, match=r"must be \(m, 8\) and \(m, 8\), as fitted; got \(30, 7\)"):
        gaussian_pmi(x, y)(x[:, :7], y)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_pmi_of_what_is_not_finite_is_refused(bad):
    x, y, _ = gaussian_world(n=30)
    score = gaussian_pmi(x, y)
    x[3, 2] = bad
    with pytest.raises(ValueError, match="embeddings must be finite"):
        gaussian_pmi(x, y)
    with pytest.raises(ValueError, match="embeddings must be finite"):
        score(x, y)


@pytest.mark.filterwarnings("ignore:invalid value encountered in divide")  # by the PCA, of no variance
def test_embeddings_that_are_all_alike_are_refused():
    with pytest.raises(ValueError, match="embeddings must vary between cases"):
        gaussian_pmi(np.ones((10, 4)), np.ones((10, 4)))


def test_components_must_be_positive():
    with pytest.raises(ValueError, match="components must be at least 1; got 0"):
        gaussian_pmi(np.eye(4), np.eye(4), components=0)


def test_critic_pmi_is_the_critic_less_log_mean_exp_of_other_patients():
    critic = torch.randn(2, 4, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    groups, valid = torch.tensor([0, 0, 1, 2]), torch.tensor([[True] * 4, [True, True, True, False]])
    found = critic_pmi(critic, groups=groups, valid=valid)
    for p in range(2):  # each position has a constant of its own
        others = [
            critic[p, i, j].exp()
            for i in range(4)
            for j in range(4)
            if groups[i] != groups[j] and valid[p, i] and valid[p, j]
        ]
        expected = critic[p].diagonal() - torch.stack(others).mean().log()
        torch.testing.assert_close(found[p][valid[p]], expected[valid[p]])
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


def test_a_trained_patient_is_known_by_any_type_of_name():
    held_out = HeldOut.train(lambda train: lambda rows: rows.astype(float), np.array([0]), np.array([7, 8]))
    assert held_out(np.array([1]), np.array(["7", "8"])).tolist() == [1.0]
    with pytest.raises(ValueError, match="it was trained on 7"):
        held_out(np.array([0]), np.array(["7", "8"]))


def test_an_estimator_that_names_no_patient_is_refused():
    with pytest.raises(ValueError, match="must name the patients it was trained on; got none"):
        HeldOut(lambda rows: rows.astype(float), [])


def test_renaming_patients_changes_no_fold():
    random = np.random.default_rng(0)
    groups = random.integers(0, 25, size=60)
    names = np.array([f"patient {name}" for name in random.permutation(25)])
    found = assign_folds(groups, folds=5, seed=3)
    np.testing.assert_array_equal(assign_folds(names[groups], folds=5, seed=3), found)
    assert (assign_folds(groups, folds=5, seed=4) != found).any()


def test_folds_are_balanced_in_patients():
    groups = np.repeat(np.arange(23), np.random.default_rng(0).integers(1, 6, size=23))
    fold = assign_folds(groups, folds=5, seed=0)
    patients = [len(set(groups[fold == number])) for number in range(5)]
    assert sorted(patients) == [4, 4, 5, 5, 5]  # 23 together: none is split


def test_folds_of_as_many_patients_differ_by_less_than_the_largest_patient():
    for seed in range(50):
        groups = np.repeat(np.arange(20), np.random.default_rng(seed).integers(1, 10, size=20))
        assert np.ptp(np.bincount(assign_folds(groups, folds=5, seed=seed))) < 9


def test_out_of_fold_pmi_holds_out_the_assigned_folds():
    groups = np.repeat(np.arange(9), 3)
    _, fold = out_of_fold_pmi(Memoriser().fit, groups, folds=4, seed=1)
    np.testing.assert_array_equal(fold, assign_folds(groups, folds=4, seed=1))


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
