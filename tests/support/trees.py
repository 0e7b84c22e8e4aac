"""Folders: copied from the samples, and looked at from outside."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from pathlib import Path


def copied(samples: Path, studies: Path, *ids: str) -> Path:
    """Patients in a fresh studies folder."""
    for id in ids:
        shutil.copytree(samples / id, studies / id)
    return studies


def trained_models(folder: Path) -> set[tuple[Path, int]]:
    """Models of a scoring, each with the time it was written: one that is trained again is another."""
    return {(path, path.stat().st_mtime_ns) for path in folder.rglob("model-*.pt")}


def files_below(root: Path, *, without: Sequence[Path] = ()) -> dict[str, tuple[int, int]]:
    """Size and time of each file, link, pipe or device below a folder."""
    found = {}
    for place, folders, files in os.walk(root):
        folders[:] = [name for name in folders if Path(place, name) not in without]
        for name in files:
            path = Path(place, name)
            if path not in without:
                stat = path.lstat()
                found[str(path)] = (stat.st_size, stat.st_mtime_ns)
    return found
