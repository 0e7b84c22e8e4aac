"""A real server process, and Slicer's own client for it."""

from __future__ import annotations

import importlib.util
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import requests

from benchmarks.common.folders import APP, ROOT


@contextmanager
def serving(
    studies: Path | str,
    *,
    conf: Mapping[str, object] | None = None,
    app: Path | str = APP,
    cwd: Path | None = None,
    log: Path | None = None,
    environment: Mapping[str, str] | None = None,
) -> Iterator[str]:
    """Run `monailabel start_server` and yield its address; in the end kill the server and its children."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    binaries = Path(sys.executable).parent  # the script `monailabel` runs the first `python` on the PATH
    path = f"{binaries}{os.pathsep}{os.environ['PATH']}"
    command = [
        str(binaries / "monailabel"),
        "start_server",
        "--app",
        str(app),
        "--studies",
        str(studies),
        "--host",
        "127.0.0.1",
        "--port",
        str(port),
    ]
    for key, value in (conf or {}).items():
        command += ["--conf", key, str(value)]
    if log is None:
        if not isinstance(studies, Path):
            raise ValueError(f"a server on a PACS must get a log file; got none for {studies}. Set log.")
        log = studies.parent / f"{studies.name}.log"
    with log.open("w") as output:
        process = subprocess.Popen(
            command,
            cwd=cwd or ROOT,
            stdout=output,
            stderr=subprocess.STDOUT,
            env={**os.environ, "PATH": path, **(environment or {})},
            start_new_session=True,
        )
        try:
            address = f"http://127.0.0.1:{port}"
            wait_until(
                lambda: process.poll() is not None or _answers(address),
                seconds=300,  # a machine that is busy otherwise takes its time to import
                what="the server",
                log=log,
            )
            if process.poll() is not None:
                raise RuntimeError(f"the server ended at start:\n{log.read_text()[-3000:]}")
            yield address
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def wait_until(done: Any, *, seconds: float, what: str, log: Path | None = None) -> None:
    """Poll until `done()` is true.

    Raises:
        TimeoutError: If that takes too long; the message ends with the end of the log.
    """
    end = time.monotonic() + seconds
    while not done():
        if time.monotonic() > end:
            raise TimeoutError(
                f"{what} was not ready in {seconds:.0f} s\n{log.read_text()[-3000:] if log else ''}"
            )
        time.sleep(0.3)


def wait_for_plan(address: str, *, seconds: float = 300) -> dict[str, Any]:
    """Wait until the pool is scored, and return the last progress."""
    progress: dict[str, Any] = {}

    def done() -> bool:
        progress.update(requests.get(f"{address}/info/", timeout=60).json()["scoring"]["mdal"]["progress"])
        return progress.get("state") in ("done", "failed")

    wait_until(done, seconds=seconds, what="the plan")
    return progress


def train(address: str, *, seconds: float = 600, **parameters: Any) -> dict[str, Any]:
    """Train over HTTP as a client does, and return the statistics that clients see afterwards."""
    slicer = slicer_client(address)
    slicer.train_start("ciml", parameters)

    def done() -> bool:
        return requests.get(f"{address}/train/?check_if_running=true", timeout=60).status_code != 200

    time.sleep(1.0)
    wait_until(done, seconds=seconds, what="the training")
    stats: dict[str, Any] = requests.get(f"{address}/info/", timeout=60).json()["train_stats"]["ciml"]
    return stats


def slicer_client(address: str, **arguments: Any) -> Any:
    """`MONAILabelClient` of the Slicer plugin in the installed wheel."""
    path = (
        Path(sys.prefix) / "monailabel" / "plugins" / "slicer" / "MONAILabel" / "MONAILabelLib" / "client.py"
    )
    spec = importlib.util.spec_from_file_location("slicer_monailabel_client", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.MONAILabelClient(address, **arguments)


def _answers(address: str) -> bool:
    try:
        return requests.get(f"{address}/info/", timeout=60).status_code < 500  # 401 means that login is on
    except requests.RequestException:
        return False
