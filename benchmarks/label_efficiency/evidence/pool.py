"""The labelled cases of a pool: the candidates, the test patients, and the truth about them."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

import numpy as np

from benchmarks.common.divided_pool import DividedPool, PartialWorkspace
from benchmarks.label_efficiency.evidence.protocol import Protocol
from lib.cases.case import Case, Source
from lib.cases.formats.image import MAX_VOXELS, read_volume, resample
from lib.ciml.training.patches import TrainingCase


class LabelledPool(DividedPool):
    """A pool from which orders choose, with every lesion as one label."""

    def __init__(self, folder: Path, protocol: Protocol, work: Path, split: int = 0) -> None:
        """Find the cases, as `DividedPool` does."""
        super().__init__(folder, protocol, work, split)
        self.protocol = protocol

    @property
    def sound_kinds(self) -> dict[str, str]:
        """Kind of lesion by id, for the undamaged cases whose kind is in the truth."""
        return {id: row["kind"] for id, row in self.truth.items() if row.get("kind") and not row["damage"]}

    @cached_property
    def digest(self) -> str:
        """Hash of everything that a training depends on apart from its cases and its seed."""
        return self.protocol.training_digest(self.contents, self.tested)

    def candidate_site(self, *, check: bool, workers: int) -> PartialWorkspace:
        """A site of the candidates alone, so that no other case influences the check or the scores.

        Args:
            check: Whether quarantined cases are held back; if not, all cases are released.
            workers: Processes of the check.
        """
        scores = self.work / f"split-{self.split}" if self.protocol.splits > 1 else self.work
        workspace = self.site(
            scores / ("checked" if check else "unchecked"),
            ids=frozenset(self.candidates),
            seed=self.protocol.scoring.seed,
            released=() if check else self.candidates,
            workers=workers,
        )
        if not workspace.recall_check():
            workspace.check()
        return workspace

    def load(self, ids: Sequence[str]) -> list[TrainingCase]:
        """Prepared cases with their lesions as one label, in the order of the ids."""
        workspace = self.workspace
        loaded = []
        for id in ids:
            case = workspace.pool.by_id[id]
            prepared = workspace.cache.get(case)
            contour = read_volume(_label(case), max_voxels=MAX_VOXELS)
            label = resample(contour, prepared.grid, nearest=True).array > 0
            loaded.append(TrainingCase(prepared, label.astype(np.uint8)))
        return loaded


def _label(case: Case) -> Source:
    if case.label is None:
        raise ValueError(f"case {case.id} must have a contour; it has none. Leave it out in the protocol.")
    return Source(case.label)
