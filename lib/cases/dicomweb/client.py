"""A PACS that speaks DICOMweb: which series it has, and their instances one by one."""

from __future__ import annotations

import hashlib
import logging
import os
import re
import threading
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import pydicom
import requests
from dicomweb_client.api import DICOMwebClient
from pydicom.datadict import tag_for_keyword
from pydicom.dataset import Dataset
from requests.adapters import HTTPAdapter
from urllib3.util import Retry

from lib.cases.case import CaseError
from lib.cases.formats.image import MAX_VOXELS
from lib.cases.formats.pydicom_versions import WHOLE_FILE, get_expected_length
from lib.runtime.errors import UserError
from lib.runtime.files import replacing

Row = Mapping[str, Any]  # of a listing, DICOM JSON
PAGE = 1000  # series asked for at a time
PARALLEL = 6  # instances fetched at a time, of all the series that a process wants
TIMEOUT_S = (5.0, 60.0)  # to connect, and between two pieces of an answer
RETRIES = Retry(
    total=4,
    read=1,  # an answer that did not come in a minute is asked for once more
    backoff_factor=0.5,  # waits 0, 1, 2, 4 s
    status_forcelist=(408, 429, 500, 502, 503, 504),
    allowed_methods=("GET",),
    raise_on_status=False,
)
_FIELDS = (
    "SeriesDescription",
    "NumberOfSeriesRelatedInstances",
    "FrameOfReferenceUID",
    "PatientID",
    "StudyDate",
    "StudyTime",
    "SeriesDate",
    "SeriesTime",
)
_PIXELS = ("PixelData", "FloatPixelData", "DoubleFloatPixelData")
logging.getLogger("dicomweb_client").setLevel(logging.WARNING)  # it logs every address, which names patients
pydicom.config.settings.reading_validation_mode = pydicom.config.IGNORE  # values are taken as they were sent


logger = logging.getLogger(__name__)


class PacsError(CaseError):
    """A PACS that does not answer as it must; asking again later may succeed."""


@dataclass(frozen=True)
class FoundSeries:
    """A series as the PACS lists it.

    Attributes:
        instances: Slices that the PACS says it has; 0 where it does not say.
        modality: DICOM Modality.
        made: SeriesDate and SeriesTime, else those of the study; sorts by age.
    """

    study: str
    uid: str
    modality: str
    description: str = ""
    instances: int = 0
    frame_of_reference: str = ""
    patient: str = ""
    study_date: str = ""
    study_time: str = ""
    made: str = ""

    @property
    def stamp(self) -> str:
        """Changes when the PACS lists other instances."""
        mark = f"{self.uid} {self.instances} {self.made}"
        return hashlib.blake2b(mark.encode(), digest_size=8).hexdigest()

    def __str__(self) -> str:
        """As an error or a table names it."""
        return f"series {self.uid} ({self.modality} '{self.description}') of study {self.study}"


class Pacs:
    """One DICOMweb server. User and password come from the variables that MONAI Label reads."""

    def __init__(self, url: str) -> None:
        """Use the server at `url`; nothing is asked yet."""
        self.url = url.rstrip("/")
        self._places = threading.BoundedSemaphore(PARALLEL)
        session = requests.Session()
        user, password = (
            os.environ.get(f"MONAI_LABEL_DICOMWEB_{key}", "") for key in ("USERNAME", "PASSWORD")
        )
        if user and password:
            session.auth = (user, password)
        for scheme in ("http://", "https://"):
            session.mount(scheme, _Patient(max_retries=RETRIES, pool_maxsize=PARALLEL))
        prefix = {
            kind: os.environ.get(f"MONAI_LABEL_{kind}_PREFIX") or None for kind in ("QIDO", "WADO", "STOW")
        }
        self._client = DICOMwebClient(
            url=self.url,
            session=session,
            qido_url_prefix=prefix["QIDO"],
            wado_url_prefix=prefix["WADO"],
            stow_url_prefix=prefix["STOW"],
        )
        self._client.set_http_retry_params(retry=False)  # the session does, for lost connections too

    def series(self, modalities: Sequence[str]) -> list[FoundSeries]:
        """Every series of these DICOM Modalities, asked for page by page.

        Raises:
            PacsError: If the server does not answer as DICOMweb says.
        """
        with ThreadPoolExecutor(PARALLEL) as threads:
            found = threads.map(lambda modality: list(self._series(modality)), modalities)
            return [series for several in found for series in several]

    def _series(self, modality: str) -> Iterator[FoundSeries]:
        seen: set[str] = set()
        page: list[Row] = []
        offset = 0
        while True:
            before = page
            with self._asking(f"its {modality} series"):
                page = list(
                    self._client.search_for_series(
                        fields=list(_FIELDS), limit=PAGE, offset=offset, search_filters={"Modality": modality}
                    )
                )
            found = [series for series in map(_found_or_none, page) if series]
            fresh = [series for series in found if series.uid not in seen]
            seen |= {series.uid for series in fresh}
            yield from fresh
            offset += len(page)
            if not page or (not fresh and (found or page == before)):
                return  # the end, or a server that knows no offset and sends the same page again

    def fetch(self, series: FoundSeries, folder: Path, *, max_voxels: int = MAX_VOXELS) -> None:
        """Every instance of a series as a file in `folder`, and nothing else there.

        Those that are there are not asked for again.

        Args:
            series: Which.
            folder: Made where it is not.
            max_voxels: A larger series is refused from the listing, before anything is fetched.

        Raises:
            PacsError: If the server fails, or has less of the series than it says.
            CaseError: If the series is too large.
        """
        wanted = self._instances(series, max_voxels)
        folder.mkdir(parents=True, exist_ok=True)
        there = {file.name: file for file in folder.iterdir()}
        for name in there.keys() - {f"{uid}.dcm" for uid in wanted}:  # cut short, or gone from the PACS
            there[name].unlink()
        missing = [uid for uid in wanted if f"{uid}.dcm" not in there]
        threads = ThreadPoolExecutor(PARALLEL)
        try:
            with self._asking(str(series)):
                for done in as_completed(
                    threads.submit(self._fetch_one, series, uid, folder) for uid in missing
                ):
                    done.result()
        finally:
            threads.shutdown(cancel_futures=True)  # the first failure ends it, not the last

    def _instances(self, series: FoundSeries, max_voxels: int) -> list[str]:
        """SOPInstanceUID of each instance."""
        with self._asking(f"the instances of {series}"):
            answer = self._client.search_for_instances(
                series.study, series.uid, fields=["Rows", "Columns", "NumberOfFrames"]
            )
            uids = [_value(row, "SOPInstanceUID") for row in answer]
            voxels = sum(_voxels(row) for row in answer)
        if not uids or len(uids) < series.instances:
            raise PacsError(
                f"{series} must have {series.instances or 'some'} instances; the PACS lists {len(uids)}. "
                "Is it still being sent? Try again when it is complete."
            )
        if voxels > max_voxels:
            raise CaseError(
                f"{series} must have at most {max_voxels:,} voxels; its headers say {voxels:,}. Leave it out "
                "by a rule of --conf series_rules, or raise --conf max_voxels."
            )
        return uids

    def store(self, instance: Dataset) -> None:
        """Keep an instance in the PACS, by STOW-RS.

        Raises:
            PacsError: If the PACS does not take it.
        """
        with self._asking(f"storing instance {instance.SOPInstanceUID}"):
            answer = self._client.store_instances([instance])
            if answer.get("FailedSOPSequence"):
                raise ValueError(
                    f"it refused it: {answer.FailedSOPSequence[0].get('FailureReason', 'no reason')}"
                )

    def _fetch_one(self, series: FoundSeries, uid: str, folder: Path) -> None:
        with self._places:
            instance = self._client.retrieve_instance(series.study, series.uid, uid)
        if str(instance.SOPInstanceUID) != uid:
            raise ValueError(f"instance {uid} was asked for and another one sent")
        _check_pixels(series, instance)
        with replacing(folder / f"{uid}.dcm") as part:
            pydicom.dcmwrite(part, instance, **WHOLE_FILE)

    @contextmanager
    def _asking(self, what: str) -> Iterator[None]:
        """Turn whatever goes wrong on the way into a sentence that names what was asked for."""
        try:
            yield
        except UserError:
            raise
        except Exception as err:  # of the network (an OSError), or anything in what was sent
            if not isinstance(err, OSError):
                logger.info("asking the PACS for %s failed", what, exc_info=True)
            raise PacsError(
                f"the PACS at {self.url} must answer for {what}; {_short(err)}. Is it up? Try again."
            ) from err


@lru_cache(maxsize=8)
def pacs_at(url: str) -> Pacs:
    """The server at an address, with one pool of connections in a process."""
    return Pacs(url)


class _Patient(HTTPAdapter):
    """Waits for an answer, but not for ever; the library asks without a limit."""

    def send(self, request: Any, **options: Any) -> Any:  # type: ignore[override]
        """Send with a limit where none is given."""
        options["timeout"] = options.get("timeout") or TIMEOUT_S
        return super().send(request, **options)


def _value(row: Row, keyword: str) -> str:
    """First value of an attribute; making data sets of thousands of rows would take seconds."""
    tag = f"{tag_for_keyword(keyword):08X}"
    if keyword.endswith("InstanceUID"):
        return _uid(str(row[tag]["Value"][0]))
    values = row.get(tag, {}).get("Value")
    return str(values[0]) if values and values[0] is not None else ""


def _uid(text: str) -> str:
    """A UID, after which files are named."""
    if not re.fullmatch(r"\d+(\.\d+)*", text.strip()):
        raise ValueError(f"a UID must be numbers between dots; it sent {text[:80]!r}")
    return text.strip()


def _voxels(row: Row) -> int:
    rows, columns, frames = (
        max(int(_value(row, name) or 0), 0) for name in ("Rows", "Columns", "NumberOfFrames")
    )
    return rows * columns * max(frames, 1)


def _found(row: Row) -> FoundSeries:
    text = {name: _value(row, name) for name in _FIELDS}
    made = text["SeriesDate"] + text["SeriesTime"] or text["StudyDate"] + text["StudyTime"]
    return FoundSeries(
        study=_value(row, "StudyInstanceUID"),
        uid=_value(row, "SeriesInstanceUID"),
        modality=_value(row, "Modality"),
        description=text["SeriesDescription"],
        instances=int(text["NumberOfSeriesRelatedInstances"] or 0),
        frame_of_reference=text["FrameOfReferenceUID"],
        patient=text["PatientID"],
        study_date=text["StudyDate"],
        study_time=text["StudyTime"],
        made=made,
    )


def _found_or_none(row: Row) -> FoundSeries | None:
    """A series; None for a row that names none, which must not hide the others."""
    try:
        return _found(row)
    except Exception as err:  # a row may hold anything
        logger.warning("a series that the PACS lists is left out: %s", str(err)[:200])
        return None


def _check_pixels(series: FoundSeries, instance: Dataset) -> None:
    """Refuse an image with fewer bytes than its header says; a cut answer can look whole."""
    if "Rows" not in instance:
        return
    found = sum(len(instance[name].value or b"") for name in _PIXELS if name in instance)
    packed = instance.file_meta.TransferSyntaxUID.is_compressed
    expected = 1 if packed else get_expected_length(instance)
    if found < expected:
        raise PacsError(
            f"{series} must be whole; its instance {instance.SOPInstanceUID} has {found:,} bytes of pixels "
            f"of {expected:,}. Try again; if it stays so, send the series to the PACS again."
        )


def _short(err: Exception) -> str:
    """The cause in a few words, without the address that a request's error repeats."""
    if isinstance(err, requests.HTTPError) and err.response is not None:
        return f"it answered {err.response.status_code}"
    if isinstance(err, requests.Timeout) or "timed out" in str(err):  # the latter within a ConnectionError
        return "no answer in time"
    if isinstance(err, requests.exceptions.SSLError):
        return "its TLS certificate is not trusted"
    if isinstance(err, requests.exceptions.ChunkedEncodingError):
        return "the connection ended in mid-answer"
    if isinstance(err, requests.ConnectionError):
        return "no connection"
    return str(err)[:200] or type(err).__name__
