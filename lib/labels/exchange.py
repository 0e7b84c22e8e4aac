"""A site and its PACS, kept alike: new studies and SEGs of other viewers come in, readers' labels go out."""

from __future__ import annotations

import json
import logging
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
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
from lib.cases.formats.image import read_grid, write_nifti
from lib.cases.unexpected import looking_at
from lib.labels.store import FINAL, ORIGINAL, LabelStore
from lib.runtime.errors import UserError
from lib.runtime.files import replacing
from lib.runtime.own_files import recalled
from lib.runtime.periodic import PeriodicTask

logger = logging.getLogger(__name__)
_LONGEST_WAIT_S = 3600.0
_SHARE = 0.1  # of the time, at most, that the PACS is kept busy with listings


class Foreign(UserError):
    """A segmentation of a series that is part of no case."""


class Unusable(UserError):
    """A segmentation that will not become better by asking again."""


@dataclass(frozen=True)
class Failed:
    """A segmentation that could not be taken though it may be later.

    Attributes:
        times: How often in a row.
        until: Of the monotonic clock; it is not fetched again before.
    """

    times: int = 0
    until: float = 0.0

    def again(self, every_s: float) -> Failed:
        """Failed once more: at first it is tried again at the next turn, then after twice the time."""
        wait = min(every_s * 2.0**self.times, _LONGEST_WAIT_S) if self.times else 0.0
        return Failed(self.times + 1, time.monotonic() + wait)


class SegmentationExchange:
    """Sends every final label once, and takes every SEG of the PACS once; of two of a case the newest counts.

    A label is a file on this machine first: a PACS that is down delays its SEG and loses nothing. What was
    taken is kept in `segmentations.json`; losing that file costs reading them again.
    """

    def __init__(
        self,
        address: str,
        found: FoundPool,
        labels: LabelStore,
        *,
        reference_of: Callable[[Case], str],
        refresh: Callable[[], bool],
        seen_file: Path,
        every_s: float,
        max_voxels: int,
        on_taken: Callable[[Case], None],
        on_listed: Callable[[bool], None],
    ) -> None:
        """Exchange with a PACS; nothing is asked yet.

        Args:
            address: Of the PACS.
            found: Its cases.
            labels: Of its cases.
            reference_of: The modality that a label is written against where it has no grid of its own.
            refresh: Looks for studies again; whether they changed.
            seen_file: Holds which segmentations were looked at.
            every_s: Seconds from one turn to the next.
            max_voxels: Of a label.
            on_taken: Told each case whose final label came from the PACS.
            on_listed: Told after each listing whether the studies changed.
        """
        self._address, self._found, self.labels = address, found, labels
        self._reference_of, self._refresh = reference_of, refresh
        self._every_s, self._max_voxels = every_s, max_voxels
        self._on_taken, self._on_listed = on_taken, on_listed
        self._foreign: set[str] = set()  # SEGs of no case, until the studies change
        self._failed: dict[str, Failed] = {}
        self._seen_file = seen_file
        self._turns = PeriodicTask(
            self._turn,
            name="segmentation-exchange",
            every_s=every_s,
            share=_SHARE,
            failing="labels wait for the PACS",
        )
        self._listed_again = False  # the first turn goes without: they were listed when the site was made

    def start(self) -> None:
        """Exchange now, after each `wake`, and every `refresh_s`, until the process ends."""
        self._turns.start()

    def wake(self) -> None:
        """A label was saved: send it soon."""
        self._turns.wake()

    @property
    def message(self) -> str:
        """What the last turn failed in; empty where it did not."""
        return self._turns.message

    def about(self) -> dict[str, Any]:
        """For clients: the labels that wait to be sent, and what the PACS last failed in."""
        return {"address": self._address, "unsent": len(self._unsent()), "message": self.message}

    def once(self) -> None:
        """Look for studies, take the SEGs that are new, then send what was not sent.

        Raises:
            UserError: If the PACS does not answer, or some of it failed; everything else is done.
        """
        changed = self._refresh()
        if changed:
            self._foreign.clear()
        self._on_listed(changed)
        self._exchange_labels()

    def _exchange_labels(self) -> None:
        """Each on its own, so that one that fails holds up none of the others."""
        failures: list[UserError] = []
        sending: list[Callable[[], None]] = [partial(self._send, case) for case in self._unsent()]
        for each in [*self._new(), *sending]:
            try:
                with looking_at("a label or a segmentation"):
                    each()
            except UserError as err:
                failures.append(err)
        if failures:
            raise failures[0]

    def _turn(self) -> None:
        first, self._listed_again = not self._listed_again, True
        if first:
            self._exchange_labels()
        else:
            self.once()

    def _unsent(self) -> list[Case]:
        labelled, found = self.labels.labelled(), []
        for case in self._found.pool.cases:
            info = self.labels.notes(case, FINAL) if case.id in labelled else {}
            if info.get("dicom_seg", {}).get("of") != info.get("written"):
                found.append(case)
        return found

    def _send(self, case: Case) -> None:
        written = str(self.labels.notes(case, FINAL)["written"])
        label = self.labels.read(case)
        source = next(
            (each for each in _series_of(case) if read_grid(each).same_as(label.grid)),
            case.modalities[self._reference_of(case)],
        )
        source.make_local()
        dataset = write_segmentation(
            label,
            read_series(source.path, source.series),
            labels=self.labels.numbering.labels,
            author=Author("Reader"),
            written=datetime.fromisoformat(written),
        )
        pacs_at(self._address).store(dataset)
        self._see(f"{dataset.SeriesInstanceUID} 1", "sent")
        sent = {
            "of": written,
            "instance": str(dataset.SOPInstanceUID),
            "series": str(dataset.SeriesInstanceUID),
        }
        self.labels.mark_sent(case, FINAL, sent)
        logger.info("the label of %s is in the PACS", case.id)

    def _new(self) -> list[Callable[[], None]]:
        """Taking each SEG of the PACS that was not looked at, as it is now."""
        waiting = {key for key, failed in self._failed.items() if time.monotonic() < failed.until}
        known = self._seen().keys() | self._foreign | waiting
        studies = {source.found.study for case in self._found.pool.cases for source in _series_of(case)}
        listed = pacs_at(self._address).series(("SEG",))
        return [
            partial(self._look_at, series)
            for series in listed
            if series.study in studies and _key(series) not in known
        ]

    def _look_at(self, series: FoundSeries) -> None:
        """Take one and remember what became of it; what may be better another time is tried again."""
        key = _key(series)
        try:
            outcome = self._take(series)
        except Unusable as err:
            outcome = str(err)
            logger.warning("%s is left out: %s", series, err)
        except Foreign as err:
            self._foreign.add(key)
            logger.info("%s is left out: %s", series, err)
            return
        except Exception:
            self._failed[key] = self._failed.get(key, Failed()).again(self._every_s)
            raise
        self._failed.pop(key, None)
        self._see(key, outcome)

    def _take(self, series: FoundSeries) -> str:
        """Store one SEG as its case's label if it is the newest; what became of it."""
        labels = self.labels.numbering.labels
        with tempfile.TemporaryDirectory(prefix="seg-") as folder:
            voxels = self._max_voxels * len(labels)  # a frame for each slice and segment
            pacs_at(self._address).fetch(series, Path(folder), max_voxels=voxels)
            with _unusable():
                dataset, about = _newest(Path(folder))
            case, source = self._outlined_on(about)
            grid = read_grid(source)  # which may have to be fetched
            with _unusable():
                label = read_segmentation(dataset, grid, labels=labels)
            tag = ORIGINAL if about.algorithm_type == "AUTOMATIC" else FINAL
            written = _moment(about)
            sent = {"of": written, "instance": about.instance, "series": about.series, "author": about.author}
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
        raise Foreign("a segmentation must be of a series that is part of a case; this one is not.")

    def _seen(self) -> dict[str, str]:
        again = "The segmentations of the PACS are read again."
        return recalled(self._seen_file, dict[str, str], again=again) or {}

    def _see(self, uid: str, outcome: str) -> None:
        seen = {**self._seen(), uid: outcome}
        with replacing(self._seen_file) as part:
            part.write_text(json.dumps(seen))


def _series_of(case: Case) -> list[RemoteSeries]:
    return [source for source in case.modalities.values() if isinstance(source, RemoteSeries)]


def _key(series: FoundSeries) -> str:
    """A series as it is now; another segmentation may be added to it."""
    return f"{series.uid} {series.instances}"


def _newest(folder: Path) -> tuple[Dataset, Description]:
    """The newest segmentation among files; those that are damaged are left out where another one is not."""
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
    return max(found, key=lambda pair: _moment(pair[1]))


def _moment(about: Description) -> str:
    return about.written.isoformat() if about.written else ""  # without a time it is the oldest


@contextmanager
def _unusable() -> Iterator[None]:
    """What is wrong with the segmentation itself."""
    try:
        yield
    except UserError as err:
        raise Unusable(str(err)) from err
