"""How well encoders match modalities: against a count by hand, and by chance where they know nothing."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from lib.mdal.representation.contrastive import ContrastiveSettings, train_encoders
from lib.mdal.representation.encoder import Encoders, EncoderSettings, place_counts, place_shares
from lib.mdal.representation.matching import matched_share
from lib.mdal.representation.views import PatientViews

SHAPE = (4, 8, 8)
SETTINGS = EncoderSettings(width=4, strides=((1, 1, 1), (1, 2, 2), (2, 2, 2)), features=8)


def views_of(cases: int, groups: np.ndarray | None = None, *, seed: int = 0) -> PatientViews:
    """Two modalities that show one random field of each case."""
    random = np.random.default_rng(seed)
    field = np.repeat(np.repeat(random.normal(size=(cases, 1, *SHAPE[:1], 2, 2)), 4, axis=3), 4, axis=4)
    views = np.concatenate([field, -2 * field], axis=1) + 0.1 * random.normal(size=(cases, 2, *SHAPE))
    present, body = np.ones((cases, 2), dtype=bool), np.ones((cases, *SHAPE), dtype=np.float16)
    return PatientViews(
        views.astype(np.float16), present, body, np.arange(cases) if groups is None else groups
    )


def naive_share(encoders: Encoders, cases: PatientViews, held_out: np.ndarray) -> float:
    """One held-out case, place and candidate at a time."""
    with torch.inference_mode():
        batch, present, _ = cases.batch(np.arange(len(cases.views)))
        dense = encoders(batch, present)
    hits = []
    for row in held_out:
        for place in range(dense.shape[3]):
            anchor = dense[row, 0, :, place]
            likeness = {
                other: float(anchor @ dense[other, 1, :, place])
                for other in range(len(dense))
                if other == row or cases.groups[other] != cases.groups[row]
            }
            hits.append(max(likeness, key=likeness.__getitem__) == row)
    return float(np.mean(hits))


def test_the_share_is_the_count_over_cases_and_places() -> None:
    torch.manual_seed(0)
    encoders = Encoders(2, SETTINGS).eval()
    cases, held_out = views_of(9, np.array([0, 0, 1, 2, 3, 4, 5, 5, 6])), np.array([1, 4, 7])
    share, chance = matched_share(encoders, cases, held_out)
    assert share == pytest.approx(naive_share(encoders, cases, held_out))
    assert chance == pytest.approx(np.mean([1 / 8, 1 / 9, 1 / 8]))


def test_a_case_without_a_pair_has_no_share() -> None:
    cases = views_of(4)
    cases.present[3, 1] = False
    found = matched_share(Encoders(2, SETTINGS), cases, np.array([3]))
    assert np.isnan(found).all()


def test_a_training_keeps_the_weights_that_matched_held_out_patients_best_and_stops_when_none_get_better():
    cases, held_out = views_of(16), np.arange(12, 16)
    settings = ContrastiveSettings(steps=60, batch=8, learning_rate=2e-2, checks=6, encoder=SETTINGS)
    trained = train_encoders(
        cases, settings, torch.Generator().manual_seed(0), rows=np.arange(12), held_out=held_out
    )  # fmt: skip
    best = max(trained.course.matched.values())
    assert best > 3 * trained.course.chance
    assert trained.course.matched[trained.course.best_steps] == best
    share, _ = matched_share(trained.encoders, cases, held_out)
    assert share == pytest.approx(best)
    after = [step for step in trained.course.matched if step > trained.course.best_steps]
    assert trained.course.ended_early == (max(trained.course.matched) < 60)
    assert len(after) == 3 or not trained.course.ended_early
    assert len(after) <= 3


def test_held_out_patients_without_a_pair_decide_nothing() -> None:
    cases = views_of(8)
    cases.present[6:, 1] = False
    settings = ContrastiveSettings(steps=8, batch=4, checks=8, encoder=SETTINGS)
    trained = train_encoders(
        cases, settings, torch.Generator().manual_seed(0), rows=np.arange(6), held_out=np.arange(6, 8)
    )
    assert (trained.course.matched, trained.course.best_steps) == ({}, 8)


def test_a_place_is_the_surroundings_of_the_voxel_that_its_features_are_centred_on() -> None:
    view = torch.zeros(1, 12, 24, 24)
    view[0, :, 4:8] = 1.0
    shares = place_shares(view, (2, 4, 4)).view(6, 6, 6)
    assert shares[0, :, 0].tolist() == [0.0, 0.5, 0.5, 0.0, 0.0, 0.0]
    assert place_counts((13, 25, 26), (2, 4, 4)) == (7, 7, 7)
    assert (place_shares(torch.ones(2, 13, 25, 26), (2, 4, 4)) == 1).all()
    settings = EncoderSettings()
    for axis in range(3):
        seen = torch.zeros(1, 1, 12, 24, 24)
        index = [0, 0, 6, 12, 12]
        seen[tuple(index)] = 1.0
        torch.manual_seed(0)
        body = Encoders(1, settings).eval().encoders[0].body
        answer = (body(seen) - body(torch.zeros_like(seen))).abs().sum(dim=1)[0]
        along = answer.sum(dim=[other for other in range(3) if other != axis])
        middle = (along * torch.arange(len(along))).sum() / along.sum()
        assert float(middle) == pytest.approx(index[axis + 2] / settings.stride[axis], abs=0.2)
