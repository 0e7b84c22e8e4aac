"""A training run shared by the ranks of torchrun, or done by one process alone."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import distributed

from lib.ciml.network.ciml_network import CimlNetwork
from lib.ciml.training.train import EpochReport, TrainingResult, TrainingSettings, train
from lib.pipeline.settings import AppSettings
from lib.pipeline.training_data import LabelledCases
from lib.pipeline.workspace import Workspace
from lib.runtime.distributed import share_out
from lib.runtime.progress import OnShareDone


class SharedTraining:
    """The training on the first rank; pickled for another rank, it becomes a `FollowerTraining`."""

    def __init__(
        self,
        workspace: Workspace,
        cases: LabelledCases,
        network: CimlNetwork,
        settings: TrainingSettings,
        *,
        state_file: Path,
        stop: Callable[[], bool],
    ) -> None:
        """Prepare to train `network` in place; the arguments are those of `lib.ciml.training.train.train`."""
        self.workspace, self.cases, self.network, self.settings = workspace, cases, network, settings
        self.state_file, self.stop = state_file, stop
        self.listeners: list[Callable[[EpochReport], None]] = []
        self.result = TrainingResult()

    def __call__(self, piece: int, device: torch.device, tell: OnShareDone) -> None:
        """Train, and report each epoch to every listener."""

        def notify_listeners(report: EpochReport) -> None:
            for listener in self.listeners:
                listener(report)

        self.result = train(
            self.network,
            self.cases.read(self.workspace, self.cases.learn),
            self.cases.read(self.workspace, self.cases.check),
            self.settings,
            seed=self.workspace.settings.seed,
            device=device,
            on_epoch=notify_listeners,
            stop=self.stop,
            state_file=self.state_file,
            together=distributed.is_initialized(),
        )

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle as the training of another rank."""
        return FollowerTraining, (
            self.workspace.folders.address,
            self.workspace.settings,
            self.cases,
            self.network,
            self.settings,
        )


@dataclass(frozen=True, eq=False)
class FollowerTraining:
    """The training on every other rank: it steps on its own patches, and reports and records nothing."""

    studies: str
    conf: AppSettings
    cases: LabelledCases
    network: CimlNetwork
    settings: TrainingSettings

    def __call__(self, piece: int, device: torch.device, tell: OnShareDone) -> None:
        """Train until the first rank is done."""
        workspace = Workspace(self.studies, self.conf)
        train(
            self.network,
            self.cases.read(workspace, self.cases.learn),
            (),
            self.settings,
            seed=workspace.settings.seed,
            device=device,
            together=True,
        )


def run_shared(training: SharedTraining, device: torch.device) -> TrainingResult:
    """Train on every rank of torchrun; without torchrun, in this process with its threads.

    Args:
        training: Training to run; its network holds the trained weights afterwards.
        device: Device to train on; under torchrun each rank of a machine takes a GPU of its own.
    """
    if distributed.is_initialized():
        share_out(training, range(distributed.get_world_size()), device=device)
    else:
        training(0, device, lambda done: None)
    return training.result
