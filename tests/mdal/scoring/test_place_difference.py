"""Difference of a place on the scale of this place: levels vanish, a lesion and a damaged case stand out."""

from __future__ import annotations

import numpy as np
import pytest

from lib.mdal.scoring.place_difference import (
    case_difference,
    lesion_focused,
    standardise_places,
    whole_case,
)

CASES, PAIRS, PLACES = 30, 3, 200


@pytest.fixture
def nats() -> np.ndarray:
    """PMI with a level and a spread at each place."""
    random = np.random.default_rng(0)
    level, spread = random.normal(0, 3, (PAIRS, PLACES)), random.uniform(0.5, 4, (PAIRS, PLACES))
    return level + spread * random.normal(size=(CASES, PAIRS, PLACES))


def test_every_place_has_median_0_and_deviation_1(nats: np.ndarray) -> None:
    places = standardise_places(nats, np.zeros(CASES, dtype=np.intp))
    np.testing.assert_allclose(np.median(places, axis=0), 0.0, atol=1e-12)
    np.testing.assert_allclose(np.median(np.abs(places), axis=0), 1 / 1.4826)


def test_a_constant_of_a_fold_changes_nothing(nats: np.ndarray) -> None:
    held_out = np.arange(CASES) % 3
    moved = nats + np.array([0.0, 5.0, -7.0])[held_out][:, None, None]
    np.testing.assert_allclose(standardise_places(moved, held_out), standardise_places(nats, held_out))


def test_a_place_that_few_cases_know_is_unknown(nats: np.ndarray) -> None:
    nats[4:, 0, 7] = np.nan
    places = standardise_places(nats, np.zeros(CASES, dtype=np.intp))
    assert np.isnan(places[:, 0, 7]).all()
    assert np.isfinite(places[:, 1]).all()
    assert np.isfinite(case_difference(places)).all()


def test_a_lesion_moves_few_places_and_damage_the_whole_case(nats: np.ndarray) -> None:
    nats[3, :, :6] -= 20.0  # 3 % of the places
    nats[9] -= 6.0
    signed = case_difference(standardise_places(nats, np.zeros(CASES, dtype=np.intp)))
    focused = lesion_focused(signed) - whole_case(signed)
    assert focused.argmax() == 3
    assert whole_case(signed).argmax() == 9
    assert abs(whole_case(signed)[3]) < 0.5


def test_a_case_without_a_pair_has_no_difference() -> None:
    places = np.full((2, PLACES), np.nan)
    places[1] = np.arange(PLACES)
    assert np.isnan(lesion_focused(places)[0])
    assert np.isnan(whole_case(places)[0])
    assert lesion_focused(places)[1] == np.mean([PLACES - 1, PLACES - 2, PLACES - 3, PLACES - 4])
    assert lesion_focused(places, share=1e-9)[1] == PLACES - 1


@pytest.mark.parametrize("share", [0.0, -0.1, 1.1])
def test_a_share_beyond_its_bounds_is_refused(share: float) -> None:
    with pytest.raises(ValueError, match="share must be above 0 and at most 1"):
        lesion_focused(np.zeros((1, 5)), share)
