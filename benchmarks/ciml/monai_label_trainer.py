"""MONAI Label's own trainer on CIML's network, with the transforms of its example apps."""

from __future__ import annotations

import logging
import time
from pathlib import Path
from typing import Any

import torch
from monai.transforms.croppad.dictionary import RandCropByPosNegLabeld, SpatialPadd
from monai.transforms.intensity.dictionary import (
    NormalizeIntensityd,
    RandScaleIntensityd,
    RandShiftIntensityd,
    ScaleIntensityRanged,
)
from monai.transforms.io.dictionary import LoadImaged
from monai.transforms.post.dictionary import Activationsd, AsDiscreted
from monai.transforms.spatial.dictionary import RandFlipd
from monai.transforms.utility.dictionary import (
    ConcatItemsd,
    EnsureChannelFirstd,
    EnsureTyped,
    SelectItemsd,
    Transposed,
)
from monailabel.tasks.train.basic_train import BasicTrainTask
from torch import Tensor, nn

from lib.ciml.network.ciml_network import CimlNetwork, Output
from lib.ciml.training.loss import objective
from lib.ciml.training.train import TrainingSettings
from lib.pipeline.workspace import Workspace


def rival_times(
    workspace: Workspace,
    network: CimlNetwork,
    settings: TrainingSettings,
    device: torch.device,
    side: str,
    folder: Path,
) -> list[float]:
    """Train, and return the end of each epoch in seconds of the monotonic clock."""
    logging.disable(logging.WARNING)
    task = MonaiLabelTrain(folder, network, settings)
    names = network.modalities
    datalist = [
        {**{name: str(case.modalities[name].path) for name in names}, "label": str(label_of(case.label))}
        for case in workspace.pool.cases
    ]
    request = {
        "name": "rival",
        "model": "rival",
        "device": str(device),
        "max_epochs": settings.epochs,
        "train_batch_size": settings.batch_size,
        "val_split": 0.0,
        "multi_gpu": False,
        "dataset": side,
        "dataloader": "ThreadDataLoader",
        "tracking": "None",
    }
    task(request, _Datalist(datalist))
    return task.times


def label_of(path: Path | None) -> Path:
    """File with the contour of a patient.

    Raises:
        ValueError: If the patient has no contour.
    """
    if path is None:
        raise ValueError("every patient must have a contour beside its images.")
    return path


class _Datalist:
    """The part of a datastore that MONAI Label's trainer needs."""

    def __init__(self, datalist: list[dict[str, str]]) -> None:
        self._datalist = datalist

    def datalist(self) -> list[dict[str, str]]:
        return self._datalist


class _Logits(nn.Module):
    """The network with a single output tensor, which MONAI's trainer expects."""

    def __init__(self, network: CimlNetwork) -> None:
        super().__init__()
        self.network = network
        self.output = Output({}, [])

    def forward(self, x: Tensor) -> Tensor:
        """Mean of the subtasks' logits, shape (B, R, D, H, W), for the trainer's metric."""
        self.output = self.network(x)
        return torch.stack(list(self.output.logits.values())).mean(dim=0)


class MonaiLabelTrain(BasicTrainTask):  # type: ignore[misc]
    """MONAI Label's trainer on our network."""

    def __init__(self, folder: Path, network: CimlNetwork, settings: TrainingSettings) -> None:
        """Train in `folder`."""
        super().__init__(str(folder), "rival", config={"pretrained": False})
        self.wrapped, self.settings, self.times = _Logits(network), settings, list[float]()

    def network(self, context: Any) -> nn.Module:
        """The same network."""
        return self.wrapped

    def optimizer(self, context: Any) -> torch.optim.Optimizer:
        """The same optimiser."""
        settings = self.settings
        return torch.optim.AdamW(
            self.wrapped.parameters(), lr=settings.learning_rate, weight_decay=settings.weight_decay
        )

    def loss_function(self, context: Any) -> Any:
        """The same objective, computed from the whole output to which the logits belong."""
        decomposition = self.wrapped.network.decomposition
        return lambda logits, regions: (
            objective(
                self.wrapped.output, regions, decomposition=decomposition, beta=self.settings.beta
            ).total
        )

    def train_pre_transforms(self, context: Any) -> list[Any]:
        """Loading, scaling, patches and augmentation as in MONAI Label's example apps."""
        names = list(self.wrapped.network.modalities)
        every = [*names, "label"]
        scaled = {"CT": (-160.0, 240.0, -1.0, 1.0), "PET": (0.0, 500.0, 0.0, 1.0)}
        settings = self.settings
        return [
            LoadImaged(keys=every),
            EnsureChannelFirstd(keys=every),
            *(
                ScaleIntensityRanged(name, *scaled[name], clip=True)
                if name in scaled
                else NormalizeIntensityd(name, nonzero=True)
                for name in names
            ),
            ConcatItemsd(names, name="image"),
            SelectItemsd(("image", "label")),
            Transposed(keys=("image", "label"), indices=(0, 3, 2, 1)),  # to our axes (C, D, H, W)
            SpatialPadd(keys=("image", "label"), spatial_size=settings.roi_size),
            RandCropByPosNegLabeld(
                keys=("image", "label"),
                label_key="label",
                spatial_size=settings.roi_size,
                pos=settings.foreground_share,
                neg=1.0 - settings.foreground_share,
                num_samples=1,
                allow_smaller=False,
            ),
            *(RandFlipd(keys=("image", "label"), spatial_axis=axis, prob=0.5) for axis in range(3)),
            RandScaleIntensityd(keys="image", factors=settings.jitter, prob=1.0, channel_wise=True),
            RandShiftIntensityd(keys="image", offsets=settings.jitter, prob=1.0, channel_wise=True),
            EnsureTyped(keys=("image", "label")),
        ]

    def train_post_transforms(self, context: Any) -> list[Any]:
        """Transforms that the default metric needs."""
        return [Activationsd(keys="pred", sigmoid=True), AsDiscreted(keys="pred", threshold=0.5)]

    def val_inferer(self, context: Any) -> Any:
        """Inferer for validation; not used, as this task does not validate."""
        return self.train_inferer(context)

    def train_handlers(self, context: Any) -> list[Any]:
        """MONAI Label's own handlers and a clock."""
        return [*super().train_handlers(context), _Clock(self.times)]


class _Clock:
    """Records the end of each epoch."""

    def __init__(self, times: list[float]) -> None:
        self.times = times

    def attach(self, engine: Any) -> None:
        """Listen to the trainer."""
        from ignite.engine import Events

        engine.add_event_handler(Events.EPOCH_COMPLETED, lambda _: self.times.append(time.monotonic()))
