"""Where modalities disagree, as blocks on a case's grid."""

from __future__ import annotations

import numpy as np
import pytest

from lib.mdal.representation.positions import position_box
from lib.views.pictures.patch_map import OUTSIDE, pairs_of, patch_map, place_of, scale_of
from lib.views.pictures.thumbnails import Patches
from tests.views.pictures.test_thumbnails import LEFT_FRONT_HIGH, affines, position_of, prepared

POSITIONS = 216


def patches(**nats: np.ndarray) -> Patches:
    """One pair, CT/PET, of some cases."""
    values = np.stack([of[None] for of in nats.values()]).astype(np.float16)
    return Patches({id: row for row, id in enumerate(nats)}, ("CT/PET",), values)


@pytest.mark.parametrize("orientation", ["ras", "lps", "coronal"])
def test_the_block_that_differs_most_lies_where_it_was_measured(orientation: str) -> None:
    case = prepared(*affines()[orientation])
    nats = np.full(POSITIONS, 1.0)
    position = position_of(case)
    nats[position] = -2.5
    map = patch_map(case, patches(p=nats), "CT/PET")
    assert map.grid is case.grid
    most = map.array == 2.5
    assert most[position_box(position, case.foreground)].mean() > 0.5  # later blocks overlap its rim
    x, y, z = LEFT_FRONT_HIGH
    assert place_of(case, position) == pytest.approx((-x, y, z), abs=16.0)
    voxel = (np.linalg.inv(case.grid.affine) @ [*place_of(case, position), 1.0])[:3].round().astype(int)
    assert most[tuple(voxel[::-1])]


def test_what_lies_at_no_position_is_below_every_difference() -> None:
    case = prepared(*affines()["ras"])
    nats = np.full(POSITIONS, np.nan)
    nats[100] = 0.5
    map = patch_map(case, patches(p=nats), "CT/PET").array
    assert set(np.unique(map)) == {OUTSIDE, -0.5}


def test_a_pair_that_a_case_lacks_is_not_offered() -> None:
    known = patches(p=np.zeros(POSITIONS), lacks=np.full(POSITIONS, np.nan))
    assert pairs_of(known, "p") == ("CT/PET",)
    assert pairs_of(known, "lacks") == ()
    assert pairs_of(known, "unscored") == ()


def test_the_colours_mean_the_same_for_every_case() -> None:
    nats = -np.linspace(0.0, 1.0, POSITIONS)
    scale = scale_of(patches(p=nats, q=nats + 1.0), "CT/PET")
    assert scale.low == pytest.approx(0.0, abs=0.01)
    assert 0.9 < scale.high < 1.0
