"""Boxes around masks, and the box of one grid that another grid covers."""

import numpy as np
import pytest

from lib.cases.boxes import bounding_box, covered_box, grid_of_box, padded_box, whole_box
from lib.cases.formats.image import Grid


def test_the_box_around_a_mask_holds_all_of_it_and_has_it_on_every_face() -> None:
    mask = np.zeros((7, 9, 11), dtype=bool)
    mask[2, 3:5, 10] = mask[4, 8, 1] = True
    assert bounding_box(mask) == (slice(2, 5), slice(3, 9), slice(1, 11))
    assert bounding_box(mask.T) == (slice(1, 11), slice(3, 9), slice(2, 5))
    assert bounding_box(mask[:, ::-1]) == (slice(2, 5), slice(0, 6), slice(1, 11))


def test_an_empty_mask_has_no_box() -> None:
    assert bounding_box(np.zeros((2, 3, 4), dtype=bool)) is None


def test_a_margin_ends_at_the_ends_of_the_array() -> None:
    box = (slice(2, 5), slice(0, 6), slice(10, 11))
    assert padded_box(box, (1, 2, 3), (7, 9, 11)) == (slice(1, 6), slice(0, 8), slice(7, 11))
    assert padded_box(whole_box((7, 9, 11)), (4, 4, 4), (7, 9, 11)) == whole_box((7, 9, 11))


def test_the_grid_of_a_box_keeps_the_place_of_each_voxel_in_the_patient() -> None:
    affine = np.array([[0.0, -1.6, 1.8, 7.0], [1.5, 0.0, 0.0, -3.0], [0.0, 1.2, 2.4, 11.0], [0, 0, 0, 1]])
    part = grid_of_box(Grid((7, 9, 11), affine), (slice(2, 5), slice(3, 9), slice(1, 11)))
    assert part.shape == (3, 6, 10)
    np.testing.assert_allclose(part.affine @ [0, 0, 0, 1], affine @ [1, 3, 2, 1])
    np.testing.assert_allclose(part.affine @ [4, 2, 1, 1], affine @ [5, 5, 3, 1])


@pytest.mark.parametrize("turned", [False, True])
def test_every_voxel_inside_another_grid_is_in_the_covered_box(turned: bool) -> None:
    grid = Grid((20, 24, 28), np.diag([2.0, -2.0, 3.0, 1.0]))
    angle = 0.4 if turned else 0.0
    other = np.eye(4)
    other[:2, :2] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    other[:3, 3] = 20.0, -30.0, 21.0
    by = Grid((5, 8, 9), other)
    box = covered_box(grid, by=by)
    assert box is not None
    d, h, w = np.indices(grid.shape)
    places = np.stack([w, h, d, np.ones_like(d)], axis=-1) @ grid.affine.T
    there = places @ np.linalg.inv(by.affine).T
    inside = ((there[..., :3] >= -0.5) & (there[..., :3] <= np.array(by.shape[::-1]) - 0.5)).all(axis=-1)
    assert inside.any()
    held = np.zeros(grid.shape, dtype=bool)
    held[box] = True
    assert not (inside & ~held).any()
    assert held.sum() < held.size / 4


def test_a_grid_elsewhere_is_not_covered() -> None:
    affine = np.eye(4)
    affine[0, 3] = 100.0
    assert covered_box(Grid((4, 5, 6), np.eye(4)), by=Grid((4, 5, 6), affine)) is None
