"""Writing a file so that a reader sees the old one or the new one, whatever kills the writer."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lib.room import PART


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A new file to write in place of `path`, put there when the block ends and dropped if it raises.

    Its name ends like `path`'s, since libraries choose a format by the suffix.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=PART, suffix=f"-{path.name}")
    os.close(handle)
    part = Path(name)
    try:
        yield part
        with part.open("rb") as stream:
            os.fsync(stream.fileno())
        part.chmod(0o644)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
