"""Loss of CIML: segmentation loss of every subtask plus the information cost of the messages.

    L = sum_k [Dice + BCE](subtask k) + beta * mean KL(q(z | x_a) || N(0, I))

as reconstructed from its abstract (Shen et al., Neural Networks 180 (2024) 106670), after the variational
information bottleneck (Alemi et al., arXiv 1612.00410). The mean is over voxels, channels, levels and
messages, so that beta keeps its meaning when the network's size changes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from monai.losses.dice import DiceLoss
from torch import Tensor
from torch.nn import functional

from lib.cases.formats.voxels import IGNORED
from lib.ciml.decomposition.table import Decomposition
from lib.ciml.network.ciml_network import Output
from lib.ciml.network.message import Message


@dataclass(frozen=True, eq=False)
class Loss:
    """Parts of the objective.

    Attributes:
        total: Loss to minimise.
        segmentation: Segmentation loss, summed over the subtasks.
        kl: Mean KL over all messages in nats per channel and voxel; 0 without messages.
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
    said = [(message.level, kl) for message in output.messages if (kl := mean_kl(message)) is not None]
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


def mean_kl(message: Message) -> Tensor | None:
    """Mean KL over channels, voxels and the samples that have the sender; None if no sample has it.

    Args:
        message: Message of one forward pass.
    """
    kl = message_kl(message)
    if message.present is not None:
        kl = kl[message.present]
    return kl.mean() if len(kl) else None


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
