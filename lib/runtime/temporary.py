"""The server's own folder for temporary files: private, and swept of what killed servers left."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

_LOCK, _SERVER = ".lock", "server-"
_claimed: dict[Path, FileLock] = {}  # for as long as this process lives


def keep_private(work: Path, logs: Path) -> None:
    """Have what this process and its children write from now on readable by this user alone.

    Args:
        work: Folder of the server's own files.
        logs: Folder of MONAI Label's log, which names patients and is begun before an app is made.
    """
    os.umask(0o077)
    for log in logs.glob("*.log*"):
        with suppress(OSError):  # another user's
            log.chmod(0o600)
    claim_temporary_folder(work)


def claim_temporary_folder(work: Path) -> Path:
    """A folder of this process under `work/tmp`, in which every temporary file lies from now on.

    Images of patients pass through temporary files. The system's folder is shared with other users, and
    nobody empties it. What a server that is gone left is removed here; each live one holds a lock.

    Raises:
        OSError: If the folder cannot be made.
    """
    root = work / "tmp"
    root.mkdir(mode=0o700, parents=True, exist_ok=True)
    root.chmod(0o700)
    with FileLock(root / _LOCK):  # a folder that another server is just making is not swept
        for left in root.glob(f"{_SERVER}*"):
            _remove_if_nobody_holds(left)
        folder = Path(tempfile.mkdtemp(dir=root, prefix=_SERVER))
        lock = FileLock(folder / _LOCK)
        lock.acquire()
    _claimed[folder] = lock
    tempfile.tempdir = str(folder)
    os.environ["TMPDIR"] = str(folder)  # of the processes that this one starts
    return folder


@contextmanager
def new_file(prefix: str, suffix: str) -> Iterator[Path]:
    """A temporary file that stays when the block ends, and is removed if the block raises."""
    with tempfile.NamedTemporaryFile(prefix=prefix, suffix=suffix, delete=False) as file:
        path = Path(file.name)
    try:
        yield path
    except BaseException:
        path.unlink(missing_ok=True)
        raise


def is_temporary(path: Path) -> bool:
    """Whether a file lies in a folder that this process claimed, so that nobody misses it."""
    return any(path.absolute().is_relative_to(folder) for folder in _claimed)


def _remove_if_nobody_holds(left: Path) -> None:
    lock = FileLock(left / _LOCK)
    try:
        lock.acquire(timeout=0)
    except (Timeout, OSError):  # a live server's, or a file that somebody else put there
        return
    shutil.rmtree(left, ignore_errors=True)
    lock.release()
