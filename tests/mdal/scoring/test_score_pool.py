"""A pool scored in one shot."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from lib.mdal.representation.contrastive import ContrastiveSettings
from lib.mdal.representation.encoder import EncoderSettings
from lib.mdal.representation.properties import CaseProperties
from lib.mdal.representation.views import PoolViews
from lib.mdal.scoring.fold_model import FoldModel
from lib.mdal.scoring.fold_scores import score_fold
from lib.mdal.scoring.folds import PoolKeys
from lib.mdal.scoring.score_pool import PoolTooSmall, ScoringSettings, score_pool
from lib.mdal.selection.candidates import Candidates
from lib.mdal.selection.strategies import STRATEGIES
from lib.runtime.computation import Computation
from tests.support.trees import trained_models

NAMES = ("CT", "PET", "MR_T1")
SMALL = ContrastiveSettings(batch=12, encoder=EncoderSettings(width=4, features=8))
SETTINGS = ScoringSettings(folds=4, seeds=2, steps=20, contrastive=SMALL)
HASTY = ScoringSettings(folds=2, seeds=1, steps=3, contrastive=SMALL)


def toy(cases=16, *, seed=0, modalities=3):
    """(N, M + 1, D, H, W): modalities that show one random field of each case, each in its own way."""
    generator = torch.Generator().manual_seed(seed)
    field = torch.nn.functional.interpolate(torch.randn(cases, 1, 4, 4, 4, generator=generator), (8, 16, 16))
    gain = torch.tensor([1.0, -2.0, 0.5]).view(1, 3, 1, 1, 1)[:, :modalities]
    array = torch.ones(cases, modalities + 1, 8, 16, 16)
    array[:, :-1] = field * gain + 0.1 * torch.randn(cases, modalities, 8, 16, 16, generator=generator)
    return array.half().numpy()


@pytest.fixture
def folder(tmp_path):
    return tmp_path


def score(
    folder: Path, array, *, settings=SETTINGS, patients=None, present=None, contents=None, seed=0, **more
):
    count, channels = array.shape[:2]
    np.save(folder / "views.npy", array)
    present = np.ones((count, channels - 1), dtype=bool) if present is None else present
    views = PoolViews(folder / "views.npy", present, np.full((count, 3), 8.0))
    properties = CaseProperties(np.ones((count, 3)), np.arange(count) + 100.0, np.ones((count, channels - 1)))
    names = tuple(f"p{i:02d}" for i in range(count))
    keys = PoolKeys(tuple(contents or (f"content of {name}" for name in names)), tuple(patients or names))
    return score_pool(
        keys, views, properties, NAMES[: channels - 1], settings,
        folder=folder / "scoring", computation=Computation(seed=seed, **more),
    )  # fmt: skip


@pytest.fixture(scope="module")
def planted(tmp_path_factory):
    """Case 3 has the PET of case 9: nobody's scan, as after a mix-up."""
    array = toy()
    array[3, 1] = array[9, 1]
    return score(tmp_path_factory.mktemp("planted"), array)


def cut_after(share):
    """What stops a scoring in the midst of the training that follows so large a share."""

    def stop(done, _):
        if done > share:
            raise KeyboardInterrupt

    return stop


def gate(scores, name):
    return next(gate for gate in scores.gates if gate.name == name)


def test_a_case_with_another_patients_scan_differs_most_as_a_whole_and_comes_last_in_every_order(planted):
    assert planted.pairs == ("CT/PET", "CT/MR_T1", "PET/MR_T1")
    assert planted.damage.argmax() == planted.mean_md.argmax() == 3
    with_pet = planted.places[3].astype(float)[[0, 2]]
    assert np.nanmedian(with_pet) > np.nanmedian(planted.places[3].astype(float)[1]) + 1
    candidates = Candidates(
        [f"p{row:02d}" for row in range(16)], planted.features, planted.md, planted.lesion_proxy,
        planted.salient, planted.saliency_features, planted.damage,
    )  # fmt: skip
    for strategy in STRATEGIES.values():
        assert strategy.select(candidates, 5, np.random.default_rng(0))[-1] == "p03"


def test_every_head_scores_every_pair_and_seed_in_nats(planted):
    for nats in (planted.gaussian_nats, planted.top_nats, planted.critic_nats):
        assert nats.shape == (16, 3, 2)
        assert np.isfinite(nats).all()
    assert (planted.top_nats <= planted.gaussian_nats).all()
    assert planted.critic_nats[3, 0].mean() < np.median(planted.critic_nats[:, 0])
    for standardised in (planted.md, *planted.pair_md.T):
        assert (standardised.mean(), standardised.std()) == (pytest.approx(0), pytest.approx(1))
    np.testing.assert_allclose(planted.md_nats, -planted.gaussian_nats.mean(axis=(1, 2)))


def test_each_place_is_on_the_scale_that_is_usual_there(planted):
    assert planted.places.shape == (16, 3, 4 * 4 * 4)
    assert planted.counts == (4, 4, 4)
    assert np.abs(np.median(planted.places.astype(float), axis=0)).mean() < 0.5  # a mean of two seeds


def test_features_are_finite_and_tell_cases_apart(planted):
    assert planted.features.dtype == np.float32
    assert len(np.unique(planted.features, axis=0)) == 16


def test_the_gates_say_that_unseen_modalities_were_matched_and_that_mixing_them_up_shows(planted):
    assert gate(planted, "retrieval").passed
    assert gate(planted, "retrieval").value > 2 / 16
    assert "The 8 trainings were at their best after" in gate(planted, "retrieval").sentence
    assert gate(planted, "rises_when_exchanged").value > 0.9
    assert -1 <= gate(planted, "seed_agreement").value <= 1
    assert gate(planted, "in_sample_gap_nats").value > 0


def test_noise_without_common_content_fails_the_gate(folder):
    array = toy(12)
    array[:, :-1] = np.random.default_rng(0).standard_normal(array[:, :-1].shape)
    assert gate(score(folder, array), "retrieval").passed is False


def test_the_same_seed_gives_the_same_scores_and_progress_goes_from_zero_to_one(tmp_path):
    folders, told = [tmp_path / name for name in "abc"], []
    for each in folders:
        each.mkdir()
    array = toy(8, modalities=2)
    first = score(
        folders[0], array, settings=HASTY, on_progress=lambda done, message: told.append((done, message))
    )
    again = score(folders[1], array, settings=HASTY)
    other = score(folders[2], array, settings=HASTY, seed=1)
    np.testing.assert_array_equal(first.md, again.md)
    np.testing.assert_array_equal(first.features, again.features)
    assert (first.md != other.md).any()
    shares = [done for done, _ in told]
    assert shares == sorted(shares)
    assert shares[-1] == 1.0
    assert told[-1][1] == "training 2 of 2"


@pytest.mark.slow
def test_two_processes_give_the_scores_of_one(tmp_path):
    (tmp_path / "one").mkdir()
    (tmp_path / "two").mkdir()
    array = toy(8)
    one = score(tmp_path / "one", array, settings=HASTY)
    two = score(tmp_path / "two", array, settings=HASTY, processes=2)
    # sums of vector units depend on where in memory the numbers lie, in the last digit
    np.testing.assert_allclose(one.md, two.md, rtol=0, atol=1e-9)
    np.testing.assert_allclose(one.features, two.features, rtol=0, atol=1e-5)


def test_names_of_patients_change_nothing(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    array = toy(8)
    names = [f"p{i:02d}" for i in range(8)]
    first = score(tmp_path / "a", array, settings=HASTY, patients=names)
    renamed = score(tmp_path / "b", array, settings=HASTY, patients=names[::-1])
    np.testing.assert_array_equal(first.md, renamed.md)


def test_a_scoring_that_was_cut_goes_on_with_the_training_that_was_cut(folder):
    settings = replace(HASTY, folds=4)
    with pytest.raises(KeyboardInterrupt):
        score(folder, toy(8), settings=settings, on_progress=cut_after(2 / 4))
    before = trained_models(folder)
    assert len(before) == 2
    cut_once = score(folder, toy(8), settings=settings)
    assert before < trained_models(folder)
    assert len(trained_models(folder)) == 4
    (folder / "other").mkdir()
    np.testing.assert_array_equal(cut_once.md, score(folder / "other", toy(8), settings=settings).md)


@pytest.mark.parametrize(
    "what", ["scores-0.npz", "places-0.npy", "embedding-0.npy", "model-0.pt", "folds.json"]
)
def test_what_a_scoring_kept_is_made_again_where_it_was_damaged(folder, what):
    array = toy()
    first = score(folder, array, settings=HASTY)
    (kept,) = folder.rglob(what)
    kept.write_bytes(b"damaged")
    if what == "model-0.pt":
        next(folder.rglob("scores-0.npz")).unlink()
    again = score(folder, array, settings=HASTY)
    np.testing.assert_array_equal(again.md, first.md)
    assert kept.parent.exists()


def test_a_new_case_is_scored_by_the_models_that_are_there(folder):
    array = toy(11)
    before = score(folder, array[:10], settings=HASTY)
    trained = trained_models(folder)
    after = score(folder, array, settings=HASTY)
    assert trained_models(folder) == trained
    assert len(after.md) == 11
    assert np.isfinite(after.gaussian_nats[10]).all()
    np.testing.assert_allclose(after.gaussian_nats[:10], before.gaussian_nats, atol=1e-5)


def test_a_pool_that_grows_while_its_trainings_are_cut_is_still_scored_by_strangers(folder):
    array, names = toy(12), [f"c{i:02d}" for i in range(10)]
    cut_once = {"contents": names, "patients": names, "on_progress": cut_after(1 / 2)}
    with pytest.raises(KeyboardInterrupt):
        score(folder, array[:10], settings=HASTY, **cut_once)
    assert len(trained_models(folder)) == 1
    for more in (["m"], ["m", "a"]):  # the second newcomer comes first in the pool's order
        rows = [*range(10), 10, 11][: 10 + len(more)]
        contents = names + more
        order = np.argsort(contents)
        ordered = [contents[place] for place in order]
        found = score(folder, array[rows][order], settings=HASTY, contents=ordered, patients=ordered)
        assert np.isfinite(found.gaussian_nats).all()


def test_a_pool_that_grew_much_is_trained_again(folder):
    array = toy(13)
    score(folder, array[:10], settings=HASTY)
    before = trained_models(folder)
    score(folder, array, settings=HASTY)
    assert len(trained_models(folder) - before) == 2
    assert len(list((folder / "scoring").iterdir())) == 1  # the old models are gone


def test_a_case_is_scored_by_the_pairs_it_has_and_one_without_a_pair_comes_last(folder):
    array, present = toy(12), np.ones((12, 3), dtype=bool)
    present[0, 1] = False
    present[1, 1:] = False
    array[0, 1], array[1, 1:3] = 0, 0
    settings = ScoringSettings(folds=3, seeds=1, steps=5, contrastive=SMALL)
    found = score(folder, array, settings=settings, present=present)
    assert np.isfinite(found.pair_md[0]).tolist() == [False, True, False]
    assert np.isfinite(found.places[0]).any(axis=1).tolist() == [False, True, False]
    assert np.isnan(found.pair_md[1]).all()
    assert found.md[1] == found.md.min()
    assert np.isnan(found.md_nats[1])
    assert np.isfinite(found.features).all()


def test_two_cases_of_a_patient_share_a_fold_and_are_no_negatives(folder):
    array = toy(12, modalities=2)
    array[1::2] = array[::2]
    patients = [f"patient {i // 2}" for i in range(12)]
    settings = ScoringSettings(folds=5, seeds=1, steps=3, contrastive=SMALL)
    found = score(folder, array, settings=settings, patients=patients)
    np.testing.assert_allclose(found.gaussian_nats[::2], found.gaussian_nats[1::2], atol=1e-5)
    assert "9% by chance" in gate(found, "retrieval").sentence  # itself, and ten cases of other patients


def test_small_pools_take_fewer_steps_than_large_ones_and_a_gpu_more_than_a_processor():
    settings, cpu, gpu = ScoringSettings(), torch.device("cpu"), torch.device("cuda")
    assert settings.steps_for(12, cpu) < settings.steps_for(500, cpu) <= settings.steps_for(10_000, cpu)
    assert settings.steps_for(12, gpu) > settings.steps_for(12, cpu)
    assert ScoringSettings(steps=7).steps_for(500, gpu) == 7


def test_pools_that_cannot_be_scored_are_refused_with_what_to_do(folder):
    with pytest.raises(
        PoolTooSmall, match=r"at least 6 patients .* got 5. Add studies, or label these in any order"
    ):
        score(folder, toy(5))
    with pytest.raises(PoolTooSmall, match=r"at least 6 patients .* got 2"):
        score(folder, toy(8), patients=["a", "b"] * 4)
    with pytest.raises(PoolTooSmall, match="at least 2 modalities; got CT"):
        score(folder, toy(8, modalities=1))
    with pytest.raises(ValueError, match="of the same cases; got 8, 2 and 8"):
        score(folder, toy(8), patients=["a", "b"])
    lone = np.zeros((8, 3), dtype=bool)
    lone[:, 0] = True
    with pytest.raises(PoolTooSmall, match=r"at least 6 patients with two modalities or more .* got 0"):
        score(folder, toy(8), settings=HASTY, present=lone)


@pytest.mark.parametrize("wrong", [{"folds": 1}, {"seeds": 0}])
def test_settings_that_hold_nothing_out_are_refused(wrong):
    with pytest.raises(ValueError, match="folds must be at least 2"):
        ScoringSettings(**wrong)


def test_a_model_refuses_to_score_a_patient_that_it_saw(folder):
    score(folder, toy(8), settings=HASTY)
    np.save(folder / "views.npy", toy(8))
    views = PoolViews(folder / "views.npy", np.ones((8, 3), dtype=bool), np.full((8, 3), 8.0))
    model = FoldModel.load(next(folder.glob("scoring/*/model-0.pt")), torch.device("cpu"))
    names = np.array([f"p{i:02d}" for i in range(8)])
    with pytest.raises(ValueError, match="must be unknown to the estimator; it was trained on p0"):
        score_fold(
            model, views, names, np.arange(8), folder / "places.npy", seed=0, device=torch.device("cpu")
        )
