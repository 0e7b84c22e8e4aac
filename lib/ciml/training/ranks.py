"""The processes of torchrun that train one network together: data-parallel, one patch stream each."""

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
        rank: Its number; 0 validates, keeps the state and publishes.
        size: How many they are.
    """

    rank: int
    size: int

    @classmethod
    def joined(cls) -> Ranks | None:
        """This process among those that joined; None where it is alone."""
        if not distributed.is_initialized() or distributed.get_world_size() == 1:
            return None
        return cls(distributed.get_rank(), distributed.get_world_size())

    def average(self, parameters: Iterable[nn.Parameter]) -> None:
        """Put the mean over the ranks in every gradient; one that a rank lacks counts as zero there.

        One message for all of them: a modality that a rank's patches lack leaves its encoder without a
        gradient, and which these are differs from rank to rank and from step to step.
        """
        learned = [parameter for parameter in parameters if parameter.requires_grad]
        for parameter in learned:
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
        flat = torch.cat([parameter.grad.flatten() for parameter in learned if parameter.grad is not None])
        shared = flat.cpu()  # gloo, which the ranks join by, sums on the CPU
        distributed.all_reduce(shared)
        mean = (shared / self.size).to(flat.device)
        parts = mean.split([parameter.numel() for parameter in learned])
        for parameter, part in zip(learned, parts, strict=True):
            parameter.grad = part.view_as(parameter)

    def share(self, value: Value | None) -> Value:
        """What the first rank has, on every rank."""
        box: list[Value | None] = [value]
        distributed.broadcast_object_list(box, src=0)
        shared = box[0]
        if shared is None:
            raise ValueError("the first rank must have something to share; got None.")
        return shared
