"""Ranks: processes of torchrun that train one network data-parallel, each on its own patches."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import distributed, nn

Value = TypeVar("Value")


@dataclass(frozen=True)
class Ranks:
    """One process among those that train together.

    Attributes:
        rank: Number of the process; rank 0 validates, saves the state and publishes.
        size: Number of processes.
    """

    rank: int
    size: int

    @classmethod
    def joined(cls) -> Ranks | None:
        """Rank of this process; None if it trains alone."""
        if not distributed.is_initialized() or distributed.get_world_size() == 1:
            return None
        return cls(distributed.get_rank(), distributed.get_world_size())

    def average(self, parameters: Iterable[nn.Parameter]) -> None:
        """Replace every gradient by its mean over the ranks; a missing gradient counts as zero.

        All gradients are sent in one message. A modality that the patches of a rank lack leaves its encoder
        without a gradient, and the missing gradients differ between ranks and steps.
        """
        learned = [parameter for parameter in parameters if parameter.requires_grad]
        for parameter in learned:
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
        flat = torch.cat([parameter.grad.flatten() for parameter in learned if parameter.grad is not None])
        shared = flat.cpu()  # the ranks use gloo, which sums on the CPU
        distributed.all_reduce(shared)
        mean = (shared / self.size).to(flat.device)
        parts = mean.split([parameter.numel() for parameter in learned])
        for parameter, part in zip(learned, parts, strict=True):
            parameter.grad = part.view_as(parameter)

    def share(self, value: Value | None) -> Value:
        """Value of the first rank, on every rank."""
        box: list[Value | None] = [value]
        distributed.broadcast_object_list(box, src=0)
        shared = box[0]
        if shared is None:
            raise ValueError("the first rank must have something to share; got None.")
        return shared
