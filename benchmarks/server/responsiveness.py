"""Does a server answer a viewer's requests while three inferences run? A plain MONAI Label app is compared.

    python -m benchmarks.server.responsiveness --seconds 60

Both servers are real processes. Three clients ask each server for one inference after another. Our server
segments six of the samples with CIML's `base` network, untrained, as cost is measured and not quality, and
with nothing kept from one request to the next. The samples are first resampled to voxels 3.75 times as fine
along each axis (0.52 x 0.52 x 0.87 mm, about 4 million per volume), because an inference on the original
samples takes less than a second. Our server takes one case at a time, so the three clients wait for each
other. The plain app computes convolutions for as long as the median of our inferences in the same run.
Meanwhile `/info/` and one frame of an image through `/proxy` are requested at fixed times. Each answer is
timed from the moment at which its request was due, so that the delay by a blocked server counts in full.

The image is a slice of CT on the DICOMweb server `--upstream`, or without one on a private Orthanc with the
DICOM samples. Studies in a folder have no such server, so both apps get its address for `/proxy` alone.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import statistics
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import httpx
import nibabel as nib
import numpy as np
import requests
import torch
import typer
from nibabel.processing import resample_to_output
from rich.console import Console
from rich.table import Table

from benchmarks.common.folders import RESULTS, ROOT, SAMPLES
from benchmarks.common.orthanc import orthanc
from benchmarks.common.server import serving
from benchmarks.common.tables import write_rows
from lib.ciml.network.ciml_network import CimlNetwork
from lib.ciml.network.settings import NetworkSettings
from lib.pipeline.settings import read_settings
from lib.pipeline.workspace import Workspace

ROWS = RESULTS / "responsiveness.csv"
CASES = ("STS_002", "STS_012", "STS_015", "STS_018", "STS_024", "STS_026")
FINER = 3.75  # factor of resampling; an inference on the small original samples is too short
OUR_NAME = "MDAL-CIML"
CLIENTS = 3  # clients that ask for inferences
NOTHING_KEPT = {"study_labels": "ignore", "prefetch": 0, "segmentations_gb": 1e-9}
IDLE_S = 5.0  # time for which the idle server is measured first
TARGETS_MS = {"/info/": 100.0, "WADO": 200.0}
PROXY = """
from monailabel.config import settings
from monailabel.endpoints import proxy

proxy.settings = settings.model_copy(update={{"MONAI_LABEL_STUDIES": "{upstream}"}})
"""
OURS = "from lib.app import MdalCimlApp\n"
PLAIN = """
import tempfile, time

import torch
from monailabel.interfaces.app import MONAILabelApp
from monailabel.interfaces.tasks.infer_v2 import InferTask, InferType


class Convolutions(InferTask):
    def __init__(self):
        super().__init__(InferType.SEGMENTATION, {{"lesion": 1}}, 3, "as long as ours")

    def is_valid(self):
        return True

    def __call__(self, request):
        start = time.monotonic()
        layer, values = torch.nn.Conv3d(16, 16, 3, padding=1), torch.zeros(1, 16, 64, 64, 64)
        with torch.inference_mode():
            while time.monotonic() - start < {seconds}:
                values = layer(values)
        with tempfile.NamedTemporaryFile(suffix=".nii.gz", delete=False) as file:
            pass
        return file.name, {{"latencies": {{"infer": time.monotonic() - start}}}}


class Plain(MONAILabelApp):
    def __init__(self, app_dir, studies, conf):
        super().__init__(app_dir, studies, conf, name="plain")

    def init_infers(self):
        return {{"ciml": Convolutions()}}
"""


@dataclass
class Measured:
    """Measurements of one server.

    Attributes:
        idle: Milliseconds of each answer before the inferences, by kind of request.
        busy: Milliseconds of each answer while the inferences ran, by kind of request.
        inferences_s: Seconds that each inference computed.
    """

    idle: dict[str, list[float]]
    busy: dict[str, list[float]]
    inferences_s: list[float]


def main(
    seconds: Annotated[float, typer.Option(help="Time under load of each server, in s.")] = 60.0,
    upstream: Annotated[str, typer.Option(help="DICOMweb server; a private Orthanc if empty.")] = "",
    output: Annotated[Path, typer.Option(help="CSV with one row per server and kind of request.")] = ROWS,
) -> None:
    """Measure both servers: python -m benchmarks.server.responsiveness --seconds 60."""
    console = Console()
    with tempfile.TemporaryDirectory() as name, images(upstream) as (pacs, frame):
        folder, proxy = Path(name), PROXY.format(upstream=pacs)
        studies, flat = prepare(folder)
        console.print(f"images from {pacs}; measuring ours …")
        ours = measure(folder / "ours", proxy + OURS, studies, frame, seconds, NOTHING_KEPT)
        typical = statistics.median(ours.inferences_s)
        console.print(f"an inference took {typical:.1f} s; measuring the plain app with equally long ones …")
        theirs = measure(folder / "plain", proxy + PLAIN.format(seconds=typical), flat, frame, seconds, {})
    rows = [
        row(server, asked, measured)
        for asked in TARGETS_MS
        for server, measured in ((OUR_NAME, ours), ("plain MONAI Label", theirs))
    ]
    show(console, rows)
    write_rows(output, rows)


@contextmanager
def images(upstream: str) -> Iterator[tuple[str, str]]:
    """Yield the address of a DICOMweb server, and the path of a frame on it."""
    with nullcontext(upstream.rstrip("/")) if upstream else local_pacs() as pacs:
        found = requests.get(f"{pacs}/instances?Modality=CT&limit=1", timeout=60).json()[0]
        study, series, instance = (found[tag]["Value"][0] for tag in ("0020000D", "0020000E", "00080018"))
        yield pacs, f"studies/{study}/series/{series}/instances/{instance}/frames/1"


@contextmanager
def local_pacs() -> Iterator[str]:
    """Start an Orthanc that holds the DICOM samples; yields its DICOMweb address."""
    with orthanc(ROOT / "samples" / "dicom") as pacs:
        yield pacs.dicomweb


def prepare(folder: Path) -> tuple[Path, Path]:
    """Write the cases, publish an untrained model for them, and write one file per case for the plain app."""
    studies, flat = folder / "studies", folder / "flat"
    flat.mkdir()
    for file in [file for case in CASES for file in (SAMPLES / case).glob("[CMP]*.nii.gz")]:
        (studies / file.parent.name).mkdir(parents=True, exist_ok=True)
        image: Any = nib.load(file)
        finer = resample_to_output(image, np.array(image.header.get_zooms()) / FINER, order=1)
        nib.save(finer, studies / file.parent.name / file.name)
    for file in studies.glob("*/CT.nii.gz"):
        shutil.copyfile(file, flat / f"{file.parent.name}.nii.gz")
    workspace = Workspace(studies, read_settings({"study_labels": "ignore"}))
    torch.manual_seed(0)
    network = CimlNetwork(
        workspace.decomposition, workspace.preparation.modalities, NetworkSettings.of_size("base")
    )
    workspace.models.publish(network, {})
    return studies, flat


def measure(
    app: Path, source: str, studies: Path, frame: str, seconds: float, conf: Mapping[str, object]
) -> Measured:
    """Measure a server, first idle and then while it infers.

    Raises:
        RuntimeError: If an inference is answered with an error.
    """
    app.mkdir()
    (app / "main.py").write_text(source)
    environment = {
        "MONAI_LABEL_AUTO_UPDATE_SCORING": "false",
        "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]),
    }
    with serving(studies, app=app, conf=conf, environment=environment) as address:
        asked = {"/info/": (f"{address}/info/", 0.2), "WADO": (f"{address}/proxy/dicom/wado/{frame}", 0.1)}
        idle = asyncio.run(probe(asked, IDLE_S))
        cases = sorted(requests.get(f"{address}/datastore/?output=all", timeout=60).json()["objects"])
        with inferring(address, cases) as told:
            time.sleep(1.0)  # until the inferences run
            busy = asyncio.run(probe(asked, seconds))
        return Measured(idle, busy, told)


@contextmanager
def inferring(address: str, cases: list[str]) -> Iterator[list[float]]:
    """Run clients that ask for one case after another; yields the growing list of seconds per inference."""
    told: list[float] = []
    failed: list[Exception] = []
    stop = threading.Event()

    def ask(mine: list[str]) -> None:
        try:
            while not stop.is_set():
                for case in mine:
                    answer = requests.post(f"{address}/infer/ciml?image={case}&output=json", timeout=600)
                    answer.raise_for_status()
                    told.append(answer.json()["latencies"]["infer"])
                    if stop.is_set():
                        return
        except requests.RequestException as err:
            failed.append(err)

    clients = [threading.Thread(target=ask, args=(cases[first::CLIENTS],)) for first in range(CLIENTS)]
    for client in clients:
        client.start()
    try:
        yield told
    finally:
        stop.set()
        for client in clients:
            client.join()
    if failed:
        raise RuntimeError("every inference must be answered; one was not.") from failed[0]


async def probe(asked: dict[str, tuple[str, float]], seconds: float) -> dict[str, list[float]]:
    """Milliseconds of each answer from the time its request was due, by kind of request."""
    limits = httpx.Limits(max_connections=None)
    async with httpx.AsyncClient(timeout=None, limits=limits, trust_env=False) as client:
        start = time.monotonic()

        async def ask(url: str, due: float) -> float:
            await asyncio.sleep(due - time.monotonic())
            (await client.get(url)).raise_for_status()
            return 1000.0 * (time.monotonic() - due)

        answers = [
            asyncio.gather(*[ask(url, start + turn * every) for turn in range(int(seconds / every))])
            for url, every in asked.values()
        ]
        return dict(zip(asked, await asyncio.gather(*answers), strict=True))


def row(server: str, asked: str, measured: Measured) -> dict[str, str | float]:
    """Row of one server and kind of request."""
    busy = measured.busy[asked]
    return {
        "asked": asked,
        "server": server,
        "answers": len(busy),
        "p50 ms": round(float(np.percentile(busy, 50)), 1),
        "p99 ms": round(float(np.percentile(busy, 99)), 1),
        "max ms": round(max(busy), 1),
        "idle p99 ms": round(float(np.percentile(measured.idle[asked], 99)), 1),
        "inferences": len(measured.inferences_s),
        "inference s": round(statistics.median(measured.inferences_s), 2),
        "shortest inference s": round(min(measured.inferences_s), 2),
        "cores": os.cpu_count() or 0,
    }


def show(console: Console, rows: list[dict[str, str | float]]) -> None:
    """Print the results, with the targets in the rows of our server."""
    table = Table(title=f"While {CLIENTS} clients ask for inferences", title_justify="left")
    columns = ("asked", "server", "p50 ms", "p99 ms", "max ms", "idle p99 ms", "inference s")
    for column in (*columns, "target p99"):
        table.add_column(column, justify="left" if column in ("asked", "server") else "right")
    for line in rows:
        target = f"<= {TARGETS_MS[str(line['asked'])]:.0f}" if line["server"] == OUR_NAME else ""
        table.add_row(*[str(line[column]) for column in columns], target)
    console.print(table)


if __name__ == "__main__":
    typer.run(main)
