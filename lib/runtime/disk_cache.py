"""Room on disk: of what can be made again, the longest unused is removed."""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

PART = ".part-"  # how an entry's name begins while it is written or removed


def evict_least_recently_used(
    entries: Iterable[Path], max_bytes: float, *, needed: int = 0, in_use_s: float = 0.0
) -> None:
    """Remove entries until the others and `needed` more bytes are within `max_bytes`.

    Any number of processes may do so at once. An entry goes at once or not at all, so that a kill or a reader
    finds none half there.

    Args:
        entries: Files, or folders of files; whoever uses one sets its time of modification.
        max_bytes: For all of them.
        needed: Bytes that are about to be written.
        in_use_s: Seconds for which what was used is perhaps still being read, and stays.
    """
    sizes = {entry: bytes_in(entry) for entry in entries}
    excess = sum(sizes.values()) + needed - max_bytes
    newest = time.time() - in_use_s
    for entry, used in sorted(((entry, _used(entry)) for entry in sizes), key=lambda pair: pair[1]):
        if excess <= 0 or (in_use_s and used > newest):
            return
        _remove(entry)
        excess -= sizes[entry]


def bytes_in(entry: Path) -> int:
    """Size of a file, or of a folder's files; 0 if another process removed it."""
    try:
        files = entry.iterdir() if entry.is_dir() else [entry]
        return sum(file.stat().st_size for file in files)
    except FileNotFoundError:
        return 0


def _used(entry: Path) -> float:
    try:
        return entry.stat().st_mtime
    except FileNotFoundError:
        return 0.0


def _remove(entry: Path) -> None:
    gone = Path(tempfile.mkdtemp(prefix=PART, dir=entry.parent))
    with suppress(FileNotFoundError):  # another process removed it
        entry.rename(gone / "entry")
    shutil.rmtree(gone)
