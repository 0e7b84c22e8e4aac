"""InfoNCE against the equation, and encoders that learn to match modalities."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from pytorch_metric_learning.losses import NTXentLoss
from torch.nn.functional import normalize

from lib.mdal.representation.augmentation import Jitter, augment_views
from lib.mdal.representation.contrastive import ContrastiveSettings, info_nce, train_encoders
from lib.mdal.representation.encoder import Encoders, EncoderSettings, ModalityEncoder, foreground_positions
from lib.mdal.representation.views import PatientViews


def unit(*shape: int, seed: int = 0) -> torch.Tensor:
    return normalize(
        torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64), dim=-1
    )


def naive(first, second, temperature, groups=None, valid=None):
    """The equation, one term at a time."""
    terms = []
    for p in range(len(first)):
        for i in range(first.shape[1]):
            if valid is not None and not valid[p][i]:
                continue
            for x, y in ((first[p], second[p]), (second[p], first[p])):
                total = 0.0
                for j in range(len(y)):
                    negative = groups is None or groups[i] != groups[j]
                    if (j == i or negative) and (valid is None or valid[p][j]):
                        total += math.exp(float(x[i] @ y[j]) / temperature)
                terms.append(-float(x[i] @ y[i]) / temperature + math.log(total))
    return sum(terms) / len(terms)


def test_info_nce_is_the_equation_written_out():
    first, second = unit(5, 7, seed=1), unit(5, 7, seed=2)
    assert float(info_nce(first, second, 0.2)) == pytest.approx(naive(first[None], second[None], 0.2))


def test_dense_info_nce_is_the_equation_at_every_position_with_patients_and_gaps():
    first, second = unit(4, 6, 5, seed=3), unit(4, 6, 5, seed=4)
    groups = torch.tensor([0, 0, 1, 2, 2, 3])
    valid = torch.rand(4, 6, generator=torch.Generator().manual_seed(5)) > 0.3
    found = float(info_nce(first, second, 0.3, groups=groups, valid=valid))
    assert found == pytest.approx(naive(first, second, 0.3, groups.tolist(), valid.tolist()))


def test_info_nce_is_the_cross_modal_ntxent_of_pytorch_metric_learning():
    first, second = unit(9, 6, seed=1), unit(9, 6, seed=2)
    loss = NTXentLoss(temperature=0.2)

    def theirs(anchors, others):
        own, other = torch.arange(9), torch.arange(9)  # one object would mean one batch, without positives
        return float(loss(anchors, own, ref_emb=others, ref_labels=other))

    expected = (theirs(first, second) + theirs(second, first)) / 2
    assert float(info_nce(first, second, 0.2)) == pytest.approx(expected)


def test_both_directions_count_the_same():
    first, second = unit(3, 6, 5, seed=6), unit(3, 6, 5, seed=7)
    assert float(info_nce(first, second, 0.1)) == pytest.approx(float(info_nce(second, first, 0.1)))


def test_gradients_are_those_of_finite_differences():
    first, second = unit(2, 4, 3, seed=8).requires_grad_(), unit(2, 4, 3, seed=9).requires_grad_()
    temperature = torch.tensor(0.5, dtype=torch.float64, requires_grad=True)
    valid = torch.tensor([[True, True, True, False], [True, False, True, True]])
    groups = torch.tensor([0, 1, 1, 2])
    assert torch.autograd.gradcheck(
        lambda x, y, t: info_nce(x, y, t, groups=groups, valid=valid), (first, second, temperature)
    )


def test_loss_and_gradient_stay_finite_at_a_small_temperature_and_with_nothing_valid():
    first, second = unit(6, 4, seed=1).float().requires_grad_(), unit(6, 4, seed=2).float()
    for valid in (None, torch.zeros(6, dtype=torch.bool), torch.arange(6) == 2):
        loss = info_nce(first, second, 0.01, groups=torch.zeros(6, dtype=torch.long), valid=valid)
        (gradient,) = torch.autograd.grad(loss + info_nce(first, second, 0.01), first)
        assert loss.isfinite()
        assert gradient.isfinite().all()


def test_another_case_of_the_same_patient_is_never_a_negative():
    first, second = unit(3, 4, 5, seed=1), unit(3, 4, 5, seed=2)
    second[:, 1] = first[:, 0]  # the hardest of negatives, were it one
    of_one_patient, of_two = torch.tensor([0, 0, 1, 2]), torch.tensor([0, 3, 1, 2])
    kept = info_nce(first, second, 0.1, groups=of_one_patient)
    assert float(kept) < float(info_nce(first, second, 0.1, groups=of_two)) - 0.5
    assert info_nce(first[:, :2], second[:, :2], 0.1, groups=of_one_patient[:2]) == 0.0


def test_shapes_that_differ_are_refused():
    with pytest.raises(ValueError, match=r"must both be \(B, K\) or \(P, B, K\); got \(4, 3\) and \(5, 3\)"):
        info_nce(unit(4, 3), unit(5, 3), 0.1)


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
