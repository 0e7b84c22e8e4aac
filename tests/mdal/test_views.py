"""Cases as small arrays of one shape."""

from __future__ import annotations

import numpy as np
import pytest

from lib.cases.case import Case, Source
from lib.cases.image import Grid
from lib.cases.records import Records
from lib.cases.volumes import Preparation, PreparedCase, VolumeCache
from lib.mdal.views import VIEW_SHAPE, case_view, write_views


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
    view = case_view(prepared(shape, box=box))
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
        views.append(case_view(case, shape=(8, 8, 8)).astype(float))
    assert np.corrcoef(views[0][0].ravel(), views[1][0].ravel())[0, 1] > 0.9


def test_level_and_gain_of_a_scanner_leave_no_trace():
    plain, other = case_view(prepared()), case_view(prepared(level=3.0, gain=2.0))
    np.testing.assert_allclose(plain, other, atol=0.02)


def test_an_absent_modality_is_zero_and_a_constant_one_is_no_nan():
    view = case_view(prepared(present=(True, False)))
    assert (view[1] == 0).all()
    assert np.isfinite(case_view(prepared(gain=0.0, level=1.0))).all()


def test_a_case_without_foreground_is_taken_whole():
    case = prepared()
    case.foreground[:] = False
    assert (case_view(case)[-1] == 1).all()


def test_a_value_that_is_not_finite_is_refused_by_name():
    case = prepared()
    case.array[0, 10, 10, 20] = np.nan
    with pytest.raises(ValueError, match="the prepared case p01 must hold finite values"):
        case_view(case)


def test_a_pool_is_written_once_in_its_order_and_read_back_from_disk(tmp_path):
    cases = [Case(f"p{i}", {"CT": Source(tmp_path / "none.nii")}) for i in range(3)]
    asked = []

    def read(case):
        asked.append(case.id)
        return prepared(seed=int(case.id[1]), present=(True, case.id != "p1"))

    views = write_views(cases, read, tmp_path / "views.npy", shape=(4, 8, 8))
    assert asked == ["p0", "p1", "p2"]
    assert isinstance(views.array, np.memmap)
    assert views.views.shape == (3, 2, 4, 8, 8)
    assert views.foreground.shape == (3, 4, 8, 8)
    assert views.present.tolist() == [[True, True], [True, False], [True, True]]
    np.testing.assert_array_equal(views.array[2], case_view(prepared(seed=2), shape=(4, 8, 8)))


def test_an_empty_pool_is_refused(tmp_path):
    with pytest.raises(ValueError, match="at least one case; got none"):
        write_views([], prepared, tmp_path / "views.npy")


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
    views = write_views(cases, cache.get, tmp_path / "views.npy")
    assert views.present.all()
    inside = views.views.astype(np.float32)[views.foreground[:, None].repeat(3, axis=1) > 0.5]
    assert 0.1 < inside.std() < 3
