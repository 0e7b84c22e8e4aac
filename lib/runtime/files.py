"""Atomic writes: a reader sees the old file or the new one, even if the writer is killed."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from uuid import uuid4

from lib.runtime.disk_cache import PART


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """New file that replaces `path` when the block ends, and is removed if the block raises.

    The new file has the suffix of `path`, because libraries choose a format by the suffix.
    """
    part = part_of(path)
    try:
        yield part
        make_durable(part)
        part.replace(path)
    except BaseException:
        with suppress(OSError):
            part.unlink()
        raise


def part_of(path: Path) -> Path:
    """New, empty file beside `path`; creates the folder if it is missing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{PART}{uuid4().hex[:8]}-{path.name}")
    part.touch(exist_ok=False)
    return part


def make_durable(part: Path) -> None:
    """Wait until the content of a file is on the disk."""
    with part.open("rb") as stream:
        os.fsync(stream.fileno())
