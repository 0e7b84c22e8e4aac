"""Opening the labels of a workspace: what killed processes left is recorded, earlier labels are taken in."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lib.cases.discovery.studies import REGISTER_FILE
from lib.cases.formats.image import MAX_VOXELS, read_grid
from lib.labels.arrival import LabelChecks
from lib.labels.earlier import EarlierLabels
from lib.labels.image_changes import ImageChanges, ImageHashes
from lib.labels.register import Register
from lib.labels.store import LabelStore
from lib.labels.version_log import VersionLog
from lib.labels.versions import VersionFiles
from lib.pipeline.folders import Folders
from lib.runtime.progress import OnCasesDone

if TYPE_CHECKING:
    from lib.pipeline.workspace import Workspace

logger = logging.getLogger(__name__)
_TELL_S = 10.0


@dataclass(frozen=True, eq=False)
class LabelBook:
    """Labels of a workspace.

    Attributes:
        store: The labels.
        earlier: Labels of earlier servers, and labels put there by hand.
        changes: Labels whose images were replaced after they were drawn.
        problems: What is wrong with the files of the versions, in sentences.
        place: Where labels are written if it is not beside the images, as a sentence; else empty.
    """

    store: LabelStore
    earlier: EarlierLabels
    changes: ImageChanges
    problems: list[str]
    place: str = ""

    def notes(self) -> list[str]:
        """What a study lead should know of the labels, in sentences; empty if there is nothing to say."""
        taken, left = self.earlier.taken(), self.earlier.left_out
        plural = "s" if taken != 1 else ""
        verb = "were" if taken != 1 else "was"
        return [
            *filter(None, [self.place]),
            *([f"{taken} label{plural} of an earlier server {verb} taken in."] if taken else []),
            *(f"labels/{file.path.parent.name}/{file.path.name} is left out: {file.reason}" for file in left),
            *self.changes.sentences(),
            *self.problems,
        ]


def open_labels(workspace: Workspace) -> LabelBook:
    """Open the labels of a workspace; a damaged register of the notes keeps earlier labels out, no others."""
    folders, preparation = workspace.folders, workspace.preparation
    register = Register(folders.labels.with_name(REGISTER_FILE))
    log = VersionLog(VersionFiles(folders.labels), workspace.plan.labels)
    # Series of a PACS do not change, and are fetched only when they are read.
    image_hashes: ImageHashes = (lambda cases: {}) if folders.in_pacs else workspace.records.image_hashes
    store = LabelStore(
        workspace.found,
        log,
        register,
        checks=LabelChecks(
            workspace.label_meanings,
            lambda case: read_grid(case.modalities[preparation.reference_of(case)]),
            MAX_VOXELS,
        ),
        study_labels=workspace.settings.study_labels,
        held=lambda: workspace.verdicts.labels_held,
        image_hashes=image_hashes,
    )
    problems = log.reconcile(_telling("reading versions of labels"))
    before = Register(folders.studies / REGISTER_FILE)
    earlier = EarlierLabels(workspace.found, store, before, folders.label_folders)
    earlier.look(_telling("taking in labels of an earlier server"))
    if log.current:
        workspace.hold_ids()
    changes = ImageChanges(workspace.found, log, image_hashes)
    book = LabelBook(store, earlier, changes, problems, _place(folders))
    for sentence in book.notes():
        logger.info(sentence)
    return book


def _place(folders: Folders) -> str:
    if folders.in_pacs or folders.labels.is_relative_to(folders.studies):
        return ""
    return f"Labels are written to {folders.labels}: the studies folder could not be written."


def _telling(what: str) -> OnCasesDone:
    """Log how far a long opening has come, and how long it still takes."""
    start = told = time.monotonic()

    def tell(done: int, of: int) -> None:
        nonlocal told
        now = time.monotonic()
        if now - told > _TELL_S and done:
            told = now
            logger.info("%s: %d of %d, %.0f s left", what, done, of, (now - start) / done * (of - done))

    return tell
