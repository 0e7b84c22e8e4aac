"""The pool as it was last found: looked for again while the program runs, replaced when it changed."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence

from lib.cases.case import CaseError
from lib.cases.discovery.file_stamps import FileStamps
from lib.cases.pool import Pool

_MODALITIES_VARIABLE = "MDAL_CIML_MODALITIES"  # of a server, in the environment of its child processes


def hold_modalities(modalities: Sequence[str]) -> None:
    """Have every process that this one starts leave out other modalities, as `FoundPool.refresh` does."""
    os.environ[_MODALITIES_VARIABLE] = ",".join(modalities)


def release_modalities() -> None:
    """Undo `hold_modalities`: a server starts anew."""
    os.environ.pop(_MODALITIES_VARIABLE, None)


class FoundPool:
    """The cases of a folder or a PACS, and what their files looked like when they were found.

    Attributes:
        pool: Replaced, never changed, when the studies did.
        stamps: Of the files of `pool`.
    """

    def __init__(self, find: Callable[[], Pool], tree: Callable[[], str], *, where: str) -> None:
        """Find the cases.

        Args:
            find: Finds them, now and at each refresh.
            tree: What the folder looks like from outside, quick to say; always empty for a PACS.
            where: The studies' address, for messages.

        Raises:
            CaseError: As `find`.
        """
        self._find, self._tree_now, self._where = find, tree, where
        self._tree = self._seen_tree = tree()  # as it was taken, and as it was last seen
        held = [name for name in os.environ.get(_MODALITIES_VARIABLE, "").split(",") if name]
        self.pool = find().limited_to(held) if held else find()
        self.stamps = FileStamps.of(self.pool)

    def refresh(self, modalities: Sequence[str], *, settled: bool = False) -> bool:
        """Look for studies again; whether any is new, changed or gone.

        A new label beside the images replaces the pool too, and is no change of the studies.

        Args:
            modalities: Others are left out: the arrays and the model have no place for them until the next
                start.
            settled: Take only what looks as it did at the last call: while studies are copied to a folder
                they change from one call to the next.

        Raises:
            CaseError: As the constructor, or if no case is left; the cases then stay as they were.
        """
        tree, seen = self._tree_now(), self._seen_tree
        self._seen_tree = tree
        if tree and (tree == self._tree or (settled and tree != seen)):
            return False
        found = self._find().limited_to(modalities)
        if not found.cases:
            raise CaseError(
                f"studies must hold at least one case; none is left under {self._where}. "
                f"The {len(self.pool.cases)} of before stay listed. See whether its disk is there."
            )
        stamps, before = FileStamps.of(found), self.stamps
        self._tree, self.stamps = tree, stamps
        if stamps == before:
            return False
        self.pool = found
        return stamps.images != before.images
