"""A folder is kept within its bytes; what was longest unused goes first."""

from __future__ import annotations

import os
import time
from pathlib import Path

from lib.runtime.disk_cache import bytes_in, evict_least_recently_used


def entry(folder: Path, name: str, size: int, *, unused_s: float) -> Path:
    path = folder / name
    path.mkdir()
    (path / "array").write_bytes(bytes(size))
    used = time.time() - unused_s
    os.utime(path, (used, used))
    return path


def test_the_longest_unused_goes_first(tmp_path: Path) -> None:
    old, new = entry(tmp_path, "a", 60, unused_s=10), entry(tmp_path, "b", 60, unused_s=1)
    file = tmp_path / "file"
    file.write_bytes(bytes(30))
    evict_least_recently_used(tmp_path.iterdir(), 150)
    assert set(tmp_path.iterdir()) == {old, new, file}
    evict_least_recently_used(tmp_path.iterdir(), 149)
    assert set(tmp_path.iterdir()) == {new, file}
    evict_least_recently_used(tmp_path.iterdir(), 100, needed=50)
    assert set(tmp_path.iterdir()) == {file}


def test_what_is_perhaps_being_read_stays_though_there_is_no_room(tmp_path: Path) -> None:
    entry(tmp_path, "old", 60, unused_s=100)
    new = entry(tmp_path, "new", 60, unused_s=1)
    evict_least_recently_used(tmp_path.iterdir(), 10, in_use_s=50)
    assert list(tmp_path.iterdir()) == [new]


def test_what_another_process_removed_counts_nothing(tmp_path: Path) -> None:
    kept = entry(tmp_path, "kept", 60, unused_s=1)
    evict_least_recently_used([tmp_path / "gone", kept], 60)
    assert list(tmp_path.iterdir()) == [kept]
    assert bytes_in(tmp_path / "gone") == 0
