"""Cases as small arrays of one shape."""

from __future__ import annotations

import pickle

import numpy as np
import pytest

from lib.cases.case import Case, Source
from lib.cases.formats.image import Grid
from lib.cases.preprocessing import Preparation, PreparedCase, VolumeCache
from lib.cases.records import Records
from lib.mdal.representation.views import VIEW_SHAPE, CaseView, case_view, gather_views


def prepared(shape=(20, 30, 40), *, box=None, present=(True, True), seed=0, level=0.0, gain=1.0):
    inside = np.zeros(shape, dtype=bool)
    inside[box or (slice(4, 16), slice(6, 24), slice(10, 34))] = True
    array = np.random.default_rng(seed).standard_normal((2, *shape)) * gain + level
    array[~np.array(present)] = 0
    return PreparedCase(
        "p01", ("CT", "PET"), array.astype(np.float16), inside, np.array(present), Grid(shape, np.eye(4))
    )


@pytest.mark.parametrize("shape", [(6, 8, 8), (40, 50, 60), (9, 200, 33)])
def test_every_case_gets_one_shape_and_a_foreground(shape):
    box = tuple(slice(n // 4, n - n // 4) for n in shape)
    view = case_view(prepared(shape, box=box)).array
    assert view.shape == (3, *VIEW_SHAPE)
    assert view.dtype == np.float16
    assert np.isfinite(view).all()
    assert set(np.unique(view[-1])) <= {0, 1}
    assert view[-1].any()


def test_the_same_relative_place_is_the_same_position_in_a_large_and_a_small_patient():
    small, large = np.zeros((2, 12, 12, 12), np.float16), np.zeros((2, 48, 48, 48), np.float16)
    small[:, 2:6, 2:6, 2:6], large[:, 8:24, 8:24, 8:24] = 1, 1
    views = []
    for array, box in ((small, slice(1, 11)), (large, slice(4, 44))):
        inside = np.zeros(array.shape[1:], dtype=bool)
        inside[box, box, box] = True
        case = PreparedCase(
            "p", ("CT", "PET"), array, inside, np.array([True, True]), Grid(array.shape[1:], np.eye(4))
        )
        views.append(case_view(case, shape=(8, 8, 8)).array.astype(float))
    assert np.corrcoef(views[0][0].ravel(), views[1][0].ravel())[0, 1] > 0.9


def test_level_and_gain_of_a_scanner_leave_no_trace():
    plain, other = case_view(prepared()).array, case_view(prepared(level=3.0, gain=2.0)).array
    np.testing.assert_allclose(plain, other, atol=0.02)


def test_an_absent_modality_is_zero_and_a_constant_one_is_no_nan():
    view = case_view(prepared(present=(True, False)))
    assert (view.array[1] == 0).all()
    assert view.present.tolist() == [True, False]
    assert np.isfinite(case_view(prepared(gain=0.0, level=1.0)).array).all()


def test_a_case_without_foreground_is_taken_whole():
    case = prepared()
    case.foreground[:] = False
    assert (case_view(case).array[-1] == 1).all()


def test_a_value_that_is_not_finite_is_refused_by_name():
    case = prepared()
    case.array[0, 10, 10, 20] = np.nan
    with pytest.raises(ValueError, match="the prepared case p01 must hold finite values"):
        case_view(case)


def test_a_voxel_of_a_view_has_the_size_that_the_box_gives_it():
    case = prepared((20, 30, 40), box=(slice(4, 16), slice(6, 24), slice(10, 34)))
    view = case_view(case, shape=(7, 10, 13))  # the box and a voxel of margin on each side: 14, 20, 26
    assert view.voxel_mm.tolist() == [2.0, 2.0, 2.0]


def test_a_view_comes_back_from_its_file_and_a_broken_file_counts_as_none(tmp_path):
    view, file = case_view(prepared(present=(True, False))), tmp_path / "views" / "a.npz"
    assert CaseView.load(file) is None
    view.save(file)
    again = CaseView.load(file)
    np.testing.assert_array_equal(again.array, view.array)
    np.testing.assert_array_equal(again.present, view.present)
    np.testing.assert_array_equal(again.properties.signal_to_noise, view.properties.signal_to_noise)
    file.write_bytes(file.read_bytes()[:500])
    assert CaseView.load(file) is None


def test_a_pool_is_put_into_one_file_in_its_order_and_mapped_from_disk(tmp_path):
    asked = []

    def made():
        for number in range(3):
            asked.append(number)
            yield case_view(prepared(seed=number, present=(True, number != 1)), shape=(4, 8, 8))

    views, properties = gather_views(made(), 3, tmp_path / "views.npy")
    assert asked == [0, 1, 2]
    assert views.views.shape == (3, 2, 4, 8, 8)
    assert views.foreground.shape == (3, 4, 8, 8)
    assert views.present.tolist() == [[True, True], [True, False], [True, True]]
    np.testing.assert_array_equal(views.array[2], case_view(prepared(seed=2), shape=(4, 8, 8)).array)
    assert properties.foreground_ml.shape == (3,)
    assert np.isnan(properties.signal_to_noise[:, 1]).tolist() == [False, True, False]
    assert len(pickle.dumps(views)) < 2000  # another process maps the file


def test_an_empty_pool_is_refused(tmp_path):
    with pytest.raises(ValueError, match="at least one case; got none"):
        gather_views([], 0, tmp_path / "views.npy")


def test_real_patients_come_through_the_cache(samples, tmp_path):
    names = ("STS_025", "STS_047")
    folder = samples(*names)
    files = {"CT": "CT.nii.gz", "PET": "PET_SUVx100.nii.gz", "MR_T1": "MR_T1.nii.gz"}
    cases = [
        Case(n, {m: Source(folder / n / f, scale=0.01 if m == "PET" else 1.0) for m, f in files.items()})
        for n in names
    ]
    preparation = Preparation(tuple(files), "MR_T1")
    cache = VolumeCache(
        tmp_path / "cache", preparation, Records(tmp_path / "records.sqlite"), max_bytes=10**9
    )
    views, properties = gather_views(
        (case_view(cache.get(case)) for case in cases), 2, tmp_path / "views.npy"
    )
    assert (properties.signal_to_noise > 1.0).all()
    assert (properties.foreground_ml > 100).all()
    assert views.present.all()
    inside = views.views.astype(np.float32)[views.foreground[:, None].repeat(3, axis=1) > 0.5]
    assert 0.1 < inside.std() < 3
