"""Places of a pool in blocks, departures of neighbours, and heads that score other cases than their own."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from lib.mdal.scoring.heads import CrossFittedHead, Dense, GaussianHead
from lib.mdal.scoring.place_difference import departure, standardise_places
from lib.mdal.scoring.pool_places import CaseDifferences, FoldPlaces

COUNTS = (6, 8, 10)
PLACES = 480


def test_places_from_files_in_blocks_are_those_of_the_whole_pool(tmp_path: Path) -> None:
    nats = np.random.default_rng(0).normal(0.0, 2.0, (12, 2, PLACES)).astype(np.float16)
    nats[3, 1] = np.nan
    held_out = np.arange(12) % 3
    rows = [np.flatnonzero(held_out == fold) for fold in range(3)]
    files = [tmp_path / f"{fold}.npy" for fold in range(3)]
    for file, here in zip(files, rows, strict=True):
        np.save(file, nats[here])
    found = FoldPlaces(files, rows).differences()
    expected = standardise_places(nats.astype(np.float64), held_out)
    np.testing.assert_allclose(found.astype(np.float64), expected, atol=2e-2)


def test_neighbours_that_depart_together_count_more_than_a_place_alone() -> None:
    places = np.full((2, PLACES), 0.8)
    volume = places.reshape(2, *COUNTS)
    volume[0, 3, 4, 5] = 9.0
    volume[1, 2:5, 3:6, 4:7] = -3.0
    found = departure(places, COUNTS)
    assert found[1].max() == pytest.approx(3.0)
    assert found[0].max() == pytest.approx((26 * 0.8 + 9.0) / 27)


def test_a_place_at_the_edge_departs_no_more_than_one_inside() -> None:
    places = np.full((1, PLACES), 0.8)
    places[0, 200:] = np.nan
    found = departure(places, COUNTS)
    np.testing.assert_allclose(found[0, :200], 0.8)
    assert np.isnan(found[0, 200:]).all()


@pytest.mark.parametrize("direction", [1.0, -1.0])
def test_a_lesion_departs_in_few_places_and_damage_in_the_whole_case(direction: float) -> None:
    places = np.random.default_rng(1).normal(size=(20, 3, PLACES))
    places.reshape(20, 3, *COUNTS)[4, :, 2:4, 3:6, 4:7] += 6.0 * direction
    places[4, 2] = places[5, 2]  # the third pair does not see it
    places[11] += 2.0
    found = CaseDifferences.of(places.astype(np.float16), COUNTS)
    assert found.lesion.argmax() == 4
    assert found.lesion_by_pair[:, 0].argmax() == 4
    assert found.lesion_by_pair[4, 2] == found.lesion_by_pair[5, 2]
    assert found.damage.argmax() == 11


def cases(count: int) -> Dense:
    generator = torch.Generator().manual_seed(0)
    shared = torch.randn(count, 1, 4, 60, generator=generator)
    noise = torch.randn(count, 2, 4, 60, generator=generator)
    features = torch.nn.functional.normalize(shared + 0.5 * noise, dim=2)
    return Dense(features, torch.ones(count, 2, 60, dtype=torch.bool))


def test_each_case_is_scored_by_a_head_that_was_fitted_to_other_patients() -> None:
    dense, groups = cases(18), np.repeat(np.arange(9), 2)
    rows = np.arange(18)
    head = CrossFittedHead.fit(dense, rows, groups, otherwise=GaussianHead.fit(dense))
    found = head.pmi(dense, rows)
    for part in np.unique(head.part):
        own = head.part == part
        assert not set(groups[own]) & set(groups[~own])
        expected = GaussianHead.fit(dense.of_rows(~own)).pmi(dense.of_rows(own))
        torch.testing.assert_close(found[own], expected)


def test_too_few_patients_are_scored_by_the_head_of_the_training_patients() -> None:
    dense, other = cases(7), GaussianHead.fit(cases(20))
    head = CrossFittedHead.fit(dense, np.arange(7), np.arange(7), otherwise=other)
    torch.testing.assert_close(head.pmi(dense, np.arange(7)), other.pmi(dense))
    some = head.pmi(dense, np.arange(7), [])
    assert some.isnan().all()
