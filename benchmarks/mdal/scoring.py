"""What does the scoring of a pool cost, compared with MONAI Label's own epistemic scoring in the same run?

    python -m benchmarks.mdal.scoring samples/sts --cores 2 --rounds 5

Our side is measured from scratch: pool check, reading, training, scores and plan, in a process of its own
with an empty work folder. It is then measured again with nothing changed. It needs no labels and runs once
per pool.

The rival is `EpistemicScoring` (epistemic_v2) of the installed MONAI Label with its default number of
dropout samples, on MONAI's residual U-Net of about as many parameters as CIML's `tiny`. Its weights are
untrained, as cost is measured and not quality. It gets the same cases, cropped to the body, from the cache
that our side has filled, so that reading and resampling cost it nothing. It passes them through the network
at once or in windows, as CIML does. In practice it needs labels and a trained model, and in each round it
scores the cases that are still unlabelled; its trainings are not counted.

Device-seconds are seconds of all cores on a CPU and seconds of wall time on a GPU, within the scoring;
Python's start and imports are left out. Peaks are peaks of resident memory: of the largest process, as
`/usr/bin/time -v` reports it, and of all processes together, where a page that two of them share counts
twice.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import psutil
import torch
import typer
from rich.console import Console
from rich.table import Table

from benchmarks.common.folders import RESULTS
from benchmarks.common.tables import write_rows
from lib.ciml.inference.predict import body_box
from lib.pipeline.settings import read_settings
from lib.pipeline.workspace import Workspace
from lib.runtime.devices import cores, device_of

DROPOUT = 0.2  # as in MONAI Label's example apps
LOOK_S = 0.1  # time between two looks at the processes of a scoring
WINDOW, AT_ONCE = (32, 96, 96), 1_000_000  # voxels, as in CIML's inference
Told = dict[str, Any]


@dataclass(frozen=True)
class Measured:
    """One scoring in a process of its own.

    Attributes:
        told: Report of the scoring itself: cases, seconds, core-seconds of its own process and more.
        device_s: Device-seconds within the scoring.
        process_s: Wall time in s with Python's start.
        peak_mb: Peak memory of the largest process in MB.
        peak_of_all_mb: Peak memory of all processes together in MB.
    """

    told: Told
    device_s: float
    process_s: float
    peak_mb: float
    peak_of_all_mb: float


class Family:
    """A process and all processes that it starts, observed at intervals.

    Attributes:
        core_s: Core-seconds that each process has used, by process id.
        peak: Largest resident memory of all processes together, in bytes.
    """

    def __init__(self, pid: int) -> None:
        """Watch a process."""
        self.process, self.peak = psutil.Process(pid), 0
        self.core_s: dict[int, float] = {}

    def look(self) -> None:
        """Record the core-seconds and the memory of each living process."""
        resident = 0
        with suppress(psutil.NoSuchProcess):
            for member in [self.process, *self.process.children(recursive=True)]:
                with suppress(psutil.NoSuchProcess):  # it has ended meanwhile
                    used = member.cpu_times()
                    self.core_s[member.pid] = used.user + used.system
                    resident += member.memory_info().rss
        self.peak = max(self.peak, resident)


def measure(part: Callable[[Workspace], Told], studies: Path, conf: dict[str, str], allowed: int) -> Measured:
    """Run a part of this module in a process of its own, on the given number of cores.

    Raises:
        RuntimeError: If the process failed; the message has the end of its log.
    """
    answer, log = Path(conf["work_dir"]) / "told.json", Path(conf["work_dir"]) / "log.txt"
    code = f"from benchmarks.mdal import scoring; scoring.tell(scoring.{part.__name__}, {allowed})"
    command = [sys.executable, "-c", code, str(studies), json.dumps(conf), str(answer)]
    environment = {**os.environ, "OMP_NUM_THREADS": str(allowed), "PYTHONWARNINGS": "ignore"}
    start = time.monotonic()
    with log.open("w") as output:
        process = subprocess.Popen(command, env=environment, stdout=output, stderr=subprocess.STDOUT)
    family, ended = Family(process.pid), 0
    while not ended:
        family.look()
        time.sleep(LOOK_S)
        ended, status, usage = os.wait4(process.pid, os.WNOHANG)
    process_s = time.monotonic() - start
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise RuntimeError(f"{part.__name__} failed:\n{log.read_text()[-3000:]}")
    told = json.loads(answer.read_text())
    core_s = told["core_s"] + sum(used for pid, used in family.core_s.items() if pid != process.pid)
    largest = usage.ru_maxrss * 1024  # Linux counts in KiB
    return Measured(
        told,
        core_s if device_of(conf["device"]).type == "cpu" else told["seconds"],
        process_s,
        largest / 1e6,
        max(family.peak, largest) / 1e6,
    )


def tell(part: Callable[[Workspace], Told], allowed: int) -> None:
    """Run the part in the measured process, and write its report to the file that was asked for."""
    studies, conf, answer = sys.argv[1:]
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:allowed])
    Path(answer).write_text(json.dumps(part(Workspace(Path(studies), read_settings(json.loads(conf))))))


def mdal(workspace: Workspace) -> Told:
    """Bring the plan up to date."""
    from lib.pipeline.planning import plan_pool

    told = _timed(lambda: plan_pool(workspace, processes=cores()))
    current = workspace.plan.current()
    return {
        **told,
        "cases": len(workspace.verdicts.served),
        "warnings": current.about["warnings"] if current else [],
    }


def epistemic(workspace: Workspace) -> Told:
    """Score every case by MONAI Label's dropout samples."""
    from monailabel.datastore.local import LocalDatastore  # here, to keep it out of our side's memory
    from monailabel.tasks.scoring.epistemic_v2 import EpistemicScoring

    with tempfile.TemporaryDirectory() as folder:
        for case in workspace.verdicts.served:
            workspace.cache.get(case)
            prepared = workspace.cache.folder / workspace.cache.key(case) / "array.npy"
            (Path(folder) / f"{case.id}.npy").symlink_to(prepared)
        datastore = LocalDatastore(folder, extensions=["*.npy"], auto_reload=False)
        task = _dropout_task(workspace)
        scoring, summary = EpistemicScoring(task), {}
        told = _timed(lambda: summary.update(scoring({}, datastore)))
        scored = [
            datastore.get_image_info(case.id)["epistemic_entropy"] for case in workspace.verdicts.served
        ]
    if summary["executed"] != len(scored) or not np.isfinite(scored).all():
        raise RuntimeError(f"every case must get a finite entropy; got {summary} and {scored}.")
    parameters = sum(weights.numel() for weights in task.network.parameters())
    return {**told, "cases": len(scored), "samples": scoring.simulation_size, "parameters": parameters}


def _dropout_task(workspace: Workspace) -> Any:
    """MONAI Label's inference with dropout left on."""
    from monai.inferers.inferer import SimpleInferer, SlidingWindowInferer
    from monai.networks.nets.unet import UNet
    from monai.transforms.post.dictionary import Activationsd
    from monailabel.interfaces.tasks.infer_v2 import InferType
    from monailabel.tasks.infer.basic_infer import BasicInferTask

    class DropoutSamples(BasicInferTask):  # type: ignore[misc]  # monailabel has no types
        def pre_transforms(self, data: Any = None) -> list[Any]:
            return [_load_body]

        def inferer(self, data: Any = None) -> Any:
            if data["image"][0].numel() <= AT_ONCE:
                return SimpleInferer()
            return SlidingWindowInferer(WINDOW, sw_batch_size=1, overlap=0.25, mode="gaussian")

        def post_transforms(self, data: Any = None) -> list[Any]:
            return [Activationsd(keys="pred", softmax=True)]

    channels, labels = len(workspace.preparation.modalities), workspace.decomposition.labels
    network = UNet(3, channels, len(labels) + 1, (16, 32, 64), (2, 2), num_res_units=2, dropout=DROPOUT)
    task = DropoutSamples(
        None, network, InferType.SEGMENTATION, dict(labels), 3, "dropout", train_mode=True, skip_writer=True
    )
    task.config()["device"] = str(device_of(workspace.settings.device))
    return task


def _load_body(data: dict[str, Any]) -> dict[str, Any]:
    """The box around the body of a prepared case, padded to sizes that the network can halve twice."""
    array = Path(data["image"]).resolve()
    box = body_box(np.load(array.parent / "foreground.npy", mmap_mode="r"))
    cropped = np.load(array, mmap_mode="r")[(slice(None), *box)]
    padding = [(0, 0), *((0, -size % 4) for size in cropped.shape[1:])]
    data["image"] = torch.from_numpy(np.pad(cropped, padding).astype(np.float32))  # (M, D, H, W)
    return data


def _timed(work: Callable[[], object]) -> Told:
    cores_before, start = time.process_time(), time.monotonic()
    work()
    return {"seconds": time.monotonic() - start, "core_s": time.process_time() - cores_before}


def row(name: str, measured: Measured, rounds: int, runs: float) -> dict[str, str | float]:
    """Row of the results.

    Args:
        name: Name of the scoring.
        measured: Measurement of one run.
        rounds: Number of rounds of labelling.
        runs: Number of scorings of the whole pool in all rounds together, with fractions.
    """
    each = measured.device_s / measured.told["cases"]
    return {
        "scoring": name,
        "cases": measured.told["cases"],
        "wall time, s": measured.told["seconds"],
        "with Python's start, s": measured.process_s,
        "peak of the largest process, MB": measured.peak_mb,
        "peak of all processes, MB": measured.peak_of_all_mb,
        "one scoring, device-s per case": each,
        "rounds": rounds,
        "all rounds, device-s per case": each * runs,
        "device-s per case per round": each * runs / rounds,
    }


def show(console: Console, title: str, rows: list[dict[str, str | float]]) -> None:
    """Print a table with one column per scoring."""
    names, *measures = rows[0]
    table = Table("", title=title, title_justify="left")
    for line in rows:
        table.add_column(str(line[names]), justify="right")
    for measure_ in measures:
        values = [line[measure_] for line in rows]
        table.add_row(
            measure_, *[f"{value:.2f}" if isinstance(value, float) else str(value) for value in values]
        )
    console.print(table)


def main(
    studies: Annotated[Path, typer.Argument(help="Studies folder, such as samples/sts.")],
    rounds: Annotated[int, typer.Option(help="Rounds of labelling and training.")] = 5,
    labelled: Annotated[float, typer.Option(help="Share of the cases labelled in all rounds.")] = 0.2,
    allowed: Annotated[int, typer.Option("--cores", help="Cores that a scoring may use.")] = 2,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    reference: Annotated[str, typer.Option(help="Modality whose grid is taken.")] = "",
    output: Annotated[Path, typer.Option(help="CSV with one row per scoring.")] = RESULTS / "scoring.csv",
) -> None:
    """Measure both scorings: python -m benchmarks.mdal.scoring samples/sts --cores 2 --rounds 5."""
    console = Console()
    with tempfile.TemporaryDirectory() as work:
        conf = {"work_dir": work, "device": device, "reference": reference, "workers": str(allowed)}
        ours = measure(mdal, studies, conf, allowed)
        for warning in ours.told["warnings"]:
            console.print(warning)
        again = measure(mdal, studies, conf, allowed)
        theirs = measure(epistemic, studies, conf, allowed)
    unlabelled = sum(1.0 - labelled * before / rounds for before in range(rounds))
    name = (
        f"MONAI Label epistemic, {theirs.told['samples']} samples, {theirs.told['parameters']:,} parameters"
    )
    rows = [
        row("MDAL, from nothing", ours, rounds, 1.0),
        row("MDAL, nothing changed", again, rounds, 1.0),
        row(name, theirs, rounds, unlabelled),
    ]
    show(console, f"{studies} on {device_of(device)}, {allowed} cores", rows)
    write_rows(output, rows)


if __name__ == "__main__":
    typer.run(main)
