"""The labelled cases of a pool: the candidates, the test patients, and the truth about them."""

from __future__ import annotations

import csv
import hashlib
from collections.abc import Collection, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path

import numpy as np

from benchmarks.label_efficiency.evidence.protocol import Protocol
from lib.cases.case import Case, Source
from lib.cases.formats.image import MAX_VOXELS, read_volume, resample
from lib.cases.pool import Pool
from lib.cases.preprocessing import VolumeCache
from lib.ciml.training.patches import TrainingCase
from lib.pipeline.settings import AppSettings
from lib.pipeline.workspace import Workspace

TRUTH = "truth.csv"
_NO_BOUND = 2**62  # bytes
Truth = dict[str, dict[str, str]]


class PartialWorkspace(Workspace):
    """A site that sees some cases and modalities of a folder, as if there were no others."""

    def __init__(
        self,
        studies: Path,
        settings: AppSettings,
        *,
        modalities: Sequence[str],
        prepared: Path,
        ids: Collection[str] | None = None,
    ) -> None:
        """Show some cases of a folder.

        Args:
            studies: Folder of the pool.
            settings: Settings of the site, with a work folder of its own.
            modalities: Modalities that are shown.
            prepared: Folder for prepared cases, shared by all sites of a pool.
            ids: Ids of the cases that are shown; all when None.
        """
        self._shown, self._prepared, self._ids = tuple(modalities), prepared, ids
        super().__init__(studies, settings)

    @cached_property
    def cache(self) -> VolumeCache:
        """Prepared cases without a limit on disk space, as every run needs some of them."""
        return VolumeCache(self._prepared, self.preparation, self.records, max_bytes=_NO_BOUND)

    def find(self) -> Pool:
        """The cases that are shown."""
        pool = super().find().limited_to(self._shown)
        missing = set(self._shown) - set(pool.modalities)
        if missing:
            raise ValueError(
                f"the pool must have {', '.join(self._shown)}; {', '.join(sorted(missing))} is in no case "
                f"under {self.folders.studies}. Name its modalities in the protocol."
            )
        if self._ids is None:
            return pool
        return replace(pool, cases=tuple(case for case in pool.cases if case.id in self._ids))


class LabelledPool:
    """A pool divided by a protocol; opening it reads only file names and the truth."""

    def __init__(self, folder: Path, protocol: Protocol, work: Path, split: int = 0) -> None:
        """Find the cases.

        Args:
            folder: Folder of the pool.
            protocol: Protocol that says which cases are tested and which are left out.
            work: Folder for prepared cases, scores and models.
            split: Number of the division into candidates and test patients.

        Raises:
            ValueError: If a case of the protocol is missing, or no case is left to choose or to test.
        """
        self.folder, self.protocol, self.work, self.split = folder, protocol, work, split
        self.workspace = self._site(self._settings(work / "cases"))
        cases = self.workspace.pool.by_id
        labelled = sorted(id for id, case in cases.items() if case.label and id not in protocol.without)
        self.tested = tuple(sorted(self._tested(labelled)))
        self.candidates = tuple(id for id in labelled if id not in self.tested)
        unknown = sorted({*protocol.without, *self.tested} - cases.keys())
        if unknown or not self.tested or not self.candidates:
            raise ValueError(
                f"the pool must hold labelled candidates, test patients and every case of the protocol; got "
                f"{len(self.candidates)} candidates and {len(self.tested)} test patients under {folder}; "
                f"missing: {', '.join(unknown[:5]) or 'none'}. Correct the protocol or the folder."
            )

    @cached_property
    def truth(self) -> Truth:
        """Row of truth.csv of each case, by id; empty without that file."""
        file = self.folder / TRUTH
        if not file.exists():
            return {}
        with file.open(newline="") as stream:
            return {row["case"]: row for row in csv.DictReader(stream)}

    @property
    def sound_kinds(self) -> dict[str, str]:
        """Kind of lesion by id, for the undamaged cases whose kind is in the truth."""
        return {id: row["kind"] for id, row in self.truth.items() if row.get("kind") and not row["damage"]}

    @cached_property
    def digest(self) -> str:
        """Hash of everything that a training depends on apart from its cases and its seed."""
        of = [self.workspace.pool.by_id[id] for id in (*self.candidates, *self.tested)]
        return self.protocol.training_digest(self.workspace.records.content_hashes(of), self.tested)

    def candidate_site(self, *, check: bool, workers: int) -> PartialWorkspace:
        """A site of the candidates alone, so that no other case influences the check or the scores.

        Args:
            check: Whether quarantined cases are held back; if not, all cases are released.
            workers: Processes of the check.
        """
        scores = self.work / f"split-{self.split}" if self.protocol.splits > 1 else self.work
        settings = self._settings(scores / ("checked" if check else "unchecked"))
        settings = settings.model_copy(
            update={"released": () if check else self.candidates, "workers": workers}
        )
        workspace = self._site(settings, ids=frozenset(self.candidates))
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

    def _tested(self, labelled: Sequence[str]) -> Sequence[str]:
        test = self.protocol.test
        if test == "truth":
            return [id for id, row in self.truth.items() if row["split"] == "test" and id in labelled]
        if isinstance(test, int):
            return by_hash(labelled, f"{self.split} " if self.protocol.splits > 1 else "")[:test]
        return test

    def _site(self, settings: AppSettings, *, ids: Collection[str] | None = None) -> PartialWorkspace:
        prepared = self.work / "prepared"
        return PartialWorkspace(
            self.folder, settings, modalities=self.protocol.modalities, prepared=prepared, ids=ids
        )

    def _settings(self, work: Path) -> AppSettings:
        scoring = self.protocol.scoring
        return AppSettings(
            layout=self.protocol.layout,
            work_dir=str(work),
            device="cpu",
            seed=scoring.seed,
            strategy="uniform",
        )


def by_hash(ids: Sequence[str], before: str = "") -> list[str]:
    """Ids in the order of the SHA-256 of a text and the id, an order that nobody chose."""
    return sorted(ids, key=lambda id: hashlib.sha256(f"{before}{id}".encode()).hexdigest())


def _label(case: Case) -> Source:
    if case.label is None:
        raise ValueError(f"case {case.id} must have a contour; it has none. Leave it out in the protocol.")
    return Source(case.label)
