"""Series of a PACS on this machine: fetched when they are first read, the longest unused removed."""

from __future__ import annotations

import json
import logging
import math
import os
import shutil
import time
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from filelock import FileLock

from lib.cases.case import CaseError, Place, Source
from lib.cases.dicomweb.client import pacs_at
from lib.cases.dicomweb.listing import FoundSeries
from lib.cases.formats.dicom import list_series, read_series
from lib.cases.formats.headers import RAS_LPS
from lib.cases.formats.image import MAX_VOXELS
from lib.runtime.disk_cache import bytes_in, evict_least_recently_used
from lib.runtime.files import replacing

IN_USE_S = 300.0  # a series that was asked for since is perhaps being read
TRIM_SHARE = 0.01  # of the room: so much is fetched before it is looked through again, which takes a while
logger = logging.getLogger(__name__)


@dataclass
class _Fetched:
    """What this process fetched.

    Attributes:
        bytes: Since it last made room; at first it may be that others fetched much.
        series: As they were listed then.
    """

    bytes: float = math.inf
    series: set[FoundSeries] = field(default_factory=set)


@dataclass(frozen=True)
class Mirror:
    """A folder of series, one folder each, filled from one PACS by any number of processes.

    Attributes:
        url: Of the PACS.
        folder: Where the series lie.
        max_bytes: Beyond it the longest unused are removed; those of the last minutes stay.
        max_voxels: A larger series is not fetched.
    """

    url: str
    folder: Path
    max_bytes: int
    max_voxels: int = MAX_VOXELS
    _fetched: _Fetched = field(default_factory=_Fetched, init=False, repr=False, compare=False)

    def path(self, series: FoundSeries) -> Path:
        """Folder of a series, whether it is there or not."""
        return self.folder / series.uid

    def fetch(self, series: FoundSeries) -> None:
        """Have a series here, whole.

        What a cut or failed fetch left is gone on from. Slices that make no volume are left there too, so
        that the next try asks the PACS again and fetches what was corrected.

        Raises:
            PacsError: If the PACS does not give it.
            CaseError: If it is too large, or its instances make no volume.
        """
        path = self.path(series)
        if self._is_here(series):
            if self._kept_place(series) is None:  # by an earlier release
                self._keep_place(series)
            return
        part = path.with_name(f".{path.name}.part")
        self.folder.mkdir(parents=True, exist_ok=True)
        with FileLock(part.with_suffix(".lock")):
            if self._is_here(series):
                return
            start = time.monotonic()
            if path.exists():  # the PACS has more of it now, or less
                shutil.rmtree(part, ignore_errors=True)
                os.replace(path, part)
            pacs_at(self.url).fetch(series, part, max_voxels=self.max_voxels)
            _check_volume(series, part)
            os.replace(part, path)
            self._fetched.series.add(series)
            self._keep_place(series)
        logger.info("%s fetched in %.1f s", series, time.monotonic() - start)
        fetched = bytes_in(path)
        self._fetched.bytes += fetched
        if self._fetched.bytes > TRIM_SHARE * self.max_bytes:
            others = [entry for entry in self.folder.iterdir() if entry.is_dir() and entry != path]
            evict_least_recently_used(others, self.max_bytes, needed=fetched, in_use_s=IN_USE_S)
            self._fetched.bytes = 0.0

    def place(self, series: FoundSeries) -> Place | None:
        """Where the voxels of a series that has left this machine lie; None where it is here or never was."""
        return None if self.path(series).exists() else self._kept_place(series)

    def _kept_place(self, series: FoundSeries) -> Place | None:
        try:
            kept = json.loads(self._place_file(series).read_bytes())
            shape, affine = kept["shape"], np.array(kept["affine"], dtype=float)
            if kept["stamp"] != series.stamp or len(shape) != 3 or affine.shape != (4, 4):
                return None
            return (int(shape[0]), int(shape[1]), int(shape[2])), affine
        except (OSError, ValueError, LookupError, TypeError):  # it was never here, or is asked for again
            return None

    def _keep_place(self, series: FoundSeries) -> None:
        """Keep where the voxels of a series lie, so that a label of it is taken while the PACS is down."""
        read, file = read_series(self.path(series), series.uid), self._place_file(series)
        affine = (RAS_LPS @ read.affine_lps).tolist()
        try:
            file.parent.mkdir(exist_ok=True)
            with replacing(file) as part:
                part.write_text(json.dumps({"stamp": series.stamp, "shape": read.shape, "affine": affine}))
        except OSError as err:
            logger.warning("where %s lies could not be kept: %s", series, err.strerror)

    def _place_file(self, series: FoundSeries) -> Path:
        return self.folder.with_name("places") / f"{series.uid}.json"

    def _is_here(self, series: FoundSeries) -> bool:
        """Whether a series is here as the PACS lists it; it then counts as used now.

        More files than it lists are those of slices that were deleted, unless it gave as many itself.
        """
        path = self.path(series)
        try:
            os.utime(path)
            held = len(os.listdir(path))
        except FileNotFoundError:
            return False
        if not series.instances or series in self._fetched.series:
            return held >= series.instances
        return held == series.instances


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

    def kept_place(self) -> Place | None:
        """As it was when it was last here, where it is not any more."""
        return self.mirror.place(self.found)

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
        return self.found.stamp


def _check_volume(series: FoundSeries, folder: Path) -> None:
    if not list_series(folder):
        raise CaseError(
            f"{series} must hold images; its instances are none (a report, contours, a document?). Leave it "
            "out by a rule of --conf series_rules."
        )
    read_series(folder, series.uid)
