"""Dice that is lost when a modality is absent, or when its messages are left out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Generator, Tensor, nn

from benchmarks.common.patients import dice, outline
from lib.ciml.decomposition.subtask import Region, Subtask
from lib.ciml.decomposition.table import Decomposition
from lib.ciml.network.ciml_network import CimlNetwork, Output
from lib.ciml.training.patches import TrainingCase

Pair = tuple[str, str]  # (sender, subtask)
ALL = "all"  # in place of a subtask: all messages of the sender


@dataclass(frozen=True)
class Outlines:
    """The part of a decomposition that inference reads; each subtask's outline is a region of its own."""

    regions: tuple[Region, ...]
    subtasks: tuple[Subtask, ...]

    @classmethod
    def of(cls, decomposition: Decomposition) -> Outlines:
        """Make it from a decomposition whose subtasks outline one region each."""
        return cls(
            tuple(Region(task.name, (1,)) for task in decomposition.subtasks),
            tuple(replace(task, regions=(task.name,)) for task in decomposition.subtasks),
        )


class Apart(nn.Module):
    """A network whose subtasks are not averaged and of which one sender can be silenced."""

    def __init__(self, network: CimlNetwork, silent: str | None = None) -> None:
        """Wrap a network; None silences no sender."""
        super().__init__()
        self.network, self.modalities, self.settings = network, network.modalities, network.settings
        self.decomposition: Any = Outlines.of(network.decomposition)
        self.silent = frozenset((silent, task.name) for task in self.decomposition.subtasks if silent)

    def forward(
        self, x: Tensor, present: Tensor | None = None, *, generator: Generator | None = None
    ) -> Output:
        """The network's output without the messages of the silent sender; its regions are the subtasks."""
        output: Output = self.network(x, present, generator=generator, silent=self.silent)
        return replace(output, reliability=None)


def subsets(modalities: Sequence[str]) -> Iterator[tuple[str, ...]]:
    """Every choice of at least one modality, starting with all of them."""
    for size in range(len(modalities), 0, -1):
        yield from combinations(modalities, size)


def dice_of_subsets(network: Any, cases: Sequence[TrainingCase]) -> dict[str, dict[str, float]]:
    """Dice of each case for each incomplete choice of modalities, by the present names joined with +."""
    found = {}
    for subset in list(subsets(network.modalities))[1:]:
        present = np.array([name in subset for name in network.modalities])
        found["+".join(subset)] = {
            case.prepared.id: round(dice(outline(network, case, present), case, network.decomposition), 5)
            for case in cases
        }
    return found


def silenced(network: CimlNetwork, case: TrainingCase) -> dict[Pair, dict[str, float]]:
    """Loss of Dice when the messages of a sender are left out.

    Subtasks do not exchange anything, so each sender is silenced for all subtasks in one pass. The average
    with the sender silent for one subtask alone is then composed from the outlines of both passes.

    Returns:
        Losses by (sender, subtask), and by (sender, "all") without any of the sender's messages. `loss` is
        the loss of the average over the subtasks, `subtask_loss` the loss of the subtask's own outline (NaN
        for "all").
    """
    tasks = network.decomposition.subtasks
    full = outline(Apart(network), case)  # (K, D, H, W), one channel per subtask
    whole, losses = _dice_of_mean(full, network, case), {}
    for sender in network.modalities:
        unheard = outline(Apart(network, sender), case)
        losses[sender, ALL] = {
            "loss": whole - _dice_of_mean(unheard, network, case),
            "subtask_loss": float("nan"),
        }
        for place, task in enumerate(tasks):
            if sender in task.auxiliary:
                mixed = full.copy()
                mixed[place] = unheard[place]
                own = [_dice_of_mean(parts[[place]], network, case) for parts in (full, unheard)]
                losses[sender, task.name] = {
                    "loss": whole - _dice_of_mean(mixed, network, case),
                    "subtask_loss": own[0] - own[1],
                }
    return losses


def _dice_of_mean(parts: NDArray[np.float32], network: CimlNetwork, case: TrainingCase) -> float:
    return dice(parts.mean(axis=0, keepdims=True), case, network.decomposition)
