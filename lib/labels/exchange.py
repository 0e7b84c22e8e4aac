"""Exchange with a PACS: new studies and SEGs of other viewers come in, readers' labels go out."""

from __future__ import annotations

import json
import logging
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

from pydicom.dataset import Dataset

from lib.cases.case import Case
from lib.cases.dicom_seg.read import Description, describe, parse, read_segmentation
from lib.cases.dicom_seg.write import Author, write_segmentation
from lib.cases.dicomweb.client import pacs_at
from lib.cases.dicomweb.listing import FoundSeries
from lib.cases.dicomweb.mirror import RemoteSeries
from lib.cases.discovery.found_pool import FoundPool
from lib.cases.formats.dicom import read_series
from lib.cases.formats.image import read_grid, read_places, write_nifti
from lib.cases.unexpected_errors import as_case_error
from lib.labels.failed_attempts import FailedAttempts
from lib.labels.store import FINAL, ORIGINAL, LabelStore
from lib.runtime.errors import UserError
from lib.runtime.files import replacing
from lib.runtime.own_files import read_or_set_aside
from lib.runtime.periodic import PeriodicTask

logger = logging.getLogger(__name__)
_LISTING_SHARE = 0.1  # largest fraction of the time that listings may keep the PACS busy


class ForeignSegmentation(UserError):
    """The segmentation belongs to a series that is part of no case."""


class UnusableSegmentation(UserError):
    """The segmentation itself is invalid, so fetching it again does not help."""


class SegmentationExchange:
    """Sends every final label once and takes every SEG of the PACS once; the newest label of a case counts.

    A label is always saved on this machine first, so a PACS that is down only delays its SEG. The outcome of
    each SEG is recorded in `segmentations.json`; if that file is lost, the SEGs are read again.
    """

    def __init__(
        self,
        address: str,
        found: FoundPool,
        labels: LabelStore,
        *,
        reference_of: Callable[[Case], str],
        refresh: Callable[[], bool],
        outcomes_file: Path,
        every_s: float,
        max_voxels: int,
        on_taken: Callable[[Case], None],
        on_listed: Callable[[bool], None],
    ) -> None:
        """Prepare the exchange; no request is sent yet.

        Args:
            address: Address of the PACS.
            found: Pool of the cases.
            labels: Labels of the cases.
            reference_of: Returns the modality to write a label against if no series has the label's grid.
            refresh: Lists the studies again and returns whether they changed.
            outcomes_file: File that records the outcome of each segmentation.
            every_s: Seconds from one turn to the next.
            max_voxels: Largest number of voxels of a label.
            on_taken: Called with each case whose final label came from the PACS.
            on_listed: Called after each listing with whether the studies changed.
        """
        self._address, self._found, self.labels = address, found, labels
        self._reference_of, self._refresh = reference_of, refresh
        self._every_s, self._max_voxels = every_s, max_voxels
        self._on_taken, self._on_listed = on_taken, on_listed
        self._foreign: set[str] = set()  # SEGs that belong to no case; cleared when the studies change
        self._failed: dict[str, FailedAttempts] = {}
        self._outcomes_file = outcomes_file
        self._turns = PeriodicTask(
            self._turn,
            name="segmentation-exchange",
            every_s=every_s,
            share=_LISTING_SHARE,
            failing="labels wait for the PACS",
        )
        self._listed_before = False  # the workspace has just listed the studies

    def start(self) -> None:
        """Exchange now, after each `wake`, and every `every_s` seconds, until the process ends."""
        self._turns.start()

    def wake(self) -> None:
        """Start a turn soon, because a label was saved."""
        self._turns.wake()

    @property
    def message(self) -> str:
        """Error of the last turn; empty if it succeeded."""
        return self._turns.message

    def about(self) -> dict[str, Any]:
        """Address of the PACS, number of labels that wait to be sent, and last error; for clients."""
        return {"address": self._address, "unsent": len(self._unsent()), "message": self.message}

    def once(self) -> None:
        """List the studies, take new SEGs, then send unsent labels.

        Raises:
            UserError: If the PACS does not answer, or one item failed; all other items are done.
        """
        changed = self._refresh()
        if changed:
            self._foreign.clear()
        self._on_listed(changed)
        self._exchange_labels()

    def _exchange_labels(self) -> None:
        """Take and send each item separately, so that one failure does not stop the others."""
        failures: list[UserError] = []
        sending: list[Callable[[], None]] = [partial(self._send, case) for case in self._unsent()]
        for each in [*self._pending_fetches(), *sending]:
            try:
                with as_case_error("a label or a segmentation"):
                    each()
            except UserError as err:
                failures.append(err)
        if failures:
            raise failures[0]

    def _turn(self) -> None:
        first, self._listed_before = not self._listed_before, True
        if first:
            self._exchange_labels()
        else:
            self.once()

    def _unsent(self) -> list[Case]:
        current = self.labels.log.current
        return [
            case
            for case in self._found.pool.cases
            if (version := current.get(case.id, {}).get(FINAL))
            and version.is_label
            and not self.labels.is_sent(version)
        ]

    def _send(self, case: Case) -> None:
        version = self.labels.log.version(case.id, FINAL)
        if version is None:  # removed meanwhile
            return
        label = self.labels.read_version(version)
        source = next(
            (each for each in _series_of(case) if read_grid(each).same_as(label.grid)),
            case.modalities[self._reference_of(case)],
        )
        source.make_local()
        dataset = write_segmentation(
            label,
            read_series(source.path, source.series),
            labels=self.labels.numbering.labels,
            author=Author(version.reader or "Reader"),
            written=datetime.fromisoformat(version.written),
        )
        pacs_at(self._address).store(dataset)
        self._record_outcome(f"{dataset.SeriesInstanceUID} 1", "sent")
        sent = {"instance": str(dataset.SOPInstanceUID), "series": str(dataset.SeriesInstanceUID)}
        self.labels.mark_sent(version, sent)
        logger.info("the label of %s is in the PACS", case.id)

    def _pending_fetches(self) -> list[Callable[[], None]]:
        """Calls that take the SEGs of the PACS which are new or have changed."""
        waiting = {key for key, failed in self._failed.items() if time.monotonic() < failed.until}
        known = self._outcomes().keys() | self._foreign | waiting
        studies = {source.found.study for case in self._found.pool.cases for source in _series_of(case)}
        listed = pacs_at(self._address).series(("SEG",))
        return [
            partial(self._process, series)
            for series in listed
            if series.study in studies and _key(series) not in known
        ]

    def _process(self, series: FoundSeries) -> None:
        """Take one SEG and record the outcome; an attempt that may succeed later is repeated."""
        key = _key(series)
        try:
            outcome = self._take(series)
        except UnusableSegmentation as err:
            outcome = str(err)
            logger.warning("%s is left out: %s", series, err)
        except ForeignSegmentation as err:
            self._foreign.add(key)
            logger.info("%s is left out: %s", series, err)
            return
        except Exception:
            self._failed[key] = self._failed.get(key, FailedAttempts()).again(self._every_s)
            raise
        self._failed.pop(key, None)
        self._record_outcome(key, outcome)

    def _take(self, series: FoundSeries) -> str:
        """Store one SEG as the label of its case if it is the newest; return the outcome."""
        labels = self.labels.numbering.labels
        with tempfile.TemporaryDirectory(prefix="seg-") as folder:
            voxels = self._max_voxels * len(labels)  # one frame a slice and segment
            pacs_at(self._address).fetch(series, Path(folder), max_voxels=voxels)
            with _unusable():
                dataset, about = _newest(Path(folder))
            case, source = self._outlined_on(about)
            places = read_places(source)  # may fetch the series
            with _unusable():
                label = read_segmentation(dataset, places, labels=labels)
            tag = ORIGINAL if about.algorithm_type == "AUTOMATIC" else FINAL
            written = _written(about)
            sent = {"instance": about.instance, "series": about.series, "author": about.author}
            file = Path(folder) / "label.nii.gz"
            write_nifti(label, file, durable=False)
            if not self.labels.take(case, file, tag, written=written, sent=sent):
                return "older than the label that is there"
        if tag == FINAL:
            self._on_taken(case)
        logger.info("a segmentation in the PACS is the %s label of %s", tag, case.id)
        return "taken"

    def _outlined_on(self, about: Description) -> tuple[Case, RemoteSeries]:
        for uid in about.references:
            try:
                case, modality = self._found.pool.resolve(uid)
            except UserError:
                continue
            source = case.modalities[modality or ""]
            if isinstance(source, RemoteSeries):
                return case, source
        raise ForeignSegmentation("a segmentation must belong to a series of a case; this one does not.")

    def _outcomes(self) -> dict[str, str]:
        consequence = "The segmentations of the PACS are read again."
        return read_or_set_aside(self._outcomes_file, dict[str, str], consequence=consequence) or {}

    def _record_outcome(self, key: str, outcome: str) -> None:
        outcomes = {**self._outcomes(), key: outcome}
        with replacing(self._outcomes_file) as part:
            part.write_text(json.dumps(outcomes))


def _series_of(case: Case) -> list[RemoteSeries]:
    return [source for source in case.modalities.values() if isinstance(source, RemoteSeries)]


def _key(series: FoundSeries) -> str:
    """Key of a series in its present state: it changes when a segmentation is added to the series."""
    return f"{series.uid} {series.instances}"


def _newest(folder: Path) -> tuple[Dataset, Description]:
    """Newest segmentation among the files of a series; damaged files are skipped unless all are damaged."""
    found: list[tuple[Dataset, Description]] = []
    damaged = UserError("a segmentation must be a DICOM file; the series holds none. Save it again.")
    for file in sorted(folder.glob("*.dcm")):
        try:
            dataset = parse(file.read_bytes())
            found.append((dataset, describe(dataset)))
        except UserError as err:
            damaged = err
            logger.warning("%s is left out: %s", file.name, err)
    if not found:
        raise damaged
    return max(found, key=lambda pair: _written(pair[1]))


def _written(about: Description) -> str:
    return about.written.isoformat() if about.written else ""  # without a time it counts as the oldest


@contextmanager
def _unusable() -> Iterator[None]:
    """Mark errors inside the block as errors of the segmentation itself."""
    try:
        yield
    except UserError as err:
        raise UnusableSegmentation(str(err)) from err
