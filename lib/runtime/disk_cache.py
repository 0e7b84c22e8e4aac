"""Caches on disk with a size limit: the least recently used entries are evicted first."""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

PART = ".part-"  # prefix of an entry's name while the entry is written or removed


def evict_least_recently_used(
    entries: Iterable[Path], max_bytes: float, *, needed: int = 0, in_use_s: float = 0.0
) -> None:
    """Evict entries until the rest and `needed` more bytes are within `max_bytes`.

    Several processes may evict at the same time. An entry is removed in one step, so that neither a kill
    nor a reader ever sees half of it.

    Args:
        entries: Files, or folders of files; a user of an entry sets its modification time.
        max_bytes: Size limit of all entries together.
        needed: Bytes that are about to be written.
        in_use_s: Seconds after its last use during which an entry may still be read and is kept.
    """
    sizes = {entry: bytes_in(entry) for entry in entries}
    excess = sum(sizes.values()) + needed - max_bytes
    newest = time.time() - in_use_s
    for entry, used in sorted(((entry, _last_used(entry)) for entry in sizes), key=lambda pair: pair[1]):
        if excess <= 0 or (in_use_s and used > newest):
            return
        _remove(entry)
        excess -= sizes[entry]


def bytes_in(entry: Path) -> int:
    """Size of a file, or of the files in a folder; 0 if another process removed the entry."""
    try:
        files = entry.iterdir() if entry.is_dir() else [entry]
        return sum(file.stat().st_size for file in files)
    except FileNotFoundError:
        return 0


def _last_used(entry: Path) -> float:
    try:
        return entry.stat().st_mtime
    except FileNotFoundError:
        return 0.0


def _remove(entry: Path) -> None:
    gone = Path(tempfile.mkdtemp(prefix=PART, dir=entry.parent))
    with suppress(FileNotFoundError):  # another process removed it
        entry.rename(gone / "entry")
    shutil.rmtree(gone)
