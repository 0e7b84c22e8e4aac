"""How many training steps a second, beside MONAI Label's own trainer with the same network and patches?

    python -m benchmarks.training_speed samples/sts --repeats 3

Ours is `lib.ciml.training.train` as the app's train task calls it. The rival is a `BasicTrainTask` of the
installed MONAI Label with the transforms of its example apps, its default metric and handlers, on the same
network, loss, optimiser, patch and batch sizes and cases; its images are cached in memory before the clock
starts, by `CacheDataset` or by `SmartCacheDataset`, the first choice that its clients send. Neither
validates. Each measurement is a process of its own; they alternate. The clock runs over whole epochs after
the first.
"""

from __future__ import annotations

import json
import logging
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer
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
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

from benchmarks.tables import write_rows
from lib.cases.case import Source
from lib.cases.formats.image import read_volume, resample
from lib.ciml.network.ciml_network import CimlNetwork, NetworkSettings, Output
from lib.ciml.network.precision import precision_for
from lib.ciml.training.loss import objective
from lib.ciml.training.patches import TrainingCase
from lib.ciml.training.train import TrainingSettings, train
from lib.pipeline.settings import read_settings
from lib.pipeline.workspace import Workspace
from lib.runtime.devices import cores, device_of

RESULTS = Path(__file__).parent / "results" / "training_speed.csv"
SIDES = ("ours", "CacheDataset", "SmartCacheDataset")
SIZES = ("tiny", "base")


def main(
    pool: Annotated[Path, typer.Argument(help="Folder of patients on one grid each, with contours.")],
    epochs: Annotated[int, typer.Option(help="Of which the first is not timed.", min=2)] = 4,
    repeats: Annotated[int, typer.Option(help="Measurements of each.", min=1)] = 3,
    sizes: Annotated[str, typer.Option(help="Of the network, separated by commas.")] = ",".join(SIZES),
    threads: Annotated[int, typer.Option(help="Of each process; 0: a core each.", min=0)] = 0,
    side: Annotated[str, typer.Option(hidden=True)] = "",
) -> None:
    """Measure and print the table."""
    if side:
        torch.set_num_threads(threads)
        print(json.dumps(_measure(pool, side, sizes, epochs)))
        return
    threads = threads or cores()
    rows = [
        {
            "size": size,
            "side": name,
            "repeat": repeat,
            "threads": threads,
            **_in_process(pool, name, size, epochs, threads),
        }
        for size in sizes.split(",")
        for repeat in range(repeats)
        for name in SIDES
    ]
    write_rows(RESULTS, rows)
    report(rows)


def report(rows: list[dict[str, Any]]) -> None:
    """Print steps a second and our ratio to each rival, repeat by repeat."""
    table = Table(title="Training steps a second", title_justify="left")
    for column in ("network", "trainer", "steps/s", "ours / it", "of each repeat"):
        table.add_column(column, justify="left" if column in ("network", "trainer") else "right")
    for size in dict.fromkeys(row["size"] for row in rows):
        speed = {
            name: [row["steps_per_s"] for row in rows if (row["size"], row["side"]) == (size, name)]
            for name in SIDES
        }
        for name in SIDES:
            ratios = np.divide(speed["ours"], speed[name])
            each = " ".join(f"{ratio:.2f}" for ratio in ratios)
            table.add_row(size, name, f"{np.median(speed[name]):.2f}", f"{np.median(ratios):.2f}", each)
    Console().print(table)


def _in_process(pool: Path, side: str, size: str, epochs: int, threads: int) -> dict[str, Any]:
    command = [sys.executable, "-m", "benchmarks.training_speed", str(pool), "--side", side, "--sizes", size]
    command += ["--epochs", str(epochs), "--threads", str(threads)]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    if ended.returncode:
        raise RuntimeError(f"{side} failed:\n{ended.stderr[-2000:]}")
    measured: dict[str, Any] = json.loads(ended.stdout.strip().splitlines()[-1])
    Console().print(size, side, measured, highlight=False)
    return measured


def _measure(pool: Path, side: str, size: str, epochs: int) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        workspace = Workspace(pool, read_settings({"work_dir": folder}))
        torch.manual_seed(0)
        network = CimlNetwork(
            workspace.decomposition, workspace.preparation.modalities, NetworkSettings.of_size(size)
        )
        device = device_of("auto")
        settings = TrainingSettings(
            epochs=epochs,
            steps_per_epoch=len(workspace.pool.cases) // TrainingSettings().batch_size,
            modality_dropout=0.0,
            precision=precision_for(device),
        )
        times = (_ours if side == "ours" else _rival)(
            workspace, network, settings, device, side, Path(folder)
        )
        steps = settings.steps_per_epoch * (epochs - 1)
        return {"steps_per_s": steps / (times[-1] - times[0]), "steps": steps, "device": device.type}


def _ours(
    workspace: Workspace,
    network: CimlNetwork,
    settings: TrainingSettings,
    device: torch.device,
    side: str,
    folder: Path,
) -> list[float]:
    """When each epoch ended."""
    cases = []
    for case in workspace.pool.cases:
        prepared = workspace.cache.get(case)
        contour = resample(read_volume(Source(_label(case.label))), prepared.grid, nearest=True).array
        cases.append(TrainingCase(prepared, (contour > 0).astype(np.uint8)))
    times: list[float] = []
    train(network, cases, [], settings, device=device, on_epoch=lambda report: times.append(time.monotonic()))
    return times


def _rival(
    workspace: Workspace,
    network: CimlNetwork,
    settings: TrainingSettings,
    device: torch.device,
    side: str,
    folder: Path,
) -> list[float]:
    """When each epoch ended."""
    logging.disable(logging.WARNING)
    task = MonaiLabelTrain(folder, network, settings)
    names = network.modalities
    datalist = [
        {**{name: str(case.modalities[name].path) for name in names}, "label": str(_label(case.label))}
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


def _label(path: Path | None) -> Path:
    if path is None:
        raise ValueError("every patient must have a contour beside its images.")
    return path


class _Datalist:
    """As much of a datastore as the rival asks for."""

    def __init__(self, datalist: list[dict[str, str]]) -> None:
        self._datalist = datalist

    def datalist(self) -> list[dict[str, str]]:
        return self._datalist


class _Logits(nn.Module):
    """The network with one tensor as its answer, which is what MONAI's trainer takes."""

    def __init__(self, network: CimlNetwork) -> None:
        super().__init__()
        self.network = network
        self.output = Output({}, [])

    def forward(self, x: Tensor) -> Tensor:
        """(B, R, D, H, W): mean of the subtasks' logits, for its metric."""
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
        """The same objective; the logits come with the output that they were taken from."""
        decomposition = self.wrapped.network.decomposition
        return lambda logits, regions: (
            objective(
                self.wrapped.output, regions, decomposition=decomposition, beta=self.settings.beta
            ).total
        )

    def train_pre_transforms(self, context: Any) -> list[Any]:
        """Reading, scaling, patches and augmentation as in MONAI Label's example apps."""
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
            Transposed(keys=("image", "label"), indices=(0, 3, 2, 1)),  # (C, D, H, W), as ours has them
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
        """What the default metric needs."""
        return [Activationsd(keys="pred", sigmoid=True), AsDiscreted(keys="pred", threshold=0.5)]

    def val_inferer(self, context: Any) -> Any:
        """Not used: it does not validate."""
        return self.train_inferer(context)

    def train_handlers(self, context: Any) -> list[Any]:
        """Its own, and a clock."""
        return [*super().train_handlers(context), _Clock(self.times)]


class _Clock:
    """Notes when each epoch ended."""

    def __init__(self, times: list[float]) -> None:
        self.times = times

    def attach(self, engine: Any) -> None:
        """Listen to the trainer."""
        from ignite.engine import Events

        engine.add_event_handler(Events.EPOCH_COMPLETED, lambda _: self.times.append(time.monotonic()))


if __name__ == "__main__":
    typer.run(main)
