"""Private folders for temporary files of a server and its jobs; what killed ones left is removed."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

_LOCK, _SERVER_PREFIX = ".lock", "server-"
_claimed: dict[Path, FileLock] = {}  # held until this process ends


def keep_private(work: Path, logs: Path) -> None:
    """Make all files that this process and its children write from now on readable by this user alone.

    Args:
        work: Folder of the server's own files.
        logs: Folder of MONAI Label's log. The log names patients, and MONAI Label opens it before this call.
    """
    os.umask(0o077)
    for log in logs.glob("*.log*"):
        with suppress(OSError):  # the log belongs to another user
            log.chmod(0o600)
    claim_temporary_folder(work)


def claim_temporary_folder(work: Path) -> Path:
    """Folder of this process under `work/tmp`, used for all its temporary files from now on.

    Images of patients pass through temporary files, and the system's temporary folder is shared with other
    users and rarely emptied. Each running server, and each of its jobs, locks its folder; folders without a
    lock are removed.

    Raises:
        OSError: If the folder cannot be created.
    """
    root = work / "tmp"
    root.mkdir(mode=0o700, parents=True, exist_ok=True)
    root.chmod(0o700)
    remove_left_folders(work)
    with FileLock(root / _LOCK):
        folder = Path(tempfile.mkdtemp(dir=root, prefix=_SERVER_PREFIX))
        lock = FileLock(folder / _LOCK)
        lock.acquire()
    _claimed[folder] = lock
    tempfile.tempdir = str(folder)
    os.environ["TMPDIR"] = str(folder)  # for child processes
    return folder


def claim_folder_beside_the_servers() -> None:
    """Folder of this job's own, if the server that started it has one: so it can be removed after the job."""
    servers = Path(os.environ.get("TMPDIR", os.curdir))
    if servers.name.startswith(_SERVER_PREFIX):
        with suppress(OSError):  # no place for another folder: the server's will do
            claim_temporary_folder(servers.parents[1])


def remove_left_folders(work: Path) -> None:
    """Remove the folders under `work/tmp` of processes that have ended, killed ones among them."""
    root = work / "tmp"
    with FileLock(root / _LOCK):  # do not remove a folder that another process is creating
        for left in root.glob(f"{_SERVER_PREFIX}*"):
            _remove_if_nobody_holds(left)


@contextmanager
def new_file(prefix: str, suffix: str) -> Iterator[Path]:
    """Temporary file that is kept when the block ends, and removed if the block raises."""
    with tempfile.NamedTemporaryFile(prefix=prefix, suffix=suffix, delete=False) as file:
        path = Path(file.name)
    try:
        yield path
    except BaseException:
        path.unlink(missing_ok=True)
        raise


def is_temporary(path: Path) -> bool:
    """Whether a file lies in a folder that this process claimed, so that it may be deleted."""
    return any(path.absolute().is_relative_to(folder) for folder in _claimed)


def _remove_if_nobody_holds(left: Path) -> None:
    lock = FileLock(left / _LOCK)
    try:
        lock.acquire(timeout=0)
    except (Timeout, OSError):  # a running server holds it, or it is somebody else's file
        return
    shutil.rmtree(left, ignore_errors=True)
    lock.release()
