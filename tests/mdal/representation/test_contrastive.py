"""Encoders that learn to match modalities."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from lib.mdal.representation.augmentation import Jitter, augment_views
from lib.mdal.representation.contrastive import ContrastiveSettings, train_encoders
from lib.mdal.representation.encoder import Encoders, EncoderSettings, ModalityEncoder, foreground_positions
from lib.mdal.representation.views import PatientViews


def test_features_are_unit_vectors_at_a_quarter_of_the_view_and_zero_where_a_modality_is_absent():
    encoders = Encoders(3, EncoderSettings(width=4, features=6))
    present = torch.tensor([[True, True, True], [True, False, True]])
    dense = encoders(torch.randn(2, 3, 12, 24, 24), present)
    assert dense.shape == (2, 3, 6, 6 * 6 * 6)
    torch.testing.assert_close(dense.norm(dim=2)[present], torch.ones(5, 216))
    assert dense[1, 1].abs().max() == 0
    assert ModalityEncoder(EncoderSettings())(torch.randn(1, 1, 13, 25, 26)).shape == (1, 32, 7, 7, 7)
    assert foreground_positions(torch.ones(1, 13, 25, 26)).shape == (1, 7 * 7 * 7)


def test_the_temperature_starts_as_set_and_never_falls_below_its_bound():
    encoders = Encoders(2, EncoderSettings(temperature=0.07, min_temperature=0.02))
    assert float(encoders.temperature.detach()) == pytest.approx(0.07)
    with torch.no_grad():
        encoders.log_excess.fill_(-100.0)
    assert float(encoders.temperature.detach()) == pytest.approx(0.02)


def test_a_thin_case_keeps_one_position():
    foreground = torch.zeros(1, 12, 24, 24)
    foreground[0, 5, 5, 5] = 1
    assert foreground_positions(foreground).sum() == 1


def test_augmentation_differs_between_modalities_and_is_the_identity_without_jitter():
    views, inside = torch.rand(2, 1, 12, 24, 24).repeat(1, 3, 1, 1, 1) + 1, torch.ones(2, 12, 24, 24)
    still = augment_views(views, inside, Jitter(0.0, 0.0, 0.0, 0.0), torch.Generator().manual_seed(0))
    torch.testing.assert_close(still[:, :, 1:-1, 1:-1, 1:-1], views[:, :, 1:-1, 1:-1, 1:-1])
    moved = augment_views(views, inside, Jitter(), torch.Generator().manual_seed(0))
    assert (moved[:, 0] - moved[:, 1]).abs().mean() > 0.02


def test_the_outline_is_eroded_apart_in_each_modality():
    inside = torch.zeros(8, 12, 24, 24)
    inside[:, 2:10, 4:20, 4:20] = 1
    seen = augment_views(
        torch.ones(8, 3, 12, 24, 24), inside, Jitter(0, 0, 0, 0), torch.Generator().manual_seed(0)
    )
    kept = (seen > 0.5).sum(dim=(2, 3, 4))
    assert (kept <= inside[0].sum()).all()
    assert kept.unique().numel() > 1


def toy_views(cases: int = 12, *, seed: int = 0, shape=(4, 8, 8)):
    """Three modalities that show one random field of each case; a stand-in for shared anatomy."""
    generator = torch.Generator().manual_seed(seed)
    field = torch.nn.functional.interpolate(torch.randn(cases, 1, 2, 2, 2, generator=generator), shape)
    gain = torch.tensor([1.0, -2.0, 0.5]).view(1, 3, 1, 1, 1)
    views = field * gain + 0.1 * torch.randn(cases, 3, *shape, generator=generator)
    return views.half().numpy(), np.ones((cases, 3), dtype=bool), np.ones((cases, *shape), dtype=np.float16)


def train(views, present, foreground, *, seed=0, steps=25, groups=None, rows=None):
    settings = ContrastiveSettings(steps=steps, batch=8, encoder=EncoderSettings(width=4, features=8))
    groups = np.arange(len(views)) if groups is None else groups
    cases = PatientViews(views, present, foreground, groups)
    return train_encoders(cases, settings, torch.Generator().manual_seed(seed), rows=rows).encoders


def test_training_is_decided_by_the_generator():
    views, present, foreground = toy_views()
    first, again, other = (train(views, present, foreground, seed=seed, steps=4) for seed in (1, 1, 2))
    for a, b in zip(first.parameters(), again.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=0)
    assert any((a != b).any() for a, b in zip(first.parameters(), other.parameters(), strict=True))


def test_training_on_some_rows_never_reads_the_others():
    views, present, foreground = toy_views()
    rows = np.arange(8)
    clean = train(views, present, foreground, steps=4, rows=rows)
    views[8:] = np.nan
    for a, b in zip(
        clean.parameters(), train(views, present, foreground, steps=4, rows=rows).parameters(), strict=True
    ):
        torch.testing.assert_close(a, b, rtol=0, atol=0)


def test_training_leaves_the_global_random_state_alone():
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    train(*toy_views(), steps=1)
    assert torch.rand(1) == expected


def test_training_matches_unseen_cases_and_survives_missing_modalities():
    views, present, foreground = toy_views(24)
    present[:6, 1] = False
    views[:6, 1] = 0
    encoders = train(views, present, foreground, rows=np.arange(16), steps=80)
    with torch.inference_mode():
        dense = encoders(torch.from_numpy(views[16:].astype(np.float32)), torch.from_numpy(present[16:]))
    critic = torch.einsum("ikp,jkp->pij", dense[:, 0], dense[:, 1])
    matched = (critic.argmax(dim=2) == torch.arange(8)).float().mean()
    assert matched > 0.35  # chance is 0.125


def test_a_modality_that_nobody_has_leaves_the_others_finite():
    views, present, foreground = toy_views()
    present[:, 2], views[:, 2] = False, 0
    encoders = train(views, present, foreground, steps=2)
    assert all(value.isfinite().all() for value in encoders.state_dict().values())


def test_one_patient_or_one_modality_cannot_be_contrasted():
    views, present, foreground = toy_views()
    with pytest.raises(ValueError, match="2 modalities and 2 patients; got 3 and 1"):
        train(views, present, foreground, groups=np.zeros(12, dtype=int))
    with pytest.raises(ValueError, match="2 modalities and 2 patients; got 1 and 12"):
        train(views[:, :1], present[:, :1], foreground)


@pytest.mark.parametrize("wrong", [{"batch": 1}, {"steps": 0}, {"positions": 0}])
def test_a_schedule_without_negatives_is_refused(wrong):
    with pytest.raises(ValueError, match="batch must be at least 2"):
        ContrastiveSettings(**wrong)


def test_encoder_settings_that_cannot_be_are_refused():
    with pytest.raises(ValueError, match="width and features must be at least 1; got 0 and 32"):
        EncoderSettings(width=0)
    with pytest.raises(ValueError, match="0 < min_temperature < temperature"):
        EncoderSettings(temperature=0.01)
