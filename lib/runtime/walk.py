"""The folders below a folder, however they lie: without recursion, and no folder twice."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

DEEPEST = 32  # folders; below that lies no study
Entries = list[os.DirEntry[str]]


def below(top: Path, entries_in: Callable[[Path], Entries]) -> Iterator[tuple[Path, Entries, bool]]:
    """A folder and those below it, in order.

    Args:
        top: Where to begin.
        entries_in: Lists what is wanted of a folder; it does not raise.

    Yields:
        Folder, its entries, and whether it lies deeper than `DEEPEST`: it is not listed then. Each folder
        comes once, though several links lead to it; one that is gone meanwhile is left out.
    """
    waiting = [(top, 0)]
    known: set[tuple[int, int]] = set()
    while waiting:
        place, depth = waiting.pop()
        try:
            itself = os.stat(place)
        except OSError:
            continue
        if (itself.st_dev, itself.st_ino) in known:
            continue
        known.add((itself.st_dev, itself.st_ino))
        entries = entries_in(place) if depth <= DEEPEST else []
        yield place, entries, depth > DEEPEST
        waiting += [(Path(entry.path), depth + 1) for entry in reversed(entries) if is_folder(entry)]


def is_folder(entry: os.DirEntry[str]) -> bool:
    """Whether an entry is a folder, or a link to one; False where nobody can say."""
    try:
        return entry.is_dir()
    except OSError:
        return False
