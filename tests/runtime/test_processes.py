"""Whatever ends a process, what it started ends too."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from tests.support.images import write_image

ROOT = Path(__file__).parents[2]
PATIENCE_S = 5.0
BUSY = "import ctypes; ctypes.PyDLL(None).sleep(60)"  # with Python's lock held: no other thread runs

CHILD_OF_ANOTHER = (
    "from lib.runtime.processes import end_with_the_parent; end_with_the_parent(1); print('goes on')"
)
PARENT_OF_A_BUSY_CHILD = f"""
import os, subprocess, sys, time
child = "from lib.runtime.processes import end_with_the_parent; end_with_the_parent({{}}); {BUSY}"
subprocess.Popen([sys.executable, "-c", child.format(os.getpid())])
time.sleep(60)
"""
POOL_OF_BUSY_PROCESSES = f"""
from lib.runtime.processes import process_pool
with process_pool(2) as pool:
    list(pool.map(exec, [{BUSY!r}] * 2))
"""
SHARES_OF_BUSY_PROCESSES = """
import torch
from lib.runtime.distributed import share_out
from tests.runtime.test_processes import Busy
share_out(Busy(), range(2), device=torch.device("cpu"), processes=2)
"""
CHECKING_SERVER = """
import sys
from lib.server.subprocesses import check_in_background
from lib.pipeline.settings import AppSettings
from lib.pipeline.workspace import Workspace
check_in_background(Workspace(sys.argv[1], AppSettings(workers=2)))
"""
SEGMENTING_SERVER = """
import sys
from lib.server.subprocesses import segment_in_background
from lib.pipeline.settings import AppSettings
from lib.pipeline.workspace import Workspace
site = Workspace(sys.argv[1], AppSettings())
segment_in_background(site, [case.id for case in site.pool.cases])
"""
STARTING_A_JOB = """
import os, subprocess, sys
from lib.runtime.processes import server_environment
command = [sys.executable, "-m", "monailabel.interfaces.utils.app", "-m", "scoring", "-r", "{}"]
where = {"MONAI_LABEL_APP_DIR": sys.argv[2], "MONAI_LABEL_STUDIES": sys.argv[1]}
subprocess.run(command, env={**os.environ, **server_environment(), **where})
"""


class Busy:
    """A job that never ends, computing in a library."""

    def __call__(self, *_: object) -> None:
        exec(BUSY)


@contextmanager
def running(script: str, *arguments: object) -> Iterator[psutil.Process]:
    """A process that runs a script."""
    process = subprocess.Popen(
        [sys.executable, "-c", script, *map(str, arguments)],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.DEVNULL,
    )
    family: list[psutil.Process] = []
    try:
        yield psutil.Process(process.pid)
    finally:
        family += psutil.Process(process.pid).children(recursive=True) if process.poll() is None else []
        process.kill()
        process.wait()
        psutil.wait_procs(family, timeout=PATIENCE_S)


def descendants(process: psutil.Process, count: int) -> list[psutil.Process]:
    """Wait until a process has so many descendants beside the tracker that Python starts."""
    end = time.monotonic() + 60.0
    while time.monotonic() < end:
        found = process.children(recursive=True)
        if len([each for each in found if "resource_tracker" not in " ".join(each.cmdline())]) >= count:
            return found
        time.sleep(0.05)
    raise TimeoutError(f"{count} processes must be started; got {found}")


def left_after_a_kill(process: psutil.Process, family: list[psutil.Process]) -> list[psutil.Process]:
    """What is left of a family some seconds after its head was killed."""
    process.kill()
    return psutil.wait_procs(family, timeout=PATIENCE_S)[1]


def test_a_process_whose_parent_ended_before_it_could_look_ends_at_once() -> None:
    ended = subprocess.run(
        [sys.executable, "-c", CHILD_OF_ANOTHER], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert (ended.returncode, ended.stdout) == (1, "")


@pytest.mark.parametrize(
    ("script", "count"),
    [(PARENT_OF_A_BUSY_CHILD, 1), (POOL_OF_BUSY_PROCESSES, 2), (SHARES_OF_BUSY_PROCESSES, 2)],
    ids=["child", "pool", "shares"],
)
@pytest.mark.parametrize("importing", [True, False], ids=["importing", "computing"])
def test_processes_end_with_their_parent_even_inside_a_library(
    script: str, count: int, importing: bool
) -> None:
    with running(script) as parent:
        family = descendants(parent, count)
        if not importing:
            time.sleep(2.0)
        assert left_after_a_kill(parent, family) == []


@pytest.mark.slow
@pytest.mark.parametrize("count", [1, 3], ids=["importing", "computing"])
def test_the_pool_check_and_its_processes_end_with_the_server(tmp_path: Path, count: int) -> None:
    for number in range(10):
        for modality in ("CT", "PET"):
            write_image(tmp_path / "studies" / f"P{number:02}" / f"{modality}.nii.gz", shape=(128,) * 3)
    with running(CHECKING_SERVER, tmp_path / "studies") as server:
        assert left_after_a_kill(server, descendants(server, count)) == []


@pytest.mark.slow
def test_segmenting_ahead_ends_with_the_server(tmp_path: Path) -> None:
    write_image(tmp_path / "studies" / "P" / "CT.nii.gz")
    with running(SEGMENTING_SERVER, tmp_path / "studies") as server:
        assert left_after_a_kill(server, descendants(server, 1)) == []


@pytest.mark.slow
@pytest.mark.parametrize("app", [ROOT, ROOT / "apps" / "mdal_ciml"])
def test_a_job_that_is_still_importing_ends_with_the_server(tmp_path: Path, app: Path) -> None:
    write_image(tmp_path / "studies" / "P" / "CT.nii.gz")
    with running(STARTING_A_JOB, tmp_path / "studies", app) as server:
        assert left_after_a_kill(server, descendants(server, 1)) == []
