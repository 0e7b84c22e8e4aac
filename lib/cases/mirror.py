"""Series of a PACS on this machine: fetched when they are first read, the longest unused removed."""

from __future__ import annotations

import hashlib
import logging
import os
import shutil
import time
from dataclasses import dataclass, field
from pathlib import Path

from filelock import FileLock

from lib.cases.case import Source
from lib.cases.pacs import FoundSeries, pacs_at

IN_USE_S = 300.0  # a series that was asked for since is perhaps being read
logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Mirror:
    """A folder of series, one folder each, filled from one PACS by any number of processes.

    Attributes:
        url: Of the PACS.
        folder: Where the series lie.
        max_bytes: Beyond it the longest unused are removed; those of the last minutes stay.
    """

    url: str
    folder: Path
    max_bytes: int

    def path(self, series: FoundSeries) -> Path:
        """Folder of a series, whether it is there or not."""
        return self.folder / series.uid

    def fetch(self, series: FoundSeries) -> None:
        """Have a series here, whole.

        What a cut or failed fetch left is gone on from.

        Raises:
            PacsError: If the PACS does not give it.
        """
        path = self.path(series)
        if _marked(path):
            return
        part = path.with_name(f".{path.name}.part")
        self.folder.mkdir(parents=True, exist_ok=True)
        with FileLock(part.with_suffix(".lock")):
            if _marked(path):
                return
            start = time.monotonic()
            pacs_at(self.url).fetch(series, part)
            os.replace(part, path)
        logger.info("%s fetched in %.1f s", series, time.monotonic() - start)
        self._trim(keep=path.name)

    def _trim(self, *, keep: str) -> None:
        series = [entry for entry in os.scandir(self.folder) if entry.is_dir() and entry.name != keep]
        kept = {entry.path: _bytes_in(Path(entry.path)) for entry in series}
        total, now = sum(kept.values()) + _bytes_in(self.folder / keep), time.time()
        for entry in sorted(series, key=lambda entry: entry.stat().st_mtime):
            if total <= self.max_bytes or now - entry.stat().st_mtime < IN_USE_S:
                return
            gone = Path(entry.path).with_name(f".{entry.name}.gone")
            os.replace(entry.path, gone)  # at once, so that no reader finds half a series
            shutil.rmtree(gone, ignore_errors=True)
            total -= kept[entry.path]


@dataclass(frozen=True)
class RemoteSeries(Source):
    """A series of a PACS as a source: whoever reads it has it fetched.

    Attributes:
        found: The series as the PACS lists it.
        mirror: Where it is fetched to; `path` lies in it.
    """

    found: FoundSeries = field(kw_only=True)
    mirror: Mirror = field(kw_only=True)

    @classmethod
    def of(cls, found: FoundSeries, mirror: Mirror) -> RemoteSeries:
        """A series of the PACS that `mirror` is of."""
        return cls(mirror.path(found), series=found.uid, found=found, mirror=mirror)

    def make_local(self) -> None:
        """Fetch it if it is not here."""
        self.mirror.fetch(self.found)

    def about(self) -> dict[str, str]:
        """The DICOM fields that OHIF shows with a case and finds it by."""
        found = self.found
        return {
            "Modality": found.modality,
            "StudyDate": found.study_date,
            "StudyTime": found.study_time,
            "PatientID": found.patient,
            "StudyInstanceUID": found.study,
            "SeriesInstanceUID": found.uid,
            "RetrieveURL": f"{self.mirror.url}/studies/{found.study}/series/{found.uid}",
        }

    def stamp(self) -> str:
        """Changes when the PACS lists other instances; the series need not be here."""
        mark = f"{self.found.uid} {self.found.instances} {self.found.made}"
        return hashlib.blake2b(mark.encode(), digest_size=8).hexdigest()


def _marked(path: Path) -> bool:
    """Whether a series is there; it then counts as used now."""
    try:
        os.utime(path)
    except FileNotFoundError:
        return False
    return True


def _bytes_in(folder: Path) -> int:
    try:
        return sum(entry.stat().st_size for entry in os.scandir(folder))
    except FileNotFoundError:  # another process removed it
        return 0
