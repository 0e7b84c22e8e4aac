"""Work that a server hands to a process of its own, through the command line."""

from __future__ import annotations

import asyncio
import logging
import os
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from lib import ROOT
from lib.pipeline.settings import as_conf
from lib.pipeline.workspace import Workspace
from lib.runtime.processes import server_environment
from lib.server.errors import ClientError
from lib.server.upstream.application import running_application

logger = logging.getLogger(__name__)


def check_in_background(workspace: Workspace) -> subprocess.CompletedProcess[str]:
    """The pool check in a process of its own, which leaves its result where the site looks for it."""
    return _run(workspace, "check")


def segment_in_background(workspace: Workspace, case_ids: Sequence[str]) -> subprocess.CompletedProcess[str]:
    """Segment cases at low priority in a process of its own, which leaves them in the site's cache."""
    return _run(workspace, "segment", *(word for id in case_ids for word in ("--case", id)))


def _run(workspace: Workspace, name: str, *options: str) -> subprocess.CompletedProcess[str]:
    command = [
        sys.executable,
        "-m",
        "lib.cli.background",
        name,
        workspace.folders.address,
        "--background",
        *options,
    ]
    for key, value in as_conf(workspace.settings).items():
        command += ["--conf", f"{key}={value}"]
    return subprocess.run(
        command,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT), **server_environment()},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )


@contextmanager
def ending_in_a_sentence() -> Iterator[None]:
    """Let a job that is refused end its own process with the sentence; a server's client is told it.

    MONAI Label starts a process for each job and lets its exceptions end it with a traceback in the log.
    """
    try:
        yield
    except ClientError as err:
        if running_application() is not None:
            raise
        logger.error("%s", err.detail)
        raise SystemExit(1) from None


def stop_jobs() -> None:
    """End scoring and training when the server is stopped; Python would wait until they are done."""
    from monailabel.utils.async_tasks import utils  # takes seconds to import; only a server has jobs

    for method, executor in utils.background_executors.items():
        ending = threading.Thread(target=executor.shutdown, kwargs={"cancel_futures": True}, daemon=True)
        ending.start()
        while ending.is_alive():  # a job that was just starting has no process to stop yet
            if utils.processes(method):
                utils.stop_background_task(method)
            ending.join(0.2)


def stop_jobs_at_the_end() -> asyncio.Task[None] | None:
    """Have scoring and training end with the event loop of the server that asks, however it was stopped.

    Returns:
        To be kept until then; None where no loop runs, and so no server.
    """

    async def wait() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            stop_jobs()

    try:
        return asyncio.get_running_loop().create_task(wait())
    except RuntimeError:
        return None
