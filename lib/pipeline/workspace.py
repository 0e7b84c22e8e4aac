"""A workspace: the studies under a clinic's settings, with their cases, labels, plan, models and caches."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Set
from dataclasses import asdict
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy.exc import SQLAlchemyError

from lib.cases.case import Case
from lib.cases.case_ids import CaseIds
from lib.cases.dicomweb.mirror import Mirror
from lib.cases.dicomweb.studies import find_studies
from lib.cases.discovery.file_stamps import FileStamps, tree_stamp
from lib.cases.discovery.found_pool import FoundPool
from lib.cases.discovery.layouts import find_pool
from lib.cases.discovery.series_rules import rules_for
from lib.cases.formats.image import MAX_VOXELS
from lib.cases.modalities import default_reference
from lib.cases.pool import Pool
from lib.cases.preprocessing import Preparation, VolumeCache
from lib.cases.quality.check import check_pool
from lib.cases.quality.kept_check import KeptCheck, case_stamps
from lib.cases.quality.measurements import MEASURE_VERSION
from lib.cases.quality.releases import Releases
from lib.cases.quality.verdicts import Verdicts
from lib.cases.records import Records
from lib.ciml.decomposition.table import Decomposition, decomposition_for
from lib.labels.exchange import SegmentationExchange
from lib.labels.meaning import LabelMeanings
from lib.labels.store import LabelStore
from lib.mdal import SCORING_VERSION
from lib.pipeline.disk import disk_bytes
from lib.pipeline.folders import Folders
from lib.pipeline.label_book import LabelBook, open_labels
from lib.pipeline.secrets import masked
from lib.pipeline.settings import AppSettings, settings_of_plan
from lib.plan.store import PlanStore
from lib.runtime.digest import digest
from lib.runtime.errors import UserError
from lib.runtime.own_files import Damaged, Unavailable
from lib.runtime.progress import OnCasesDone

if TYPE_CHECKING:
    from lib.ciml.model_versions import Models


class Workspace:
    """The studies and the program's own files about them; each part is opened on first use.

    Attributes:
        settings: Settings of the clinic.
        folders: Folders of the studies, and of their labels, plan, models and caches.
        found: Cases found by the last look at the studies.
        verdicts: Verdicts of the pool check, which decide whether a case is served.
    """

    def __init__(self, studies: Path | str, settings: AppSettings) -> None:
        """Find the cases.

        Raises:
            UserError: If the folder, layout or reference does not fit, or the PACS does not answer.
        """
        self.settings = settings
        self.folders = Folders.of(studies, settings.work_dir)
        self.case_ids = CaseIds(self.folders.labels / "case_ids.json", lambda: self.records)
        self.found = FoundPool(self.find, self._tree, where=self.folders.address)
        releases = Releases(self.folders.labels / "released.json")
        self.verdicts = Verdicts(self.found, self.folders.work, settings.released, releases)

    @property
    def pool(self) -> Pool:
        """The cases found by the last look at the studies, served or not."""
        return self.found.pool

    def refresh(self, *, settled: bool = False) -> bool:
        """Look for new, changed and removed studies.

        A new case is served at once, because the check follows; a new label beside the images counts too. A
        modality that no case had when this process started is taken up at the next start.

        Args:
            settled: Passed on to `FoundPool.refresh`.

        Returns:
            Whether a study is new, changed or gone.

        Raises:
            UserError: As in the constructor, or if no case is left; the cases then stay as they were.
        """
        before = self.found.pool
        changed = self.found.refresh(self.preparation.modalities, settled=settled)
        if self.found.pool is not before:
            self.verdicts.apply()
        return changed

    def hold_ids(self) -> None:
        """Let every case keep its id from now on: a plan, an offer or a label is about to name it."""
        self.case_ids.begin(self.pool)

    def validate(self) -> None:
        """Refuse now what would fail later: an empty pool, a bad reference, label table, device or database.

        Raises:
            UserError: If one of them cannot be used; the message says what must hold.
        """
        from lib.runtime.devices import device_of  # torch takes seconds to import; listing a pool needs none

        device_of(self.settings.device)
        try:
            for made in ("preparation", "decomposition", "plan"):
                getattr(self, made)
            self.models.current()
        except Damaged:
            raise
        except (Unavailable, SQLAlchemyError) as err:
            cause = masked(str(err.__cause__ or err))
            raise UserError(
                f"database_url must be a SQLite or PostgreSQL database that can be opened; {cause}. "
                "Set --conf database_url."
            ) from err
        except UserError:
            raise
        except ValueError as err:
            raise UserError(str(err)) from err

    @cached_property
    def preparation(self) -> Preparation:
        """Preparation that turns the pool's cases into arrays."""
        modalities = self.found.pool.modalities
        if not modalities:
            raise UserError(
                f"studies must hold at least one case; none was found under {self.folders.address}. "
                f"{self.pool.overview} Run `python main.py check` to see what was skipped and why."
            )
        settings = self.settings
        return Preparation(
            modalities,
            settings.reference or default_reference(modalities),
            settings.ct_window,
            settings.pet_ceiling,
            MAX_VOXELS,
        )

    @cached_property
    def records(self) -> Records:
        """Records of the files that were read before."""
        return Records(self.folders.work / "records.sqlite")

    @cached_property
    def cache(self) -> VolumeCache:
        """Cache of the prepared cases."""
        return VolumeCache(
            self.folders.work / "cache",
            self.preparation,
            self.records,
            max_bytes=disk_bytes(self.settings, "prepared"),
        )

    @cached_property
    def plan(self) -> PlanStore:
        """The plan's database."""
        return (
            PlanStore(self.settings.database_url)
            if self.settings.database_url
            else PlanStore.beside(self.folders.work)
        )

    @cached_property
    def models(self) -> Models:
        """Versions of the published network."""
        from lib.ciml.model_versions import Models  # with torch, takes seconds to import

        return Models(self.folders.work / "model")

    @cached_property
    def decomposition(self) -> Decomposition:
        """Labels, regions and subtasks: those of a preset, or of the clinic's own table."""
        if (unclear := self.found.pool.unclear_labels) and not self.settings.names_labels:
            raise UserError(unclear)
        try:
            return decomposition_for(
                self.found.pool.modalities,
                preset=self.settings.decomposition,
                labels=self.settings.labels or self.found.pool.labels or None,
            )
        except ValueError as err:
            raise UserError(str(err)) from err

    @cached_property
    def label_meanings(self) -> LabelMeanings:
        """Meaning of the values in the label files beside the images."""
        pool, own_names = self.found.pool, self.settings.names_labels
        named = bool(pool.labels or pool.unclear_labels)
        return LabelMeanings(self.decomposition, named=named, own_names=own_names)

    @cached_property
    def label_book(self) -> LabelBook:
        """The labels with what was found when they were opened."""
        return open_labels(self)

    @property
    def labels(self) -> LabelStore:
        """The readers' labels of the cases."""
        return self.label_book.store

    def exchange(
        self, *, on_taken: Callable[[Case], None], on_listed: Callable[[bool], None]
    ) -> SegmentationExchange:
        """Exchange of labels with the PACS that holds the studies; the PACS is not asked yet.

        Args:
            on_taken: Called with each case whose final label came from the PACS.
            on_listed: Called after each listing with whether the studies changed.
        """
        return SegmentationExchange(
            self.folders.address,
            self.found,
            self.labels,
            reference_of=self.preparation.reference_of,
            refresh=self.refresh,
            outcomes_file=self.folders.work / "segmentations.json",
            every_s=self.settings.refresh_s,
            max_voxels=MAX_VOXELS,
            on_taken=on_taken,
            on_listed=on_listed,
        )

    def check(self, on_progress: OnCasesDone | None = None) -> None:
        """Run the pool check and store its result; earlier measurements of unchanged files are reused."""
        if not self.pool.cases:
            return
        verdicts = check_pool(
            self.pool.cases,
            self.preparation,
            self.records,
            workers=self.settings.workers or os.cpu_count() or 1,
            on_progress=on_progress,
            refuse_labels=self.label_meanings.refusals,
        )
        stamps = FileStamps.of(self.pool)
        self.verdicts.keep(KeptCheck(self._checked_state(stamps), verdicts, case_stamps(stamps)))

    def recall_check(self) -> bool:
        """Load the result of the last check, and return whether it holds for the current pool."""
        return self.verdicts.recall() == self._checked_state(FileStamps.of(self.pool))

    def fingerprint(self, settings: Mapping[str, object] | None = None) -> str:
        """Hash of the settings and of the files' names, sizes and times; cheap, changes when a plan may.

        Args:
            settings: Settings that a plan depends on; None for the current ones.
        """
        return digest([FileStamps.of(self.pool).images, settings or self.scoring_settings])

    def content(self) -> str:
        """Hash of the content of the served cases and of the settings that their scores depend on."""
        hashes = self.records.content_hashes(self.verdicts.served)
        return digest([sorted(hashes.items()), self.scoring_settings])

    def _checked_state(self, stamps: FileStamps) -> str:
        settings = [asdict(self.preparation), repr(self.label_meanings)]
        return digest([MEASURE_VERSION, stamps.images, stamps.labels, stamps.notes, settings])

    def find(self) -> Pool:
        """Find the cases as they are now, under the ids that they had before; the workspace stays unchanged.

        Raises:
            UserError: As in the constructor, or if the book of ids is damaged.
        """
        return self.case_ids.hold(self._listed)

    def _listed(self, used: Set[str]) -> Pool:
        settings, rules = self.settings, rules_for(self.settings.series_rules)
        if self.folders.in_pacs:
            mirror = Mirror(
                self.folders.address,
                self.folders.work / "dicom",
                disk_bytes(settings, "dicom"),
                MAX_VOXELS,
            )
            return find_studies(mirror, rules, used)
        pool = find_pool(
            self.folders.studies,
            layout=settings.layout,
            modalities=settings.modalities,
            follow_links=settings.follow_links,
            rules=rules,
            used=used,
        )
        return pool.without_labels() if settings.study_labels == "ignore" else pool

    def _tree(self) -> str:
        """Stamp of the names, sizes and times in the studies folder; empty for a PACS."""
        if self.folders.in_pacs:
            return ""
        return tree_stamp(self.folders.studies, follow_links=self.settings.follow_links)

    @property
    def scoring_settings(self) -> dict[str, object]:
        """The settings that a plan depends on."""
        released = {"released": sorted(self.verdicts.released)}  # by the setting or on the page
        return {**settings_of_plan(self.settings), **released, "method": SCORING_VERSION}
