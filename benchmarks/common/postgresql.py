"""A private PostgreSQL server, however PostgreSQL was installed."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg

MISSING = "PostgreSQL must be installed for this: sudo apt-get install --no-install-recommends postgresql"


def programs() -> Path | None:
    """Folder of the newest installed server's programs, None without any; Debian keeps them off the PATH."""
    found = shutil.which("initdb")
    if found:
        return Path(found).parent
    folders = [path.parent for path in Path("/usr/lib/postgresql").glob("*/bin/initdb")]
    return max(folders, key=lambda folder: int(folder.parent.name), default=None)


@contextmanager
def postgresql() -> Iterator[str]:
    """A private server in a temporary folder; yields the address of its empty database."""
    binaries = programs()
    if binaries is None:
        raise FileNotFoundError(MISSING)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with tempfile.TemporaryDirectory(prefix="postgresql-") as folder:
        other: dict[str, Any] = {}
        if os.getuid() == 0:  # PostgreSQL refuses to run as root
            shutil.chown(folder, "postgres", "postgres")
            other = {"user": "postgres", "group": "postgres", "extra_groups": []}
        cluster, log = f"{folder}/cluster", Path(folder, "log")
        settings = ["-U", "postgres", "-A", "trust", "-E", "UTF8", "--no-sync"]
        initdb = [f"{binaries}/initdb", "-D", cluster, *settings]
        subprocess.run(initdb, cwd=folder, check=True, capture_output=True, **other)
        command = [f"{binaries}/postgres", "-D", cluster, "-p", str(port), "-h", "127.0.0.1", "-k", ""]
        with log.open("w") as output:
            server = subprocess.Popen(command, cwd=folder, stdout=output, stderr=output, **other)
        try:
            address = f"postgresql://postgres@127.0.0.1:{port}/postgres"
            _wait_until_it_answers(address, server, log)
            yield address
        finally:
            server.send_signal(signal.SIGQUIT)  # immediate shutdown, as the folder is deleted anyway
            server.wait()


def _wait_until_it_answers(address: str, server: subprocess.Popen[Any], log: Path) -> None:
    end = time.monotonic() + 120
    while True:
        try:
            psycopg.connect(address).close()
            return
        except psycopg.OperationalError:
            if server.poll() is not None or time.monotonic() > end:
                raise RuntimeError(f"PostgreSQL did not start:\n{log.read_text()[-3000:]}") from None
            time.sleep(0.1)
