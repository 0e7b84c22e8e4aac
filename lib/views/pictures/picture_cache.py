"""What the page shows of the images: made once, then answered from disk."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path

from lib.runtime.disk_cache import PART, evict_least_recently_used
from lib.runtime.files import replacing
from lib.runtime.own_files import set_aside

IN_USE_S = 60.0  # while a file is perhaps still being sent


class KeptPictures:
    """Pictures or volumes in a folder, each under what it shows, bounded in bytes."""

    def __init__(self, folder: Path, *, max_bytes: float) -> None:
        """Keep the files in `folder`; the one longest unused goes first."""
        self.folder, self.max_bytes = folder, max_bytes

    def file(self, *shown: object, suffix: str, make: Callable[[Path], object]) -> Path:
        """A file, made now if it is not there.

        Args:
            shown: All that the file depends on, as JSON can say it: ids, stamps, versions.
            suffix: Of the file.
            make: Writes it to the path that it is given.
        """
        key = hashlib.blake2b(json.dumps(shown).encode(), digest_size=16).hexdigest()
        path = self.folder / f"{key}{suffix}"
        if path.exists() and not (path.is_file() and path.stat().st_size):
            set_aside(path, "it is no picture. It is made again.")
        try:
            os.utime(path)
        except FileNotFoundError:
            with replacing(path) as part:
                make(part)
            there = [entry for entry in self.folder.iterdir() if not entry.name.startswith(PART)]
            evict_least_recently_used(there, self.max_bytes, in_use_s=IN_USE_S)
        return path
