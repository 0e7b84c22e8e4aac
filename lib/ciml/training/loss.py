"""Loss of CIML: segmentation loss of every subtask plus the information cost of the messages.

    L = sum_k [Dice + BCE](subtask k) + beta * mean KL(q(z | x_a) || N(0, I))

as reconstructed from its abstract (Shen et al., Neural Networks 180 (2024) 106670), after the variational
information bottleneck (Alemi et al., arXiv 1612.00410). The mean is over voxels, channels, levels and
messages, so that beta keeps its meaning when the network's size changes. Voxels in and beside the regions
have half of the weight and all others have the other half, because a message is read near the lesion, while
nearly all voxels lie elsewhere: with equal weights they would pay 80 to 90 % of the price. This weighting is
ours. Beta is therefore a weight per nat of a channel of z, at a voxel that is as often near as far.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from monai.losses.dice import DiceLoss
from torch import Tensor
from torch.nn import functional

from lib.cases.formats.voxels import IGNORED
from lib.ciml.decomposition.table import Decomposition
from lib.ciml.network.ciml_network import Output
from lib.ciml.network.message import Message

# Maxima over blocks and over neighbours, by the number of axes.
_MAXIMA: dict[int, tuple[Callable[..., Tensor], Callable[..., Tensor]]] = {
    2: (functional.adaptive_max_pool2d, functional.max_pool2d),
    3: (functional.adaptive_max_pool3d, functional.max_pool3d),
}


@dataclass(frozen=True, eq=False)
class Loss:
    """Parts of the objective.

    Attributes:
        total: Loss to minimise.
        segmentation: Segmentation loss, summed over the subtasks.
        kl: Mean KL over all messages in nats per channel and voxel, near and far voxels balanced; 0 without
            messages.
        kl_by_level: Mean KL of each level; near zero means that the level's messages are ignored.
    """

    total: Tensor
    segmentation: Tensor
    kl: Tensor
    kl_by_level: dict[int, Tensor]

    def detached(self) -> Loss:
        """Loss without the autograd graph."""
        levels = {level: kl.detach() for level, kl in self.kl_by_level.items()}
        return Loss(self.total.detach(), self.segmentation.detach(), self.kl.detach(), levels)


def objective(
    output: Output,
    regions: Tensor,
    *,
    decomposition: Decomposition,
    beta: float,
) -> Loss:
    """Total loss of a batch.

    Args:
        output: Output of the network.
        regions: Masks of all regions, shape (B, R, D, H, W), 0 or 1, or `IGNORED`.
        decomposition: Decomposition, with the regions of each subtask.
        beta: Weight of the KL per nat.
    """
    segmentation = regions.new_zeros((), dtype=torch.float32)
    for subtask in decomposition.subtasks:
        target = regions[:, decomposition.region_indices(subtask)]
        segmentation = segmentation + segmentation_loss(output.logits[subtask.name], target)
    lesion = (regions == 1).any(dim=1, keepdim=True)
    near = {
        shape: near_voxels(lesion, shape) for shape in {tuple(each.mu.shape[2:]) for each in output.messages}
    }
    said = [
        (message.level, kl)
        for message in output.messages
        if (kl := mean_kl(message, near[tuple(message.mu.shape[2:])])) is not None
    ]
    kl = _mean([kl for _, kl in said], like=segmentation)
    levels = sorted({level for level, _ in said})
    by_level = {level: _mean([kl for at, kl in said if at == level], like=segmentation) for level in levels}
    return Loss(segmentation + beta * kl, segmentation, kl, by_level)


def segmentation_loss(logits: Tensor, target: Tensor) -> Tensor:
    """Soft Dice loss over the batch, averaged over regions, plus binary cross-entropy, averaged over voxels.

    Dice_r = 1 - (2 sum p y + 1) / (sum p + sum y + 1). The sums run over the batch, because
    a patch without the region would otherwise weigh as much as a patch that is full of it.

    Args:
        logits: Logits of the regions, shape (B, R, D, H, W).
        target: Masks of the regions, same shape, 0 or 1; voxels that are `IGNORED` take no part.
    """
    known = (target != IGNORED).float()
    logits, target = logits.float(), target.float() * known
    dice: Tensor = DiceLoss(batch=True, smooth_nr=1.0, smooth_dr=1.0)(torch.sigmoid(logits) * known, target)
    entropy = functional.binary_cross_entropy_with_logits(logits, target, weight=known, reduction="sum")
    return dice + entropy / known.sum().clamp(min=1.0)


def message_kl(message: Message) -> Tensor:
    """KL(N(mu, sigma^2) || N(0, 1)) of every voxel, in float32 under autocast too.

    KL = (mu^2 + sigma^2 - 1 - log sigma^2) / 2

    Returns:
        KL in nats, shape (B, Cz, D, H, W).
    """
    mu, logvar = message.mu.float(), message.logvar.float()
    return 0.5 * (mu.square() + logvar.exp() - 1.0 - logvar)


def near_voxels(lesion: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Voxels of a level that hold a voxel of the lesion, or touch one that does.

    Args:
        lesion: Voxels in any region, shape (B, 1, D, H, W) or (B, 1, H, W), bool.
        shape: Spatial shape of the level.

    Returns:
        Mask of shape (B, 1, *shape), bool.
    """
    pool, dilate = _MAXIMA[len(shape)]
    return dilate(pool(lesion.float(), shape), 3, stride=1, padding=1) > 0


def mean_kl(message: Message, near: Tensor) -> Tensor | None:
    """Mean KL over channels, voxels and the samples that have the sender; None if no sample has it.

    It is the mean of the mean over near voxels and the mean over the others, or one of them alone if there
    are no voxels of the other kind.

    Args:
        message: Message of one forward pass.
        near: Voxels of the message's level near the lesion, shape (B, 1, D, H, W), bool.
    """
    kl = message_kl(message).mean(dim=1, keepdim=True)
    if message.present is not None:
        kl, near = kl[message.present], near[message.present]
    if not len(kl):
        return None
    inside = near.float()
    counts = inside.sum(), (1.0 - inside).sum()
    means = torch.stack([(kl * inside).sum(), (kl * (1.0 - inside)).sum()]) / torch.stack(counts).clamp(min=1)
    return means.sum() / (torch.stack(counts) > 0).sum()


def _mean(values: Sequence[Tensor], *, like: Tensor) -> Tensor:
    """Mean of scalars; 0 without any."""
    return torch.stack(list(values)).mean() if values else torch.zeros((), device=like.device)


def beta_at(step: int, *, steps: int, beta: float, warm_up: float) -> float:
    """Beta at a step: rises linearly from 0 over the first `warm_up` share of the steps, then constant.

    Raises:
        ValueError: If warm_up is not between 0 and 1.
    """
    if not 0.0 <= warm_up <= 1.0:
        raise ValueError(f"warm_up must be between 0 and 1; got {warm_up}.")
    ramp = warm_up * steps
    return beta if step >= ramp else beta * step / ramp
