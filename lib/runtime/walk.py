"""Walk over the folders below a folder, without recursion and without visiting a folder twice."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

MAX_DEPTH = 32  # levels of folders; no study lies deeper
Entries = list[os.DirEntry[str]]


def below(top: Path, entries_in: Callable[[Path], Entries]) -> Iterator[tuple[Path, Entries, bool]]:
    """A folder and the folders below it, in order.

    Args:
        top: Folder to start from.
        entries_in: Lists the wanted entries of a folder; must not raise.

    Yields:
        Folder, its entries, and whether it lies deeper than `MAX_DEPTH`; the entries of such a folder are not
        listed. Each folder comes once, even if several links lead to it. A folder that disappears meanwhile
        is left out.
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
        entries = entries_in(place) if depth <= MAX_DEPTH else []
        yield place, entries, depth > MAX_DEPTH
        waiting += [(Path(entry.path), depth + 1) for entry in reversed(entries) if is_folder(entry)]


def is_folder(entry: os.DirEntry[str]) -> bool:
    """Whether an entry is a folder or a link to a folder; False if the file system cannot tell."""
    try:
        return entry.is_dir()
    except OSError:
        return False
