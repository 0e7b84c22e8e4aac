"""Training on the labels there are, in MONAI Label's child process."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

import torch
from monailabel.interfaces.tasks.train import TrainTask

from lib.ciml.training.train import TrainingError
from lib.pipeline.training import train_site, training_settings
from lib.pipeline.training_stats import TrainingStats
from lib.pipeline.workspace import Workspace
from lib.runtime.devices import spare_cores
from lib.runtime.errors import UserError
from lib.server.datastore import CaseDatastore
from lib.server.errors import ClientError
from lib.server.tasks.progress_log import ProgressLog

logger = logging.getLogger(__name__)


class CimlTrain(TrainTask):
    """CIML as reconstructed from its abstract, trained on every case with a final label."""

    def __init__(self, workspace: Workspace) -> None:
        """Train a site's model."""
        super().__init__("Train CIML on the cases with a final label")
        self.workspace = workspace

    def config(self) -> dict[str, Any]:
        """What a client can change, with its default."""
        return {"max_epochs": training_settings(self.workspace).epochs}

    def stats(self) -> dict[str, Any]:
        """The last or running training, as clients show it."""
        return TrainingStats(self.workspace.folders.work / "model").read()

    def __call__(self, request: Mapping[str, Any], datastore: CaseDatastore) -> dict[str, Any]:
        """Train, and publish what is not worse than the published model on the same validation patients.

        Args:
            request: `max_epochs` is used and nothing else: other keys that clients of MONAI Label send name
                devices and folders of the server, which the site's settings decide.
            datastore: Where the labels are.

        Raises:
            Refusal: If there are fewer labelled patients than a training needs, or it cannot go on.
        """
        epochs = check_epochs(request.get("max_epochs", self.config()["max_epochs"]))
        torch.set_num_threads(spare_cores())
        try:
            return train_site(self.workspace, epochs=epochs, on_progress=ProgressLog("training", logger))
        except (UserError, TrainingError) as err:
            raise ClientError(str(err)) from err


def check_epochs(asked: Any) -> int:
    """Epochs that a client asks for.

    Raises:
        Refusal: If it is no number of epochs.
    """
    if isinstance(asked, bool) or not isinstance(asked, int) or not 1 <= asked <= 100_000:
        raise ClientError(f"max_epochs must be a whole number from 1; got {str(asked)[:40]!r}.")
    return asked
