"""Cases spoilt on purpose."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from lib.mdal.scoring.perturbation import (
    SHIFT_MM,
    Displacement,
    erased,
    saliency_map,
    strangers,
    typical_appearance,
)


@pytest.mark.parametrize("groups", [[0, 1, 2, 3], [0, 0, 1, 1, 2], [3, 1, 1, 2, 2, 9]])
def test_a_modality_is_exchanged_with_another_patients_and_each_gives_once(groups):
    groups = np.array(groups)
    donor = strangers(groups, torch.Generator().manual_seed(0))
    assert sorted(donor) == list(range(len(groups)))
    assert (groups[donor] != groups).all()


def test_a_shift_moves_the_content_by_five_millimetres_along_one_axis():
    volumes = torch.zeros(6, 9, 9, 9)
    volumes[:, 4, 4, 4] = 1
    drawn = Displacement.draw(torch.full((6, 3), SHIFT_MM), torch.Generator().manual_seed(1))
    moved = drawn.shifted(volumes)
    places = moved.flatten(1).argmax(dim=1)
    distance = [abs(int(p) // 81 - 4) + abs(int(p) // 9 % 9 - 4) + abs(int(p) % 9 - 4) for p in places]
    assert distance == [1] * 6
    assert torch.allclose(moved.flatten(1).max(dim=1).values, torch.ones(6), atol=1e-4)
    axes = {tuple(int(n) for n in torch.nonzero(case == case.max())[0]) for case in moved}
    assert len(axes) > 1  # not the same way for all


def test_a_smaller_voxel_is_a_longer_way_in_voxels():
    volumes = torch.zeros(1, 21, 21, 21)
    volumes[:, 10, 10, 10] = 1
    drawn = Displacement.draw(torch.full((1, 3), SHIFT_MM / 4), torch.Generator().manual_seed(0))
    moved = drawn.shifted(volumes)
    place = torch.nonzero(moved[0] == moved[0].max())[0]
    assert (place - 10).abs().sum() == 4


def spread(volume: torch.Tensor) -> torch.Tensor:
    """Mean and variance of where a volume's mass lies, along each axis."""
    found = []
    for axis in range(3):
        mass = volume.sum(dim=[other for other in range(3) if other != axis]) / volume.sum()
        place = torch.arange(len(mass), dtype=torch.float32)
        mean = (mass * place).sum()
        found.append([mean, (mass * (place - mean) ** 2).sum()])
    return torch.tensor(found)


@pytest.mark.parametrize("voxel_mm", [5.0, 4.0, 3.3, 10.0, 25.0])
def test_the_control_of_a_shift_is_blurred_as_much_and_not_displaced(voxel_mm):
    volumes = torch.zeros(6, 15, 15, 15)
    volumes[:, 7, 7, 7] = 1
    drawn = Displacement.draw(torch.full((6, 3), voxel_mm), torch.Generator().manual_seed(2))
    for shifted, blurred in zip(drawn.shifted(volumes), drawn.blurred(volumes), strict=True):
        moved, still = spread(shifted), spread(blurred)
        way = (moved - 7.0)[:, 0].abs().sum()
        assert float(way) == pytest.approx(SHIFT_MM / voxel_mm, abs=1e-3)
        torch.testing.assert_close(still[:, 0], torch.full((3,), 7.0))
        torch.testing.assert_close(still[:, 1], moved[:, 1], atol=1e-3, rtol=0)


def test_what_lies_far_from_usual_is_conspicuous_and_is_what_is_erased():
    generator = torch.Generator().manual_seed(0)
    batch = torch.randn(3, 2, 12, 24, 24, generator=generator) * 0.1
    batch[1, :, 5:8, 10:15, 4:9] += 3
    foreground = torch.ones(3, 12, 24, 24)
    usual = torch.randn(2, 3, 12, 24, 24, generator=generator)
    typical = torch.stack([torch.zeros_like(usual[0]), torch.full_like(usual[0], 0.1)])
    where = saliency_map(batch, foreground, typical)
    assert where[1].max() > 3 * where[0].max()
    assert where[1, 6, 12, 6] > 0.9 * where[1].max()
    gone = erased(batch, 0, where)
    assert (gone[1, 6, 12, 6] == 0).all()
    assert torch.equal(gone[1, :, :, 15:], batch[1, 0, :, :, 15:])
    changed = (gone != batch[:, 0]).sum(dim=(1, 2, 3))
    assert (changed <= 3 * 5 * 5).all()
    assert (changed > 0).all()


def test_nothing_is_conspicuous_outside_the_foreground():
    batch, foreground = torch.ones(1, 1, 8, 8, 8), torch.zeros(1, 8, 8, 8)
    foreground[:, :4] = 1
    where = saliency_map(batch, foreground, torch.zeros(2, 2, 8, 8, 8))
    assert (where[:, 4:] == 0).all()
    assert (where[:, :4] > 0).all()


def test_an_absent_modality_counts_in_nothing_that_is_typical():
    views = np.random.default_rng(0).normal(3.0, 1.0, (9, 3, 4, 5, 6)).astype(np.float16)
    present = np.ones((9, 2), dtype=bool)
    present[:4, 1], views[:4, 1] = False, 0.0
    typical = typical_appearance(views, present).numpy()
    for channel, here in enumerate((views, views[4:], views)):
        seen = here[:, channel].astype(np.float32)
        np.testing.assert_allclose(typical[:, channel], [seen.mean(axis=0), seen.std(axis=0)], rtol=1e-5)
    assert (typical_appearance(views, np.zeros((9, 2), dtype=bool))[:, :2] == 0).all()
