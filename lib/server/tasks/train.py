"""Training on the labelled cases, in MONAI Label's child process."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

import torch
from monailabel.interfaces.tasks.train import TrainTask

from lib.ciml.training.train import TrainingError
from lib.pipeline.training import train_workspace, training_settings
from lib.pipeline.training_stats import TrainingStats
from lib.pipeline.workspace import Workspace
from lib.runtime.devices import spare_cores
from lib.runtime.errors import UserError
from lib.server.datastore import CaseDatastore
from lib.server.errors import ClientError
from lib.server.tasks.progress_log import ProgressLog

logger = logging.getLogger(__name__)


class CimlTrain(TrainTask):
    """Training of CIML, as reconstructed from its abstract, on every case with a final label."""

    def __init__(self, workspace: Workspace) -> None:
        """Train the model of a workspace."""
        super().__init__("Train CIML on the cases with a final label")
        self.workspace = workspace

    def config(self) -> dict[str, Any]:
        """Options that a client can change, with their defaults."""
        return {"max_epochs": training_settings(self.workspace).epochs}

    def stats(self) -> dict[str, Any]:
        """Statistics of the running or last training, for clients."""
        return TrainingStats(self.workspace.folders.work / "model").read()

    def __call__(self, request: Mapping[str, Any], datastore: CaseDatastore) -> dict[str, Any]:
        """Train; publish the result unless the published model is better on the same validation patients.

        Args:
            request: Request with `max_epochs`. Other keys that MONAI Label's clients send are ignored: they
                name devices and folders of the server, which the settings decide.
            datastore: Datastore of the labels.

        Raises:
            ClientError: If too few patients are labelled, or the training cannot continue.
        """
        epochs = check_epochs(request.get("max_epochs", self.config()["max_epochs"]))
        torch.set_num_threads(spare_cores())
        try:
            return train_workspace(self.workspace, epochs=epochs, on_progress=ProgressLog("training", logger))
        except (UserError, TrainingError) as err:
            raise ClientError(str(err)) from err


def check_epochs(asked: Any) -> int:
    """Check the number of epochs that a client sent, and return it.

    Raises:
        ClientError: If it is not a whole number from 1 to 100,000.
    """
    if isinstance(asked, bool) or not isinstance(asked, int) or not 1 <= asked <= 100_000:
        raise ClientError(f"max_epochs must be a whole number from 1; got {str(asked)[:40]!r}.")
    return asked
