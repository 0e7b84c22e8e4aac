"""Who is held out where, and when the models no longer fit the pool."""

from __future__ import annotations

import math

import numpy as np
import pytest

from lib.mdal.scoring.folds import PoolKeys, forget_others, open_folds


def pool(count, *, patients=None, first=0):
    contents = tuple(f"content {number}" for number in range(first, first + count))
    return PoolKeys(
        contents, tuple(patients or (f"patient {number}" for number in range(first, first + count)))
    )


def opened(folder, keys, *, retrain_share=0.2, settings="small", seed=0):
    return open_folds(
        folder, keys, settings=settings, folds=3, repeats=2, seed=seed, retrain_share=retrain_share
    )


def grown(keys, *more):
    return PoolKeys(
        keys.contents + tuple(content for content, _ in more),
        keys.patients + tuple(whose for _, whose in more),
    )


def test_every_patient_is_held_out_once_in_each_repeat_with_all_his_cases(tmp_path):
    keys = pool(12, patients=[f"patient {number // 2}" for number in range(12)])
    held_out = opened(tmp_path, keys).of(keys)
    assert held_out.shape == (2, 12)
    np.testing.assert_array_equal(held_out[:, ::2], held_out[:, 1::2])
    assert [np.bincount(row).tolist() for row in held_out] == [[4, 4, 4]] * 2
    assert (held_out[0] != held_out[1]).any()


def test_the_same_pool_and_settings_find_their_folds_again(tmp_path):
    keys = pool(9)
    first = opened(tmp_path, keys)
    again = opened(tmp_path, keys)
    assert again.folder == first.folder
    np.testing.assert_array_equal(again.of(keys), first.of(keys))


@pytest.mark.parametrize("other", [{"settings": "large"}, {"seed": 1}])
def test_other_settings_have_folds_of_their_own(tmp_path, other):
    keys = pool(9)
    assert opened(tmp_path, keys, **other).folder != opened(tmp_path, keys).folder


def test_names_of_patients_decide_nothing(tmp_path):
    keys = pool(9)
    renamed = PoolKeys(keys.contents, tuple(reversed([f"someone {number}" for number in range(9)])))
    first = opened(tmp_path / "a", keys)
    np.testing.assert_array_equal(opened(tmp_path / "b", renamed).of(renamed), first.of(keys))
    assert keys.digest() == renamed.digest()


def test_a_few_new_cases_join_the_folds_that_are_there(tmp_path):
    keys = pool(10)
    first = opened(tmp_path, keys)
    more = grown(keys, ("new scan", "patient 4"), ("content 10", "newcomer"))
    later = opened(tmp_path, more)
    assert later.folder == first.folder
    held_out = later.of(more)
    np.testing.assert_array_equal(held_out[:, :10], first.of(keys))
    np.testing.assert_array_equal(held_out[:, 10], held_out[:, 4])  # never scored by who saw his first scan
    assert later.stale_share(more) == pytest.approx(2 / 12)


def test_a_pool_that_grew_by_more_than_the_share_is_trained_again(tmp_path):
    keys = pool(10)
    first = opened(tmp_path, keys)
    more = grown(keys, *((f"new {number}", f"newcomer {number}") for number in range(3)))
    assert opened(tmp_path, more).folder != first.folder


def test_a_case_that_changes_hands_is_never_scored_by_models_that_saw_it(tmp_path):
    keys = pool(10)
    first = opened(tmp_path, keys)
    renamed = PoolKeys(keys.contents, (*keys.patients[:9], "somebody else"))
    assert first.stale_share(renamed) == math.inf


def test_a_fold_that_lost_its_patients_is_made_anew(tmp_path):
    keys = pool(9)
    first = opened(tmp_path, keys)
    lost = first.of(keys)[0] != 0  # all of one fold but one
    lost[np.flatnonzero(~lost)[0]] = True
    fewer = PoolKeys(*(tuple(np.array(part)[lost].tolist()) for part in (keys.contents, keys.patients)))
    later = opened(tmp_path, fewer)
    assert later.folder != first.folder
    assert min(np.bincount(later.of(fewer)[0])) >= 2


def test_what_other_pools_left_is_forgotten_and_the_models_in_use_are_kept(tmp_path):
    keys, other = pool(10), pool(10, first=100)
    old, new = opened(tmp_path, other), opened(tmp_path, keys)
    kept, gone = new.folder / keys.digest(), new.folder / "of an earlier pool"
    for folder in (kept, gone):
        folder.mkdir()
    (new.folder / "model-0.pt").touch()
    forget_others(tmp_path, keep=kept)
    assert not old.folder.exists()
    assert not gone.exists()
    assert (new.folder / "model-0.pt").exists()
    assert kept.exists()
