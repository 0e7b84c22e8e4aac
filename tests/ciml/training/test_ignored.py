"""Voxels that nobody annotated: no loss, no gradient, no Dice, no centre of a patch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch

from lib.cases.formats.voxels import IGNORED
from lib.ciml.network.ciml_network import CimlNetwork
from lib.ciml.training.loss import segmentation_loss
from lib.ciml.training.patches import PatchSampler, TrainingCase, targets_of
from lib.ciml.training.train import TrainingSettings, train
from lib.ciml.training.validation import dice_of, surface_distance_of

MakeCase = Callable[..., TrainingCase]


def test_the_loss_is_that_of_the_annotated_voxels_alone() -> None:
    logits = torch.randn(2, 3, 4, 6, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    target = (logits.flip(0) > 0).to(torch.uint8)
    target[:, :, :, :2] = IGNORED
    whole = segmentation_loss(logits, target)
    torch.testing.assert_close(whole, segmentation_loss(logits[:, :, :, 2:], target[:, :, :, 2:]))


def test_an_ignored_voxel_has_no_gradient_and_a_patch_without_any_other_a_finite_loss() -> None:
    logits = torch.randn(1, 1, 4, 4, 4, requires_grad=True)
    target = torch.zeros(1, 1, 4, 4, 4, dtype=torch.uint8)
    target[..., 2:] = IGNORED
    segmentation_loss(logits, target).backward()
    assert logits.grad is not None
    assert not logits.grad[..., 2:].any()
    assert logits.grad[..., :2].all()
    assert torch.isfinite(segmentation_loss(logits, torch.full_like(target, IGNORED)))


def test_no_region_holds_an_ignored_voxel_and_each_says_that_it_is_unknown(network: CimlNetwork) -> None:
    label = np.array([[[0, 1, IGNORED]]], dtype=np.uint8)
    assert targets_of(label, network.decomposition).tolist() == [[[[0, 1, IGNORED]]]]


def test_no_patch_is_centred_on_what_nobody_annotated(make_case: MakeCase) -> None:
    case = make_case()
    label = np.full_like(case.label, IGNORED)
    label[:2] = 0
    sampler = PatchSampler(
        [replace(case, label=label)],
        roi_size=(8, 8, 8),
        foreground_share=1.0,
        generator=np.random.default_rng(0),
    )
    assert sampler._positions == [[]]


@pytest.mark.parametrize("measure", ["dice", "distance"])
def test_validation_does_not_count_what_nobody_annotated(network: CimlNetwork, measure: str) -> None:
    label = np.zeros((6, 8, 8), np.uint8)
    label[1:3, 2:6, 2:6] = 1
    predicted = label[None].astype(np.float32)
    predicted[0, 4:] = 1.0
    label[4:] = IGNORED
    if measure == "dice":
        assert dice_of(predicted, label, decomposition=network.decomposition)[0] == 1.0
    else:
        distance = surface_distance_of(
            predicted, label, decomposition=network.decomposition, spacing=(3.0, 1.0, 1.0)
        )
        assert distance[0] == 0.0


def test_a_training_learns_from_a_case_that_is_annotated_in_part(
    network: CimlNetwork, make_case: MakeCase
) -> None:
    case = make_case()
    label = case.label.copy()
    label[12:] = IGNORED
    settings = TrainingSettings(epochs=1, steps_per_epoch=2, batch_size=1, roi_size=(8, 16, 16))
    result = train(network, [replace(case, label=label)], [replace(case, label=label)], settings)
    assert np.isfinite(result.reports[0].loss)
    with pytest.raises(ValueError, match=r"must be 0\.\.1; got 254"):
        train(network, [replace(case, label=np.where(label == 1, 254, label))], [], settings)
