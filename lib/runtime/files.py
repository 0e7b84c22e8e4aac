"""Writing a file so that a reader sees the old one or the new one, whatever kills the writer."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from uuid import uuid4

from lib.runtime.disk_cache import PART


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A new file to write in place of `path`, put there when the block ends and dropped if it raises.

    Its name ends like `path`'s, since libraries choose a format by the suffix.
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
    """A new, empty file beside `path`, in a folder that is made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{PART}{uuid4().hex[:8]}-{path.name}")
    part.touch(exist_ok=False)
    return part


def make_durable(part: Path) -> None:
    """Wait until a file's content is on the disk."""
    with part.open("rb") as stream:
        os.fsync(stream.fileno())
