"""Where modalities differ, on a case's grid."""

from __future__ import annotations

import numpy as np
import pytest

from lib.views.pictures.difference_map import OUTSIDE, colour_range, difference_map, middle_of
from tests.support.places import PLACES, differences, peak
from tests.views.pictures.test_thumbnails import LEFT_FRONT_HIGH, affines, position_of, prepared


@pytest.mark.parametrize("orientation", ["ras", "lps", "coronal"])
@pytest.mark.parametrize("direction", [1.0, -1.0])
def test_the_place_that_departs_most_lies_where_it_was_measured(orientation: str, direction: float) -> None:
    case = prepared(*affines()[orientation])
    found = differences({"p": peak(position_of(case), height=5 * direction)})
    map = difference_map(case, found, "CT/PET")
    assert map.grid is case.grid
    box = found.most_different(case, "CT/PET")
    assert box is not None
    most = map.array == map.array.max()
    assert most[box].mean() > 0.4  # later boxes overlap its rim
    x, y, z = LEFT_FRONT_HIGH
    assert middle_of(case, box) == pytest.approx((-x, y, z), abs=30.0)  # a place, 27 mm wide here
    voxel = (np.linalg.inv(case.grid.affine) @ [*middle_of(case, box), 1.0])[:3].round().astype(int)
    assert most[tuple(voxel[::-1])]


def test_what_lies_at_no_place_is_below_every_difference() -> None:
    case = prepared(*affines()["ras"])
    known = np.full(PLACES, np.nan)
    known[100] = -0.5
    map = difference_map(case, differences({"p": known}), "CT/PET").array
    assert len(np.unique(map)) == 2
    assert map.min() == OUTSIDE
    assert map.max() > 0


def test_the_colours_mean_the_same_for_every_case() -> None:
    ramp = np.linspace(0.0, 1.0, PLACES)
    scale = colour_range(differences({"p": ramp, "q": ramp - 1.0}), "CT/PET")
    assert 0.4 < scale.low < 0.65
    assert 0.8 < scale.high < 1.0
