"""What is lost when a modality is absent, or when one of its messages is left out."""

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
ALL = "all"  # in place of a subtask: every message of the sender


@dataclass(frozen=True)
class Outlines:
    """What inference asks of a decomposition, with each subtask's outline as a region of its own."""

    regions: tuple[Region, ...]
    subtasks: tuple[Subtask, ...]

    @classmethod
    def of(cls, decomposition: Decomposition) -> Outlines:
        """Of subtasks that outline one region each."""
        return cls(
            tuple(Region(task.name, (1,)) for task in decomposition.subtasks),
            tuple(replace(task, regions=(task.name,)) for task in decomposition.subtasks),
        )


class Apart(nn.Module):
    """A network whose subtasks are not averaged, with a sender that says nothing."""

    def __init__(self, network: CimlNetwork, silent: str | None = None) -> None:
        """Take a network; silence none of its senders where none is named."""
        super().__init__()
        self.network, self.modalities, self.settings = network, network.modalities, network.settings
        self.decomposition: Any = Outlines.of(network.decomposition)
        self.silent = frozenset((silent, task.name) for task in self.decomposition.subtasks if silent)

    def forward(
        self, x: Tensor, present: Tensor | None = None, *, generator: Generator | None = None
    ) -> Output:
        """The network's answer."""
        output: Output = self.network(x, present, generator=generator, silent=self.silent)
        return output


def subsets(modalities: Sequence[str]) -> Iterator[tuple[str, ...]]:
    """Every choice of at least one, all of them first."""
    for size in range(len(modalities), 0, -1):
        yield from combinations(modalities, size)


def dice_of_subsets(network: Any, cases: Sequence[TrainingCase]) -> dict[str, dict[str, float]]:
    """Dice of each case with each choice that lacks a modality, by the modalities' names joined with +."""
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

    Subtasks do not hear each other, so a sender is silenced for all of them at once, and what the average
    becomes when it is silent for one alone follows.

    Returns:
        By (sender, subtask), and by (sender, "all") without any of its messages: `loss`, of the average over
        the subtasks, and `subtask_loss`, of that subtask's own outline (NaN for "all").
    """
    tasks = network.decomposition.subtasks
    full = outline(Apart(network), case)  # (K, D, H, W), a subtask each
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
