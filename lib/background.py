"""Work that a server hands to a process of its own, through the command line."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

from lib.lifetime import known_as_server
from lib.settings import as_conf
from lib.site import Site


def check_in_background(site: Site) -> subprocess.CompletedProcess[str]:
    """The pool check in a process of its own, which leaves its result where the site looks for it."""
    return _run(site, "check")


def segment_in_background(site: Site, case_ids: Sequence[str]) -> subprocess.CompletedProcess[str]:
    """Segment cases at low priority in a process of its own, which leaves them in the site's cache."""
    return _run(site, "segment", *(word for id in case_ids for word in ("--case", id)))


def _run(site: Site, name: str, *options: str) -> subprocess.CompletedProcess[str]:
    package = Path(__file__).parent.parent
    command = [sys.executable, "-m", "lib.background_command", name, site.address, "--background", *options]
    for key, value in as_conf(site.settings).items():
        command += ["--conf", f"{key}={value}"]
    return subprocess.run(
        command,
        cwd=package,
        env={**os.environ, "PYTHONPATH": str(package), **known_as_server()},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )


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
