"""Local copies of PACS series: fetched at first use, the least recently used evicted."""

from __future__ import annotations

import json
import logging
import math
import os
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from filelock import FileLock

from lib.cases.case import CaseError, Place, Source
from lib.cases.dicomweb.client import pacs_at
from lib.cases.dicomweb.listing import FoundSeries
from lib.cases.discovery.series_rules import SeriesRules
from lib.cases.formats.dicom import Series, read_series
from lib.cases.formats.dicom_folder import list_series
from lib.cases.formats.headers import RAS_LPS
from lib.cases.formats.image import MAX_VOXELS
from lib.runtime.disk_cache import bytes_in, evict_least_recently_used
from lib.runtime.files import replacing

SERIES_IN_USE_S = 300.0  # a series that was used within this time may still be read
TRIM_SHARE = 0.01  # share of `max_bytes` fetched between two evictions, each of which lists the whole folder
logger = logging.getLogger(__name__)


@dataclass
class _Fetched:
    """Series that this process fetched.

    Attributes:
        bytes: Bytes fetched since the last eviction; infinite at the start, as other processes fetch too.
        series: Fetched series, as the PACS listed them at that time.
    """

    bytes: float = math.inf
    series: set[FoundSeries] = field(default_factory=set)


@dataclass(frozen=True)
class Mirror:
    """Folder with one subfolder a series, filled from one PACS by any number of processes.

    Attributes:
        url: Address of the PACS.
        folder: Folder of the series.
        max_bytes: Size limit; beyond it, series that were not used in the last minutes are evicted.
        max_voxels: Largest series to fetch.
    """

    url: str
    folder: Path
    max_bytes: int
    max_voxels: int = MAX_VOXELS
    _fetched: _Fetched = field(default_factory=_Fetched, init=False, repr=False, compare=False)

    def path(self, series: FoundSeries) -> Path:
        """Folder of a series, whether it exists or not."""
        return self.folder / series.uid

    def fetch(self, series: FoundSeries, check: Callable[[Series], None]) -> None:
        """Fetch a series completely, unless it is here already.

        A fetch that was interrupted is resumed. Slices that make no volume stay in the partial folder, so
        that the next attempt lists the series again and fetches only what was corrected.

        Args:
            series: Series as the PACS lists it.
            check: Called with what was fetched; raises `CaseError` if it must not be used.

        Raises:
            PacsError: If the PACS does not deliver the series.
            CaseError: If the series is too large, its instances make no volume, or `check` says so.
        """
        path = self.path(series)
        if self._is_here(series):
            if self._read_place(series) is None:  # fetched by an earlier release
                self._write_place(series)
            return
        part = path.with_name(f".{path.name}.part")
        self.folder.mkdir(parents=True, exist_ok=True)
        with FileLock(part.with_suffix(".lock")):
            if self._is_here(series):
                return
            start = time.monotonic()
            if path.exists():  # the PACS now has more or fewer slices
                shutil.rmtree(part, ignore_errors=True)
                os.replace(path, part)
            pacs_at(self.url).fetch(series, part, max_voxels=self.max_voxels)
            check(_volume_in(series, part))
            os.replace(part, path)
            self._fetched.series.add(series)
            self._write_place(series)
        logger.info("%s fetched in %.1f s", series, time.monotonic() - start)
        fetched = bytes_in(path)
        self._fetched.bytes += fetched
        if self._fetched.bytes > TRIM_SHARE * self.max_bytes:
            others = [entry for entry in self.folder.iterdir() if entry.is_dir() and entry != path]
            evict_least_recently_used(others, self.max_bytes, needed=fetched, in_use_s=SERIES_IN_USE_S)
            self._fetched.bytes = 0.0

    def last_known_place(self, series: FoundSeries) -> Place | None:
        """Shape and affine of a series that was evicted; None if it is here or was never fetched."""
        return None if self.path(series).exists() else self._read_place(series)

    def _read_place(self, series: FoundSeries) -> Place | None:
        try:
            kept = json.loads(self._place_file(series).read_bytes())
            shape, affine = kept["shape"], np.array(kept["affine"], dtype=float)
            if kept["stamp"] != series.stamp or len(shape) != 3 or affine.shape != (4, 4):
                return None
            return (int(shape[0]), int(shape[1]), int(shape[2])), affine
        except (OSError, ValueError, LookupError, TypeError):  # never fetched, or damaged: fetch again
            return None

    def _write_place(self, series: FoundSeries) -> None:
        """Record shape and affine of a series, so that its labels are accepted while the PACS is down."""
        read, file = read_series(self.path(series), series.uid), self._place_file(series)
        affine = (RAS_LPS @ read.affine_lps).tolist()
        try:
            file.parent.mkdir(exist_ok=True)
            with replacing(file) as part:
                part.write_text(json.dumps({"stamp": series.stamp, "shape": read.shape, "affine": affine}))
        except OSError as err:
            logger.warning("shape and affine of %s could not be recorded: %s", series, err.strerror)

    def _place_file(self, series: FoundSeries) -> Path:
        return self.folder.with_name("places") / f"{series.uid}.json"

    def _is_here(self, series: FoundSeries) -> bool:
        """Whether the files of a series match the PACS listing; marks the series as used now.

        Additional files belong to slices that were deleted from the PACS, unless this process itself fetched
        more instances than the PACS lists.
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
    """Series of a PACS as a source; it is fetched when it is read.

    Attributes:
        found: Series as the PACS lists it.
        mirror: Mirror that holds the local copy at `path`.
        modality: Name that the rules give it by its listing.
        rules: Those rules.
    """

    found: FoundSeries = field(kw_only=True)
    mirror: Mirror = field(kw_only=True)
    modality: str = field(kw_only=True)
    rules: SeriesRules = field(kw_only=True)

    @classmethod
    def of(cls, found: FoundSeries, mirror: Mirror, modality: str, rules: SeriesRules) -> RemoteSeries:
        """Source for a listed series of the mirror's PACS."""
        path = mirror.path(found)
        return cls(path, series=found.uid, found=found, mirror=mirror, modality=modality, rules=rules)

    def make_local(self) -> None:
        """Fetch the series if it is not here."""
        self.mirror.fetch(self.found, self._check_name)

    def last_known_place(self) -> Place | None:
        """Shape and affine of the series if it was evicted; None otherwise."""
        return self.mirror.last_known_place(self.found)

    def about(self) -> dict[str, str]:
        """DICOM fields that OHIF shows with a case and uses to find it."""
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
        """Hash that changes when the PACS lists other instances; the series need not be here."""
        return self.found.stamp

    def _check_name(self, fetched: Series) -> None:
        """Refuse a series whose header names another modality than the listing, which says less."""
        found = self.found
        try:
            said = self.rules.name_of(found.modality, found.description, fetched.made)
        except CaseError as err:
            raise CaseError(f"{found}: {err}") from err
        if said != self.modality:
            raise CaseError(
                f"{found} must be a {self.modality}, as its description says; by its header it is "
                f"{said or 'none of the modalities used'}. Name it, or leave it out, by a rule of "
                "--conf series_rules."
            )


def _volume_in(series: FoundSeries, folder: Path) -> Series:
    if not list_series(folder):
        raise CaseError(
            f"{series} must hold images; its instances are not images (a report, contours, a document?). "
            "Leave it out by a rule of --conf series_rules."
        )
    return read_series(folder, series.uid)
