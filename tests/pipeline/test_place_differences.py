"""Differences of the places of a plan: kept on disk, and the one that is marked."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from lib.pipeline.place_differences import PlaceDifferences
from tests.support.places import PLACES, differences, peak
from tests.views.pictures.test_thumbnails import affines, prepared

PAIRS = ("CT/MR", "CT/PET")


def test_places_are_kept_for_their_plan_and_read_in_parts(tmp_path: Path) -> None:
    known = differences({"a": peak(17), "b": np.stack([peak(99), np.full(PLACES, np.nan)])}, PAIRS)
    known.save(tmp_path, of="c")
    read = PlaceDifferences.load(tmp_path, of="c")
    assert isinstance(read.places, np.memmap)
    np.testing.assert_array_equal(read.places, known.places)
    assert (read.rows, read.pairs, read.view) == (known.rows, known.pairs, known.view)
    assert PlaceDifferences.load(tmp_path, of="another plan").rows == {}
    known.save(tmp_path, of="d")
    assert sorted(file.name for file in tmp_path.iterdir()) == ["d.json", "d.npy"]


def test_damaged_places_are_set_aside(tmp_path: Path) -> None:
    differences({"a": peak(17)}).save(tmp_path, of="c")
    (tmp_path / "c.npy").write_bytes(b"damaged")
    assert PlaceDifferences.load(tmp_path, of="c").rows == {}
    assert not (tmp_path / "c.npy").exists()


def test_a_pair_that_a_case_lacks_is_not_offered() -> None:
    known = differences({"p": peak(3), "lacks": np.full(PLACES, np.nan)})
    assert known.pairs_of("p") == ("CT/PET",)
    assert known.pairs_of("lacks") == ()
    assert known.pairs_of("unscored") == ()


def test_the_place_that_departs_most_of_a_pair_or_of_all_comes_first() -> None:
    known = differences({"a": np.stack([peak(43, height=9.0), peak(170, height=-6.0)])}, PAIRS)
    assert known.falling("a", "CT/MR")[0] == known.falling("a")[0] == 43
    assert known.falling("a", "CT/PET")[0] == 170
    assert not known.falling("a", "MR/PET").size
    assert not known.falling("b").size


def test_no_place_outside_the_body_or_in_air_is_marked() -> None:
    case = prepared(*affines()["ras"])
    place = 86  # in the middle of the body
    found = differences({"p": peak(place)})
    box = found.most_different(case)
    assert box == found.box(case, place)
    air = case.array.copy()
    air[0][box] = -1.0
    elsewhere = found.most_different(replace(case, array=air))
    assert elsewhere not in (None, box)
    foreground = case.foreground.copy()
    foreground[box] = False
    assert found.most_different(replace(case, foreground=foreground)) not in (None, box)
    assert found.most_different(replace(case, foreground=np.zeros_like(foreground))) is None
