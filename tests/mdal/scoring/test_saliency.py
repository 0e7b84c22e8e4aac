"""Places unlike the same place in others."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from lib.mdal.representation.views import VIEW_SHAPE, PoolViews
from lib.mdal.scoring.saliency import salient_places

COUNT, LESION = 40, (slice(4, 8), slice(8, 14), slice(8, 14))


def views(folder: Path, lesions: dict[int, tuple[float, float]], *, absent: int | None = None) -> PoolViews:
    """Noise in two modalities; some cases have a lesion of these two values at one place."""
    array = np.random.default_rng(0).normal(0.0, 0.1, (COUNT, 3, *VIEW_SHAPE)).astype(np.float16)
    array[:, 2] = 1.0
    for case, values in lesions.items():
        for modality, value in enumerate(values):
            array[(case, modality, *LESION)] += value
    present = np.ones((COUNT, 2), dtype=bool)
    if absent is not None:
        array[absent, 1], present[absent, 1] = 0.0, False
    np.save(folder / "views.npy", array)
    return PoolViews(folder / "views.npy", present, np.full((COUNT, 3), 2.0))


def test_a_case_with_something_unusual_has_more_of_it_in_ml(tmp_path: Path) -> None:
    found = salient_places(views(tmp_path, {3: (5.0, 5.0)}))
    assert found.volume_ml.argmax() == 3
    assert found.volume_ml[3] >= 4 * 6 * 6 * 8 / 1000  # its voxels of 8 cubic mm
    assert found.salient.argmax() == 3
    assert found.salient[3] >= 4 * 6 * 6


def test_lesions_that_look_alike_lie_nearer_than_those_that_do_not(tmp_path: Path) -> None:
    bright, dark, mixed = (5.0, 5.0), (-5.0, -5.0), (5.0, -5.0)
    kinds = [bright, bright, bright, dark, dark, dark, mixed, mixed, mixed]
    saliency_features = salient_places(views(tmp_path, dict(enumerate(kinds)))).saliency_features[
        : len(kinds)
    ]
    for case, kind in enumerate(kinds):
        apart = np.linalg.norm(saliency_features - saliency_features[case], axis=1)
        same = [other for other, of in enumerate(kinds) if of == kind]
        assert apart[same].max() < np.delete(apart, same).min()


def test_each_column_is_standardised_and_finite_also_where_a_modality_is_absent(tmp_path: Path) -> None:
    saliency_features = salient_places(views(tmp_path, {3: (5.0, 5.0)}, absent=7)).saliency_features
    assert saliency_features.shape == (COUNT, 5)
    assert np.isfinite(saliency_features).all()
    np.testing.assert_allclose(saliency_features.mean(axis=0), 0.0, atol=1e-5)


def test_a_pool_without_anything_to_see_has_no_look(tmp_path: Path) -> None:
    array = np.zeros((COUNT, 3, *VIEW_SHAPE), dtype=np.float16)
    np.save(tmp_path / "views.npy", array)
    found = salient_places(PoolViews(tmp_path / "views.npy", np.ones((COUNT, 2), bool), np.ones((COUNT, 3))))
    assert not found.volume_ml.any()
    assert not found.saliency_features.any()


def test_the_place_explains_much_where_it_is_the_same_part_of_the_body_in_each_case(tmp_path: Path) -> None:
    atlas = np.random.default_rng(1).normal(0.0, 1.0, (2, *VIEW_SHAPE))
    found = {}
    for name, moved in (("brains", 0), ("anywhere", 1)):
        pool = views(tmp_path, {}, absent=7)
        array = np.load(pool.file)
        for case in range(COUNT):
            seen = np.roll(atlas, (moved * case, 3 * moved * case), (1, 2))
            array[case, :2] += seen * pool.present[case, :, None, None, None]
        array[:, 2, 0] = 0.0  # outside
        np.save(pool.file, array)
        found[name] = salient_places(pool).explained
    assert found["brains"] == pytest.approx(1.0 / 1.01, abs=0.01)  # of 1 + 0.1^2
    assert abs(found["anywhere"]) < 0.05


def test_what_the_place_explains_is_unknown_of_a_single_case_and_of_constant_images(tmp_path: Path) -> None:
    for array in (np.zeros((COUNT, 3, *VIEW_SHAPE)), np.ones((1, 3, *VIEW_SHAPE))):
        np.save(tmp_path / "views.npy", array.astype(np.float16))
        pool = PoolViews(tmp_path / "views.npy", np.ones((len(array), 2), bool), np.ones((len(array), 3)))
        assert np.isnan(salient_places(pool).explained)
