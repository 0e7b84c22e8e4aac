"""Where patches come from, and what they lose."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from lib.cases.preprocessing import PreparedCase
from lib.ciml.training.patches import (
    Patch,
    PatchSampler,
    TrainingCase,
    augment_patch,
    drop_modalities,
    read_patch,
)


def _sampler(cases: list[TrainingCase], share: float, *, seed: int = 0) -> PatchSampler:
    return PatchSampler(
        cases, roi_size=(8, 8, 8), foreground_share=share, generator=np.random.default_rng(seed)
    )


RANDOM = np.random.default_rng(1)


def test_a_patch_asked_to_hit_the_lesion_hits_it(make_case: Callable[..., TrainingCase]) -> None:
    cases = [make_case(number, (40, 60, 60), radius=2.0) for number in range(3)]
    always, anywhere = _sampler(cases, 1.0), _sampler(cases, 0.0)
    assert all(always.draw(RANDOM).label.any() for _ in range(60))
    assert sum(anywhere.draw(RANDOM).label.any() for _ in range(60)) < 20


def test_a_small_structure_is_drawn_as_often_as_a_large_one(make_case: Callable[..., TrainingCase]) -> None:
    case = make_case(0, (40, 40, 40), radius=9.0)
    label = case.label.copy()
    label[:2, :2, :2] = 2
    sampler = _sampler([TrainingCase(case.prepared, label)], 1.0)
    assert 15 < sum((sampler.draw(RANDOM).label == 2).any() for _ in range(60)) < 45


def test_a_case_without_a_lesion_gives_patches_too(make_case: Callable[..., TrainingCase]) -> None:
    assert not _sampler([make_case(radius=0.0)], 1.0).draw(RANDOM).label.any()


@pytest.mark.parametrize("shape", [(3, 5, 20), (8, 8, 8), (30, 9, 11)])
def test_a_patch_has_its_size_whatever_the_case(
    make_case: Callable[..., TrainingCase], shape: tuple[int, int, int]
) -> None:
    sampler = _sampler([make_case(0, shape, radius=2.0)], 0.5)
    for _ in range(20):
        patch = sampler.draw(RANDOM)
        assert patch.image.shape == (3, 8, 8, 8)
        assert patch.label.shape == (8, 8, 8)


def test_image_and_label_of_a_patch_are_the_same_piece(make_case: Callable[..., TrainingCase]) -> None:
    case = make_case()
    patch = read_patch(case, np.array([5, 20, -4]), (8, 8, 8))
    np.testing.assert_array_equal(patch.image, case.prepared.array[:, 5:13, 20:28, :8])
    np.testing.assert_array_equal(patch.label, case.label[5:13, 20:28, :8])


class _Watched(np.ndarray):
    """An array that notes what is read of it."""

    reads: list[int]

    def __getitem__(self, key: object) -> np.ndarray:
        part = np.asarray(self)[key]
        self.reads.append(part.size)
        return part


def test_only_the_patch_is_read_of_a_case(make_case: Callable[..., TrainingCase]) -> None:
    case = make_case()
    array = np.asarray(case.prepared.array).view(_Watched)
    array.reads = []
    prepared = case.prepared
    watched = PreparedCase(
        prepared.id, prepared.modalities, array, prepared.foreground, prepared.present, prepared.grid
    )
    read_patch(TrainingCase(watched, case.label), np.zeros(3, dtype=np.int64), (8, 8, 8))
    assert array.reads == [3 * 8**3]


def test_mirroring_moves_image_and_label_together() -> None:
    label = np.random.default_rng(0).integers(0, 2, (4, 5, 6)).astype(np.uint8)
    patch = Patch(np.stack([label, label]).astype(np.float32), label, np.ones(2, dtype=bool))
    seen = set()
    for seed in range(12):
        turned = augment_patch(patch, jitter=0.0, generator=np.random.default_rng(seed))
        np.testing.assert_array_equal(turned.image[1], turned.label)
        seen.add(turned.label.tobytes())
    assert len(seen) > 4


def test_jitter_differs_between_modalities() -> None:
    patch = Patch(np.ones((2, 4, 4, 4), np.float32), np.zeros((4, 4, 4), np.uint8), np.ones(2, dtype=bool))
    turned = augment_patch(patch, jitter=0.1, generator=np.random.default_rng(0))
    assert turned.image[0].std() < 1e-6
    assert turned.image[0].mean() != turned.image[1].mean()


@pytest.mark.parametrize("probability", [0.0, 0.5, 1.0])
def test_modality_dropout_never_drops_all_and_never_invents(probability: float) -> None:
    generator = np.random.default_rng(0)
    present = np.array([True, False, True, True])
    draws = np.array(
        [drop_modalities(present, probability=probability, generator=generator) for _ in range(300)]
    )
    assert draws.any(axis=1).all()
    assert not draws[:, 1].any()
    assert draws.sum(axis=1).mean() == pytest.approx({0.0: 3.0, 0.5: 1.625, 1.0: 1.0}[probability], abs=0.15)


def test_a_label_on_another_grid_is_refused(make_case: Callable[..., TrainingCase]) -> None:
    case = make_case()
    with pytest.raises(ValueError, match="the label of p0 must be uint8"):
        TrainingCase(case.prepared, case.label[1:])
    with pytest.raises(ValueError, match="got int64"):
        TrainingCase(case.prepared, case.label.astype(np.int64))
