import numpy as np
import pytest

from lib.cases.boxes import Box
from lib.cases.formats.image import Grid
from lib.cases.preprocessing import PreparedCase
from lib.mdal.representation.positions import position_box
from lib.mdal.representation.views import COARSE_SHAPE
from lib.views.pictures.thumbnails import displayed, thumbnail

LEFT_FRONT_HIGH = (60.0, 40.0, 20.0)  # mm to the left, to the front, to the head


def prepared(affine: np.ndarray, shape: tuple[int, int, int]) -> PreparedCase:
    """A block of a body, bright at one place that is told in mm."""
    k, j, i = np.indices(shape)
    x, y, z = np.tensordot(affine[:3, :3], np.stack([i, j, k]), axes=1) + affine[:3, 3, None, None, None]
    near = [np.abs(a - b) <= 8 for a, b in zip((-x, y, z), LEFT_FRONT_HIGH, strict=True)]
    inside = (np.abs(x) <= 80) & (np.abs(y) <= 60) & (np.abs(z) <= 40)
    array = np.where(np.logical_and.reduce(near), 1.0, np.where(inside, 0.0, -1.0)).astype(np.float16)
    return PreparedCase(
        "p", ("CT", "PET"), np.stack([array, array]), inside, np.array([True, True]), Grid(shape, affine)
    )


def affines() -> dict[str, tuple[np.ndarray, tuple[int, int, int]]]:
    ras = np.diag([4.0, 4.0, 8.0, 1.0])
    ras[:3, 3] = (-100.0, -80.0, -48.0)
    lps = np.diag([-4.0, -4.0, 8.0, 1.0])
    lps[:3, 3] = (100.0, 80.0, -48.0)
    coronal = np.array([[4.0, 0, 0, -100], [0, 0, 4.0, -80], [0, -8.0, 0, 48], [0, 0, 0, 1]])
    return {"ras": (ras, (13, 41, 51)), "lps": (lps, (13, 41, 51)), "coronal": (coronal, (41, 13, 51))}


def position_of(case: PreparedCase) -> int:
    """The position whose box holds the most of the bright place."""
    bright = case.array[0] > 0.5
    return max(range(216), key=lambda position: bright[box_of(case, position)].sum())


def box_of(case: PreparedCase, position: int) -> Box:
    return position_box(position, case.foreground, shape=COARSE_SHAPE)


@pytest.mark.parametrize("orientation", ["ras", "lps", "coronal"])
def test_the_patients_left_is_on_the_right_and_the_front_at_the_top(orientation: str) -> None:
    case = prepared(*affines()[orientation])
    shown = thumbnail(case, ("CT", "PET"), box_of(case, position_of(case)))
    height, width = shown.size_mm
    rows, columns = np.nonzero(shown.images[0] == 1.0)
    assert len(rows) > 0  # the slice goes through the marked place
    per_row, per_column = height / shown.images[0].shape[0], width / shown.images[0].shape[1]
    assert rows.mean() * per_row < height / 2
    assert columns.mean() * per_column > width / 2
    left, top, across, down = shown.marked_mm
    assert left <= columns.mean() * per_column <= left + across
    assert top <= rows.mean() * per_row <= top + down
    assert width == pytest.approx(160, abs=30)
    assert height == pytest.approx(120, abs=25)


def test_without_a_box_nothing_is_marked() -> None:
    case = prepared(*affines()["ras"])
    shown = thumbnail(case, ("PET",), None)
    assert shown.marked_mm is None
    assert shown.modalities == ("PET",)
    assert len(shown.images) == 1


def test_a_hot_place_is_dark_in_pet_and_air_is_black_in_ct_and_mr() -> None:
    body = np.array([[True, True, True, False]])
    image = np.array([[0.0, 0.5, 3.0, 0.0]], dtype=np.float32)
    assert displayed(image, body, "PET").tolist() == [[1.0, 0.5, 0.0, 1.0]]
    assert displayed(np.array([[-1.0, 0.0, 1.0, -1.0]], np.float32), body, "CT").tolist() == [[0, 0.5, 1, 0]]
    grey = displayed(np.array([[-2.0, 0.0, 2.0, 0.0]], np.float32), body, "MR_T1")
    assert grey[0, 3] == 0.0
    assert grey[0, 0] < grey[0, 1] < grey[0, 2]


def test_a_constant_slice_is_shown_without_a_warning() -> None:
    flat = np.zeros((2, 2), dtype=np.float32)
    assert np.isfinite(displayed(flat, np.zeros((2, 2), dtype=bool), "T2")).all()
