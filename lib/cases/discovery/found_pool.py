"""The pool as last found; it is searched again while the program runs and replaced if it changed."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence

from lib.cases.case import CaseError
from lib.cases.discovery.file_stamps import FileStamps
from lib.cases.pool import Pool

_MODALITIES_VARIABLE = "MDAL_CIML_MODALITIES"  # environment variable that a server sets for its children


def hold_modalities(modalities: Sequence[str]) -> None:
    """Limit the pools of all child processes to these modalities, as `FoundPool.refresh` does here."""
    os.environ[_MODALITIES_VARIABLE] = ",".join(modalities)


def release_modalities() -> None:
    """Undo `hold_modalities` when a server starts."""
    os.environ.pop(_MODALITIES_VARIABLE, None)


class FoundPool:
    """Cases of a folder or a PACS, and the stamps of their files.

    Attributes:
        pool: Cases; the object is replaced, never changed, when the studies change.
        stamps: Stamps of the files of `pool`.
    """

    def __init__(self, find: Callable[[], Pool], tree: Callable[[], str], *, where: str) -> None:
        """Find the cases.

        Args:
            find: Finds the cases, now and at each refresh.
            tree: Returns a stamp of the whole folder quickly; always empty for a PACS.
            where: Address of the studies, for messages.

        Raises:
            CaseError: If `find` raises it.
        """
        self._find, self._tree_stamp, self._where = find, tree, where
        self._tree = self._last_tree = tree()  # of the present pool, and at the last refresh
        held = [name for name in os.environ.get(_MODALITIES_VARIABLE, "").split(",") if name]
        self.pool = find().limited_to(held) if held else find()
        self.stamps = FileStamps.of(self.pool)

    def refresh(self, modalities: Sequence[str], *, settled: bool = False) -> bool:
        """Search the studies again; return whether any study is new, changed or gone.

        A volume that is now left out in favour of another counts as a change too. A new label beside the
        images also replaces the pool, but does not count as a change of the studies.

        Args:
            modalities: Modalities to use. Others are left out, because the arrays and the model have no
                channel for them until the next start.
            settled: Ignore a folder that changed since the last call, because studies are probably still
                being copied to it.

        Raises:
            CaseError: If `find` raises it, or no case is left; the pool then stays unchanged.
        """
        tree, seen = self._tree_stamp(), self._last_tree
        self._last_tree = tree
        if tree and (tree == self._tree or (settled and tree != seen)):
            return False
        found = self._find().limited_to(modalities)
        if not found.cases:
            raise CaseError(
                f"studies must hold at least one case; none is left under {self._where}. "
                f"The {len(self.pool.cases)} earlier cases stay listed. Check that the disk is mounted."
            )
        stamps, before = FileStamps.of(found), self.stamps
        self._tree, self.stamps = tree, stamps
        if stamps == before and found.skipped == self.pool.skipped:
            return False
        self.pool = found
        return (stamps.images, stamps.notes) != (before.images, before.notes)
