"""A pool scored in one shot."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from lib.mdal.contrastive import ContrastiveSettings
from lib.mdal.encoder import EncoderSettings
from lib.mdal.score import ScoringSettings, score_pool
from lib.mdal.views import PoolViews

NAMES = ("CT", "PET", "MR_T1")
SETTINGS = ScoringSettings(
    folds=4, seeds=2, steps=20, components=4,
    contrastive=ContrastiveSettings(batch=12, encoder=EncoderSettings(width=4, features=8)),
)  # fmt: skip


def toy(cases=16, *, seed=0, modalities=3):
    """Modalities that show one random field of each case, each in its own way."""
    generator = torch.Generator().manual_seed(seed)
    field = torch.nn.functional.interpolate(torch.randn(cases, 1, 4, 4, 4, generator=generator), (8, 16, 16))
    gain = torch.tensor([1.0, -2.0, 0.5]).view(1, 3, 1, 1, 1)[:, :modalities]
    array = torch.ones(cases, modalities + 1, 8, 16, 16)
    array[:, :-1] = field * gain + 0.1 * torch.randn(cases, modalities, 8, 16, 16, generator=generator)
    return PoolViews(array.half().numpy(), np.ones((cases, modalities), dtype=bool))


def score(views, *, settings=SETTINGS, patients=None, seed=0, **more):
    ids = [f"p{i:02d}" for i in range(len(views.array))]
    return score_pool(
        ids, patients or ids, views, NAMES[: views.present.shape[1]], settings, seed=seed, **more
    )


@pytest.fixture(scope="module")
def planted():
    """Case 3 has the PET of case 9: nobody's scan, as after a mix-up."""
    views = toy()
    views.array[3, 1] = views.array[9, 1]
    return score(views)


def test_a_case_with_another_patients_scan_has_the_largest_modality_difference(planted):
    assert planted.md.argmax() == 3
    assert planted.md_percentile[3] == 100
    assert planted.pairs == ("CT/PET", "CT/MR_T1", "PET/MR_T1")
    assert planted.pair_md[3].argmin() == 1  # the pair without PET is the ordinary one


def test_both_heads_score_every_pair_and_seed_in_nats(planted):
    assert planted.gaussian_nats.shape == planted.critic_nats.shape == (16, 3, 2)
    assert np.isfinite(planted.gaussian_nats).all()
    assert np.isfinite(planted.critic_nats).all()
    assert planted.critic_nats[3, 0].mean() < np.median(planted.critic_nats[:, 0])
    np.testing.assert_allclose(planted.md, planted.pair_md.mean(axis=1))


def test_features_are_finite_and_tell_cases_apart(planted):
    assert planted.features.dtype == np.float32
    assert len(np.unique(planted.features, axis=0)) == 16


def test_the_gates_say_that_unseen_modalities_were_matched(planted):
    assert planted.gates["retrieval_top1"] > planted.gates["retrieval_chance"] + 0.15
    assert planted.gates["retrieval_chance"] == pytest.approx(0.25)
    assert -1 <= planted.gates["seed_spearman"] <= 1
    assert planted.gates["cases_without_a_pair"] == 0


def test_noise_without_common_content_is_matched_no_better_than_by_chance():
    views = toy(12)
    views.array[:, :-1] = np.random.default_rng(0).standard_normal(views.array[:, :-1].shape)
    gates = score(views).gates
    assert abs(gates["retrieval_top1"] - gates["retrieval_chance"]) < 0.1


def test_the_same_seed_gives_the_same_scores_and_progress_goes_from_zero_to_one():
    views, told = toy(8, modalities=2), []
    settings = ScoringSettings(folds=2, seeds=1, steps=3, contrastive=SETTINGS.contrastive)
    first = score(views, settings=settings, on_progress=lambda done, message: told.append((done, message)))
    again, other = score(views, settings=settings), score(views, settings=settings, seed=1)
    np.testing.assert_array_equal(first.md, again.md)
    np.testing.assert_array_equal(first.features, again.features)
    assert (first.md != other.md).any()
    shares = [done for done, _ in told]
    assert shares == sorted(shares)
    assert shares[-1] == 1.0
    assert told[-1][1] == "training 2 of 2"


def test_a_case_is_scored_by_the_pairs_it_has_and_one_without_a_pair_comes_last():
    views = toy(12)
    views.present[0, 1] = False
    views.present[1, 1:] = False
    views.array[0, 1], views.array[1, 1:3] = 0, 0
    settings = ScoringSettings(folds=3, seeds=1, steps=5, contrastive=SETTINGS.contrastive)
    found = score(views, settings=settings)
    assert np.isfinite(found.pair_md[0]).tolist() == [False, True, False]
    assert found.md[0] == pytest.approx(found.pair_md[0, 1])
    assert np.isnan(found.pair_md[1]).all()
    assert found.md[1] == found.md.min()
    assert found.gates["cases_without_a_pair"] == 1
    assert np.isfinite(found.features).all()


def test_two_cases_of_a_patient_share_a_fold_and_are_no_negatives():
    views = toy(12, modalities=2)
    views.array[1::2] = views.array[::2]
    patients = [f"patient {i // 2}" for i in range(12)]
    settings = ScoringSettings(folds=5, seeds=1, steps=3, contrastive=SETTINGS.contrastive)
    found = score(views, settings=settings, patients=patients)
    np.testing.assert_allclose(found.gaussian_nats[::2], found.gaussian_nats[1::2], atol=1e-5)
    assert found.gates["retrieval_chance"] == pytest.approx(
        1 / 3
    )  # itself, and two cases of the other patient


def test_small_pools_take_fewer_steps_than_large_ones_and_a_gpu_more_than_a_processor():
    settings, cpu, gpu = ScoringSettings(), torch.device("cpu"), torch.device("cuda")
    assert settings.steps_for(12, cpu) < settings.steps_for(500, cpu) <= settings.steps_for(10_000, cpu)
    assert settings.steps_for(12, gpu) > settings.steps_for(12, cpu)
    assert ScoringSettings(steps=7).steps_for(500, gpu) == 7


def test_pools_that_cannot_be_scored_are_refused_with_what_to_do():
    with pytest.raises(
        ValueError, match=r"at least 6 patients .* got 5. Add studies, or label these in any order"
    ):
        score(toy(5))
    with pytest.raises(ValueError, match=r"at least 6 patients .* got 2"):
        score(toy(8), patients=["a", "b"] * 4)
    with pytest.raises(ValueError, match="at least 2 modalities; got CT"):
        score(toy(8, modalities=1))
    with pytest.raises(ValueError, match="one channel for each of CT, PET; got 3"):
        score_pool(list("abcdefgh"), list("abcdefgh"), toy(8), ("CT", "PET"), SETTINGS, seed=0)
    with pytest.raises(ValueError, match="of the same cases; got 2, 2 and 8"):
        score_pool(["a", "b"], ["a", "b"], toy(8), NAMES, SETTINGS, seed=0)
    lone = toy(8)
    lone.present[:, 1:] = False
    with pytest.raises(ValueError, match="no case could be scored"):
        score(lone, settings=ScoringSettings(folds=2, seeds=1, steps=1))


@pytest.mark.parametrize("wrong", [{"folds": 1}, {"seeds": 0}, {"components": 0}])
def test_settings_that_hold_nothing_out_are_refused(wrong):
    with pytest.raises(ValueError, match="folds must be at least 2"):
        ScoringSettings(**wrong)
