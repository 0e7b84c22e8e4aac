"""A training that the ranks of torchrun share, or one process does alone."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import distributed

from lib.ciml.network.ciml_network import CimlNetwork
from lib.ciml.training.ranks import Ranks
from lib.ciml.training.train import EpochReport, TrainingResult, TrainingSettings, train
from lib.pipeline.settings import AppSettings
from lib.pipeline.training_data import LabelledCases
from lib.pipeline.workspace import Workspace
from lib.runtime.distributed import OnProgress, share_out


class SharedTraining:
    """A training as the first rank sees it; what is sent to another rank is its `Share`."""

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
        """Train `network` in place, see `lib.ciml.training.train.train`."""
        self.workspace, self.cases, self.network, self.settings = workspace, cases, network, settings
        self.state_file, self.stop = state_file, stop
        self.listeners: list[Callable[[EpochReport], None]] = []
        self.result = TrainingResult()

    def __call__(self, piece: int, device: torch.device, tell: OnProgress) -> None:
        """Train, and tell who listens."""

        def tell_all(report: EpochReport) -> None:
            for listener in self.listeners:
                listener(report)

        self.result = train(
            self.network,
            self.cases.read(self.workspace, self.cases.learn),
            self.cases.read(self.workspace, self.cases.check),
            self.settings,
            seed=self.workspace.settings.seed,
            device=device,
            on_epoch=tell_all,
            stop=self.stop,
            state_file=self.state_file,
            ranks=Ranks.joined(),
        )

    def __reduce__(self) -> tuple[Any, ...]:
        """Another rank gets its share."""
        return Share, (
            self.workspace.folders.address,
            self.workspace.settings,
            self.cases,
            self.network,
            self.settings,
        )


@dataclass(frozen=True, eq=False)
class Share:
    """The part of every rank but the first: steps on patches of its own, nothing told and nothing kept."""

    studies: str
    conf: AppSettings
    cases: LabelledCases
    network: CimlNetwork
    settings: TrainingSettings

    def __call__(self, piece: int, device: torch.device, tell: OnProgress) -> None:
        """Take part until the first rank is done."""
        workspace = Workspace(self.studies, self.conf)
        train(
            self.network,
            self.cases.read(workspace, self.cases.learn),
            (),
            self.settings,
            seed=workspace.settings.seed,
            device=device,
            ranks=Ranks.joined(),
        )


def run_shared(training: SharedTraining, device: torch.device) -> TrainingResult:
    """Do it on every rank there is; alone with the threads that this process has.

    Args:
        training: Its network holds the weights afterwards.
        device: Where to train; under torchrun each rank of a machine takes a GPU of its own.
    """
    if distributed.is_initialized():
        share_out(training, range(distributed.get_world_size()), device=device)
    else:
        training(0, device, lambda done: None)
    return training.result
