"""The objective against the equations."""

from __future__ import annotations

import pytest
import torch
from torch.distributions import Normal, kl_divergence

from lib.ciml.network.ciml_network import CimlNetwork, Output
from lib.ciml.network.message import Message
from lib.ciml.training.loss import (
    beta_at,
    mean_kl,
    message_kl,
    near_voxels,
    objective,
    segmentation_loss,
)


def _message(seed: int = 0, *, level: int = 0, present: tuple[bool, ...] = (True, True)) -> Message:
    random = torch.Generator().manual_seed(seed)
    mu, logvar = (torch.randn(2, 3, 2, 2, 2, generator=random) for _ in range(2))
    return Message("CT", "PET", level, mu, logvar, torch.ones(2, 1, 2, 2, 2), mu, torch.tensor(present))


def test_kl_is_that_of_torch_distributions() -> None:
    message = _message()
    expected = kl_divergence(Normal(message.mu, (message.logvar / 2).exp()), Normal(0.0, 1.0))
    torch.testing.assert_close(message_kl(message), expected)


def test_kl_is_computed_in_float32_from_half_precision() -> None:
    half = Message(
        "CT",
        "PET",
        0,
        *(torch.full((1, 1, 1, 1, 1), 1.0, dtype=torch.bfloat16) for _ in range(4)),
        torch.tensor([True]),
    )
    assert message_kl(half).dtype == torch.float32
    torch.testing.assert_close(message_kl(half).item(), (torch.e - 1) / 2)


def test_the_kl_weighs_messages_alike_and_leaves_out_who_was_absent(network: CimlNetwork) -> None:
    whole, half, none = _message(1), _message(2, present=(True, False)), _message(3, present=(False, False))
    first, second = message_kl(whole).mean(), message_kl(half)[0].mean()
    assert mean_kl(none, torch.zeros(2, 1, 2, 2, 2, dtype=torch.bool)) is None
    logits = {task.name: torch.zeros(2, 1, 2, 2, 2) for task in network.decomposition.subtasks}
    regions = torch.zeros(2, 1, 2, 2, 2)
    for messages, expected in (([whole, half, none], (first + second) / 2), ([], torch.tensor(0.0))):
        loss = objective(Output(logits, messages), regions, decomposition=network.decomposition, beta=1.0)
        torch.testing.assert_close(loss.kl, expected)


def test_half_of_the_price_is_paid_near_the_lesion_however_small_it_is() -> None:
    mu = torch.zeros(2, 1, 1, 8, 8)
    mu[0, 0, 0, 2, 2] = 4.0  # 8 nats at one voxel of 128
    said = Message("CT", "PET", 0, mu, torch.zeros_like(mu), mu, mu, None)
    near = torch.zeros(2, 1, 1, 8, 8, dtype=torch.bool)
    assert mean_kl(said, near).item() == pytest.approx(8 / 128)
    assert mean_kl(said, ~near).item() == pytest.approx(8 / 128)
    near[0, 0, 0, 2, 2:4] = True
    assert mean_kl(said, near).item() == pytest.approx(8 / 2 / 2)
    near[0, 0, 0, 2, 2] = False
    assert mean_kl(said, near).item() == pytest.approx(8 / 127 / 2)


@pytest.mark.parametrize("axes", [(8, 8), (4, 8, 8)])
def test_a_voxel_of_a_coarse_level_is_near_if_it_holds_or_touches_the_lesion(axes: tuple[int, ...]) -> None:
    lesion = torch.zeros(2, 1, *axes, dtype=torch.bool)
    lesion[0, ..., 1, 7] = True
    coarse = tuple(size // 2 for size in axes)
    near = near_voxels(lesion, coarse)
    assert near.shape == (2, 1, *coarse)
    expected = torch.zeros(4, 4, dtype=torch.bool)
    expected[0:2, 2:4] = True
    assert torch.equal(near[0, 0].reshape(-1, 4, 4).any(dim=0), expected)
    assert not near[1].any()


def test_the_price_rises_with_beta_and_the_messages_say_less(network: CimlNetwork) -> None:
    """Steps against the price alone: the higher beta is, the fewer nats the messages keep."""
    kept = []
    for beta in (0.0, 0.01, 1.0):
        torch.manual_seed(0)
        trained = CimlNetwork(network.decomposition, network.modalities, network.settings).train()
        optimiser = torch.optim.SGD(trained.parameters(), lr=0.5)
        x, regions = torch.randn(2, 3, 8, 16, 16), (torch.rand(2, 1, 8, 16, 16) < 0.1).to(torch.uint8)
        for _ in range(8):
            optimiser.zero_grad()
            loss = objective(trained(x), regions, decomposition=network.decomposition, beta=beta)
            loss.total.backward()
            optimiser.step()
        kept.append(float(loss.kl))
    assert kept[0] > kept[1] > kept[2] > 0.0


def test_the_segmentation_loss_is_dice_plus_cross_entropy() -> None:
    random = torch.Generator().manual_seed(0)
    logits = torch.randn(2, 3, 2, 3, 4, generator=random)
    target = (torch.rand(2, 3, 2, 3, 4, generator=random) < 0.3).float()
    dice, entropy = 0.0, 0.0
    for region in range(3):
        p, y = torch.sigmoid(logits[:, region]), target[:, region]
        dice += 1 - (2 * (p * y).sum() + 1) / (p.sum() + y.sum() + 1)
        entropy += -(y * p.log() + (1 - y) * (1 - p).log()).mean()
    torch.testing.assert_close(segmentation_loss(logits, target), (dice + entropy) / 3)


def test_the_gradient_is_exact() -> None:
    random = torch.Generator().manual_seed(0)
    mu, logvar = (torch.randn(1, 2, 1, 2, 2, dtype=torch.float64, generator=random) for _ in range(2))
    closed = message_kl(
        Message("CT", "PET", 0, mu.requires_grad_(), logvar.requires_grad_(), mu[:, :1], mu, None)
    ).sum()
    by_mu, by_logvar = torch.autograd.grad(closed, [mu, logvar])
    torch.testing.assert_close(by_mu, mu.detach())
    torch.testing.assert_close(by_logvar, (logvar.detach().exp() - 1) / 2, rtol=1e-5, atol=1e-6)


def test_the_objective_adds_up(network: CimlNetwork) -> None:
    random = torch.Generator().manual_seed(0)
    names = [task.name for task in network.decomposition.subtasks]
    logits = {name: torch.randn(2, 1, 2, 2, 2, generator=random) for name in names}
    regions = (torch.rand(2, 1, 2, 2, 2, generator=random) < 0.5).to(torch.uint8)
    messages = [_message(1, level=0), _message(2, level=1)]
    loss = objective(Output(logits, messages), regions, decomposition=network.decomposition, beta=0.1)
    parts = {name: segmentation_loss(logits[name], regions) for name in names}
    torch.testing.assert_close(loss.segmentation, parts["CT"] + parts["PET"] + parts["MR_T1"])
    torch.testing.assert_close(loss.kl, (loss.kl_by_level[0] + loss.kl_by_level[1]) / 2)
    torch.testing.assert_close(loss.total, loss.segmentation + 0.1 * loss.kl)


def test_extreme_logits_and_empty_masks_stay_finite() -> None:
    logits = torch.tensor([80.0, -80.0]).view(1, 2, 1, 1, 1).requires_grad_()
    loss = segmentation_loss(logits, torch.zeros(1, 2, 1, 1, 1))
    loss.backward()
    assert loss.isfinite()
    assert logits.grad is not None
    assert logits.grad.isfinite().all()


@pytest.mark.parametrize(("step", "expected"), [(0, 0.0), (5, 0.25), (10, 0.5), (20, 1.0), (99, 1.0)])
def test_beta_rises_in_a_line_then_stays(step: int, expected: float) -> None:
    assert beta_at(step, steps=100, beta=1.0, warm_up=0.2) == pytest.approx(expected)


def test_beta_without_warm_up_is_there_at_once() -> None:
    assert beta_at(0, steps=100, beta=0.3, warm_up=0.0) == 0.3
    with pytest.raises(ValueError, match="warm_up must be between 0 and 1"):
        beta_at(0, steps=100, beta=0.3, warm_up=2.0)
