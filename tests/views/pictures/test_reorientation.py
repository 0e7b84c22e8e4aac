"""Arrays along the patient's axes: each voxel stays at its place in the patient."""

from itertools import permutations, product

import numpy as np
import pytest

from lib.cases.formats.image import Grid
from lib.views.pictures.reorientation import Reorientation

SHAPE = (3, 4, 5)
GRIDS = [
    (order, signs) for order in permutations(range(3)) for signs in product((1.0, -1.0), repeat=3)
]  # all 48 orientations


def grid_of(order: tuple[int, ...], signs: tuple[float, ...]) -> Grid:
    affine = np.zeros((4, 4))
    for column, (row, sign) in enumerate(zip(order, signs, strict=True)):
        affine[row, column] = sign * (1.0 + column)
    affine[:, 3] = 10.0, 20.0, 30.0, 1.0
    return Grid(SHAPE, affine)


@pytest.mark.parametrize(("order", "signs"), GRIDS)
def test_volume_box_and_index_agree_and_run_to_left_posterior_and_superior(order, signs) -> None:
    grid = grid_of(order, signs)
    patient = Reorientation.to("LPS", grid)
    volume = np.arange(np.prod(SHAPE)).reshape(SHAPE)
    shown = patient.volume(volume)
    voxel = (4, 1, 2)  # W, H, D
    index = patient.index(voxel)
    assert shown[index] == volume[voxel[::-1]]
    assert patient.voxel(index) == voxel
    box = (slice(1, 3), slice(0, 2), slice(2, 5))
    np.testing.assert_array_equal(np.sort(shown[patient.box(box)], axis=None), volume[box].ravel())
    middle = [(size - 1) / 2 for size in shown.shape]
    for axis, (towards, step) in enumerate(zip((-1, -1, 1), patient.spacing, strict=True)):
        ahead = [at + (other == axis) for other, at in enumerate(middle)]
        here, there = (grid.affine @ [*patient.voxel(place), 1.0] for place in (middle, ahead))
        moved = np.zeros(3)
        moved[axis] = towards * step
        np.testing.assert_allclose((there - here)[:3], moved, atol=1e-12)
