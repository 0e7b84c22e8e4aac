"""A PACS that speaks DICOMweb: which series it has, and their instances one by one."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import pydicom
import requests
from dicomweb_client.api import DICOMwebClient
from pydicom.dataset import Dataset
from requests.adapters import HTTPAdapter
from urllib3.util import Retry

from lib.atomic import replacing
from lib.cases.case import CaseError

PAGE = 1000  # series asked for at a time
PARALLEL = 6  # instances fetched at a time
_SECONDS = (5.0, 60.0)  # to connect, and between two pieces of an answer
_RETRIES = Retry(
    total=4,
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
logging.getLogger("dicomweb_client").setLevel(logging.WARNING)  # it logs every address, which names patients
pydicom.config.settings.reading_validation_mode = pydicom.config.IGNORE  # values are taken as they were sent


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

    def __str__(self) -> str:
        """As an error or a table names it."""
        return f"series {self.uid} ({self.modality} '{self.description}') of study {self.study}"


class Pacs:
    """One DICOMweb server. User and password come from the variables that MONAI Label reads."""

    def __init__(self, url: str) -> None:
        """Use the server at `url`; nothing is asked yet."""
        self.url = url.rstrip("/")
        session = requests.Session()
        user, password = (
            os.environ.get(f"MONAI_LABEL_DICOMWEB_{key}", "") for key in ("USERNAME", "PASSWORD")
        )
        if user and password:
            session.auth = (user, password)
        for scheme in ("http://", "https://"):
            session.mount(scheme, _Patient(max_retries=_RETRIES, pool_maxsize=PARALLEL))
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
        return [found for modality in modalities for found in self._series(modality)]

    def _series(self, modality: str) -> Iterator[FoundSeries]:
        seen: set[str] = set()
        while True:
            with self._asking(f"its {modality} series"):
                page = self._client.search_for_series(
                    fields=list(_FIELDS), limit=PAGE, offset=len(seen), search_filters={"Modality": modality}
                )
                found = [_found(Dataset.from_json(row)) for row in page]
            fresh = [series for series in found if series.uid not in seen]
            seen |= {series.uid for series in fresh}
            yield from fresh
            if not fresh or len(page) < PAGE:  # a server that knows no offset sends the same page again
                return

    def fetch(self, series: FoundSeries, folder: Path) -> None:
        """Every instance of a series as a file in `folder`; those that are there are not asked for again.

        Raises:
            PacsError: If the server fails, or has fewer instances than it says.
        """
        folder.mkdir(parents=True, exist_ok=True)
        with self._asking(f"the instances of {series}"):
            rows = self._client.search_for_instances(series.study, series.uid)
            uids = [str(Dataset.from_json(row).SOPInstanceUID) for row in rows]
        if not uids or len(uids) < series.instances:
            raise PacsError(
                f"{series} must have {series.instances or 'some'} instances; the PACS lists {len(uids)}. "
                "Is it still being sent? Try again when it is complete."
            )
        missing = [uid for uid in uids if not (folder / f"{uid}.dcm").exists()]
        with self._asking(str(series)), ThreadPoolExecutor(PARALLEL) as threads:
            for done in [threads.submit(self._fetch_one, series, uid, folder) for uid in missing]:
                done.result()

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
        instance = self._client.retrieve_instance(series.study, series.uid, uid)
        if str(instance.SOPInstanceUID) != uid:
            raise ValueError(f"instance {uid} was asked for and another one sent")
        with replacing(folder / f"{uid}.dcm") as part:
            pydicom.dcmwrite(part, instance, write_like_original=False)

    @contextmanager
    def _asking(self, what: str) -> Iterator[None]:
        """Turn whatever goes wrong on the way into a sentence that names what was asked for."""
        try:
            yield
        except (requests.RequestException, OSError, ValueError, KeyError, AttributeError, TypeError) as err:
            if isinstance(err, CaseError):
                raise
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
        options["timeout"] = options.get("timeout") or _SECONDS
        return super().send(request, **options)


def _found(row: Dataset) -> FoundSeries:
    text = {name: str(row.get(name) or "") for name in _FIELDS}
    made = text["SeriesDate"] + text["SeriesTime"] or text["StudyDate"] + text["StudyTime"]
    return FoundSeries(
        study=str(row.StudyInstanceUID),
        uid=str(row.SeriesInstanceUID),
        modality=str(row.Modality),
        description=text["SeriesDescription"],
        instances=int(text["NumberOfSeriesRelatedInstances"] or 0),
        frame_of_reference=text["FrameOfReferenceUID"],
        patient=text["PatientID"],
        study_date=text["StudyDate"],
        study_time=text["StudyTime"],
        made=made,
    )


def _short(err: Exception) -> str:
    """The cause in a few words, without the address that a request's error repeats."""
    if isinstance(err, requests.HTTPError) and err.response is not None:
        return f"it answered {err.response.status_code}"
    if isinstance(err, requests.ConnectionError):
        return "no connection"
    if isinstance(err, requests.Timeout):
        return "no answer in time"
    return str(err)[:200] or type(err).__name__
