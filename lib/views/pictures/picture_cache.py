"""Cache of the pictures and volumes that the page shows."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path

from lib.runtime.disk_cache import PART, evict_least_recently_used
from lib.runtime.files import replacing
from lib.runtime.own_files import set_aside

IN_USE_S = 60.0  # a file used so recently may still be being sent


class PictureCache:
    """Pictures or volumes in a folder, named by a hash of their inputs and bounded in bytes."""

    def __init__(self, folder: Path, *, max_bytes: float) -> None:
        """Keep the files in `folder`; the least recently used file is evicted first."""
        self.folder, self.max_bytes = folder, max_bytes

    def file(self, *shown: object, suffix: str, make: Callable[[Path], object]) -> Path:
        """Path of a file, made now if it does not exist.

        Args:
            shown: Inputs that the file depends on, as JSON values: ids, stamps, versions.
            suffix: Suffix of the file.
            make: Writes the file to the given path.
        """
        key = hashlib.blake2b(json.dumps(shown).encode(), digest_size=16).hexdigest()
        path = self.folder / f"{key}{suffix}"
        if path.exists() and not (path.is_file() and path.stat().st_size):
            set_aside(path, "it is not a picture. It is made again.")
        try:
            os.utime(path)
        except FileNotFoundError:
            with replacing(path) as part:
                make(part)
            there = [entry for entry in self.folder.iterdir() if not entry.name.startswith(PART)]
            evict_least_recently_used(there, self.max_bytes, in_use_s=IN_USE_S)
        return path
