"""How many training steps per second, compared with MONAI Label's trainer on the same network and patches?

    python -m benchmarks.ciml.training_speed samples/sts --repeats 3

Our side is `lib.ciml.training.train` as the app's train task calls it. The rival is a `BasicTrainTask` of the
installed MONAI Label with the transforms of its example apps and its default metric and handlers. Network,
loss, optimiser, patch size, batch size and cases are the same. The rival caches its images in memory before
the clock starts, with `CacheDataset` or with `SmartCacheDataset`, the default of its clients. Neither side
validates. Each measurement runs in a process of its own, and the sides alternate. The clock runs over whole
epochs after the first.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer
from rich.console import Console
from rich.table import Table

from benchmarks.ciml.monai_label_trainer import label_of, rival_times
from benchmarks.common.folders import RESULTS
from benchmarks.common.tables import write_rows
from lib.cases.case import Source
from lib.cases.formats.image import read_volume, resample
from lib.ciml.network.ciml_network import CimlNetwork
from lib.ciml.network.precision import precision_for
from lib.ciml.network.settings import NetworkSettings
from lib.ciml.training.patches import TrainingCase
from lib.ciml.training.train import TrainingSettings, train
from lib.pipeline.settings import read_settings
from lib.pipeline.workspace import Workspace
from lib.runtime.devices import cores, device_of

ROWS = RESULTS / "training_speed.csv"
SIDES = ("ours", "CacheDataset", "SmartCacheDataset")
SIZES = ("tiny", "base")


def main(
    pool: Annotated[
        Path, typer.Argument(help="Folder of patients with contours; a patient's images share a grid.")
    ],
    epochs: Annotated[int, typer.Option(help="Epochs; the first is not timed.", min=2)] = 4,
    repeats: Annotated[int, typer.Option(help="Measurements of each trainer.", min=1)] = 3,
    sizes: Annotated[str, typer.Option(help="Network sizes, separated by commas.")] = ",".join(SIZES),
    threads: Annotated[int, typer.Option(help="Threads of each process; 0: one per core.", min=0)] = 0,
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
    write_rows(ROWS, rows)
    report(rows)


def report(rows: list[dict[str, Any]]) -> None:
    """Print steps per second and our ratio to each rival, repeat by repeat."""
    table = Table(title="Training steps per second", title_justify="left")
    for column in ("network", "trainer", "steps/s", "ours / it", "ratio of each repeat"):
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
    command = [
        sys.executable,
        "-m",
        "benchmarks.ciml.training_speed",
        str(pool),
        "--side",
        side,
        "--sizes",
        size,
    ]
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
        times = (_ours if side == "ours" else rival_times)(
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
    """End of each epoch in seconds of the monotonic clock."""
    cases = []
    for case in workspace.pool.cases:
        prepared = workspace.cache.get(case)
        contour = resample(read_volume(Source(label_of(case.label))), prepared.grid, nearest=True).array
        cases.append(TrainingCase(prepared, (contour > 0).astype(np.uint8)))
    times: list[float] = []
    train(network, cases, [], settings, device=device, on_epoch=lambda report: times.append(time.monotonic()))
    return times


if __name__ == "__main__":
    typer.run(main)
