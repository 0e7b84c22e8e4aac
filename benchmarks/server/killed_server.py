"""What does a server leave behind after kill -9?

    python -m benchmarks.server.killed_server --kills 5

A real server is killed at random moments while it checks the pool, scores it, trains, and receives labels.
Five seconds later no process that it started may be left, and the file and the notes of every label must
come from the same upload.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import nibabel as nib
import numpy as np
import psutil
import requests
import typer
from rich.console import Console

from benchmarks.common.folders import RESULTS, SAMPLES
from benchmarks.common.server import serving, wait_until
from benchmarks.common.tables import Row, table_of, write_rows
from lib.cases.formats.image import read_grid
from lib.pipeline.settings import AppSettings
from lib.pipeline.workspace import Workspace
from lib.server.datastore import CaseDatastore

ROWS = RESULTS / "killed_server.csv"
LABELLED = ("STS_002", "STS_008", "STS_024", "STS_025")
PATIENCE_S, WITHIN_S = 5.0, 8.0
CONF = {"device": "cpu", "prefetch": 0, "refresh_s": 0.5}
_MARK = "KILLED_SERVER"  # in the environment of a server and of every process that it starts
_FORGOTTEN = {  # files that are removed before each phase, so that there is work to do
    "check": (),
    "scoring": ("plan.sqlite*", "scoring"),
    "training": (),
    "upload": (),
}
_STARTED = {"check": "lib.cli.background check", "scoring": "-m scoring", "training": "-m train"}
PHASES = tuple(_FORGOTTEN)


def studies_of(folder: Path, patients: Sequence[str] = ()) -> Path:
    """A copy of the samples, of all or of these, that may be changed; some have a contour."""
    for place in SAMPLES.iterdir():
        if place.is_dir() and (not patients or place.name in patients):
            shutil.copytree(place, folder / place.name)
    for contour in folder.glob("*/GTV.nii.gz"):
        if contour.parent.name not in LABELLED:
            contour.unlink()
    return folder


def kill_once(
    studies: Path,
    phase: str,
    rng: np.random.Generator,
    *,
    how: signal.Signals = signal.SIGKILL,
    within_s: float = WITHIN_S,
) -> Row:
    """Start a server, end it in the middle of a phase, and count what is left.

    Args:
        studies: Folder from `studies_of`; it can be used again.
        phase: One of `PHASES`.
        rng: Source of the moment of the kill.
        how: Signal that the server gets.
        within_s: Seconds from the beginning of the phase within which it is sent.
    """
    for pattern in _FORGOTTEN[phase]:
        for place in (studies / ".mdal").glob(pattern):
            shutil.rmtree(place) if place.is_dir() else place.unlink()
    mark = uuid.uuid4().hex
    scores = "true" if phase == "scoring" else "false"
    environment = {_MARK: mark, "MONAI_LABEL_AUTO_UPDATE_SCORING": scores}
    with serving(studies, conf=CONF, environment=environment) as address:
        if phase == "check":  # no earlier measurement is left and every study has changed
            (studies / ".mdal" / "records.sqlite").unlink(missing_ok=True)
            for image in studies.glob("*/CT.nii.gz"):
                image.touch()
        if phase == "training":
            requests.post(f"{address}/train/ciml", json={}, timeout=60).raise_for_status()
        with _uploading(address, studies) if phase == "upload" else _waiting(mark, phase):
            time.sleep(rng.uniform(0.0, within_s))
            started = _family(mark)
            server = next(each for each in started if "monailabel.main" in _command(each))
            os.kill(server.pid, how)
            killed = time.monotonic()
        left = psutil.wait_procs(started, timeout=PATIENCE_S)[1]
        took = time.monotonic() - killed
        left += [each for each in _family(mark) if each not in left]
    return {
        "phase": phase,
        "processes": len(started) - 1,
        "left": len(left),
        "seconds": took,
        "disagree": disagreeing(studies),
    }


def disagreeing(studies: Path) -> int:
    """Number of labels whose file comes from another upload than their notes."""
    datastore = CaseDatastore(Workspace(studies, AppSettings(study_labels="ignore")))
    wrong = 0
    for id in datastore.get_labeled_images():
        voxels = int(datastore.labels.read(datastore.workspace.pool.by_id[id]).array.sum())
        wrong += datastore.get_label_info(id, "final")["voxels"] != voxels
    datastore.workspace.plan.close()
    return wrong


@contextmanager
def _uploading(address: str, studies: Path) -> Iterator[None]:
    """Send labels one after another, each with its number of voxels in the notes."""
    ended = threading.Event()

    def send() -> None:
        workspace, number = Workspace(studies, AppSettings()), 0
        while not ended.is_set():
            number += 1
            id = LABELLED[number % len(LABELLED)]
            grid = read_grid(workspace.pool.by_id[id].modalities["MR_T1"])
            label = np.zeros(grid.shape, dtype=np.uint8)
            label.reshape(-1)[: 1 + number] = 1
            file = studies.parent / f"{id}.nii.gz"
            nib.save(nib.Nifti1Image(label.T, grid.affine), file)
            try:
                requests.put(
                    f"{address}/datastore/label",
                    params={"image": id, "tag": "final"},
                    data={"params": json.dumps({"voxels": 1 + number})},
                    files={"label": (file.name, file.read_bytes())},
                    timeout=30,
                ).raise_for_status()
            except requests.ConnectionError:
                return

    sender = threading.Thread(target=send)
    sender.start()
    try:
        yield
    finally:
        ended.set()
        sender.join()


@contextmanager
def _waiting(mark: str, phase: str) -> Iterator[None]:
    """Wait until the process of a phase has started; it may still be importing."""
    wait_until(
        lambda: any(_STARTED[phase] in _command(each) for each in _family(mark)), seconds=300, what=phase
    )
    yield


def _family(mark: str) -> list[psutil.Process]:
    """Every running process with the mark in its environment."""
    return [
        process
        for process in psutil.process_iter()
        if _asked(process, lambda it: it.environ().get(_MARK)) == mark
    ]


def _command(process: psutil.Process) -> str:
    return _asked(process, lambda it: " ".join(it.cmdline())) or ""


def _asked(process: psutil.Process, question: Callable[[psutil.Process], str | None]) -> str | None:
    """Answer of a process to a question about itself; None if the process has ended."""
    try:
        return None if process.status() == psutil.STATUS_ZOMBIE else question(process)
    except psutil.Error:
        return None


def main(
    kills: Annotated[int, typer.Option(help="Kills in each phase.")] = 5,
    seed: Annotated[int, typer.Option(help="Seed of the moments of the kills.")] = 0,
) -> None:
    """Kill servers, and count the processes and the inconsistent labels that are left."""
    rng, console, rows = np.random.default_rng(seed), Console(), []
    with tempfile.TemporaryDirectory() as folder:
        studies = studies_of(Path(folder) / "studies")
        for phase in PHASES:
            for _ in range(kills):
                rows.append(kill_once(studies, phase, rng))
                console.print(rows[-1])
    summary = [
        {
            "phase": phase,
            "kills": kills,
            "processes": sum(row["processes"] for row in rows if row["phase"] == phase),
            "left": sum(row["left"] for row in rows if row["phase"] == phase),
            "slowest_s": max(row["seconds"] for row in rows if row["phase"] == phase),
            "disagree": sum(row["disagree"] for row in rows if row["phase"] == phase),
        }
        for phase in PHASES
    ]
    console.print(table_of(summary, "A server under kill -9"))
    write_rows(ROWS, summary)


if __name__ == "__main__":
    typer.run(main)
