"""Client of a PACS that speaks DICOMweb: lists its series, fetches their instances, stores new ones."""

from __future__ import annotations

import logging
import math
import os
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any

import pydicom
import requests
from dicomweb_client.api import DICOMwebClient
from pydicom.dataset import Dataset
from requests.adapters import HTTPAdapter
from urllib3.util import Retry

from lib.cases.case import CaseError
from lib.cases.dicomweb.listing import (
    SERIES_FIELDS,
    FoundSeries,
    NotDicomJson,
    Row,
    rows_of,
    series_of_row,
    slices_of_row,
    uid_of_row,
    voxels_of_row,
)
from lib.cases.formats.image import MAX_VOXELS
from lib.cases.formats.pydicom_versions import WHOLE_FILE, get_expected_length
from lib.runtime.errors import UserError
from lib.runtime.files import replacing

USER, PASSWORD = "MONAI_LABEL_DICOMWEB_USERNAME", "MONAI_LABEL_DICOMWEB_PASSWORD"  # in the environment
PAGE = 1000  # series in one query
PARALLEL = 6  # instances that one process fetches at the same time, over all series
KEPT_CONNECTIONS = 4 * PARALLEL  # queries run beside the fetches; more are closed after use
TIMEOUT_S = (5.0, 60.0)  # to connect, and between two pieces of an answer
RETRIES = Retry(
    total=4,
    read=1,  # a request without an answer within a minute is repeated once
    backoff_factor=0.5,  # waits 0, 1, 2, 4 s
    status_forcelist=(408, 429, 500, 502, 503, 504),
    allowed_methods=("GET",),
    raise_on_status=False,
)
_PIXEL_KEYWORDS = ("PixelData", "FloatPixelData", "DoubleFloatPixelData")
logging.getLogger("dicomweb_client").setLevel(logging.WARNING)  # it logs every URL, and URLs name patients
logging.getLogger("retrying").setLevel(logging.CRITICAL)  # of dicomweb_client; its tracebacks hold URLs
pydicom.config.settings.reading_validation_mode = pydicom.config.IGNORE  # values are used as they were sent
logger = logging.getLogger(__name__)
_TOLD_EVERY_S = 30.0  # a PACS that is down is told once, not once a request and repetition


class _OneLine(logging.Filter):
    """Tells that requests are repeated in one line without their URLs, which name patients."""

    told = -math.inf

    def filter(self, record: logging.LogRecord) -> bool:
        if not str(record.msg).startswith("Retrying"):
            return True
        now, before = time.monotonic(), self.told
        if now - before < _TOLD_EVERY_S:
            return False
        self.told = now
        record.msg, record.args = "The PACS does not answer or is busy; its requests are repeated.", ()
        return True


ONE_LINE = _OneLine()
logging.getLogger("urllib3.connectionpool").addFilter(ONE_LINE)


class PacsError(CaseError):
    """The PACS does not answer as DICOMweb demands; a later request may succeed."""


class Pacs:
    """One DICOMweb server. User and password come from MONAI Label's environment variables."""

    def __init__(self, url: str) -> None:
        """Use the server at `url`; no request is sent yet."""
        self.url = url.rstrip("/")
        self._slots = threading.BoundedSemaphore(PARALLEL)
        session = requests.Session()
        user, password = os.environ.get(USER, ""), os.environ.get(PASSWORD, "")
        if user and password:
            session.auth = (user, password)
        for scheme in ("http://", "https://"):
            session.mount(scheme, _LimitedWait(max_retries=RETRIES, pool_maxsize=KEPT_CONNECTIONS))
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
        self._client.set_http_retry_params(retry=False)  # the session retries, also after a lost connection

    def series(self, modalities: Sequence[str]) -> list[FoundSeries]:
        """Every series of these DICOM Modalities, queried page by page.

        Raises:
            PacsError: If the server does not answer as DICOMweb demands.
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
            with self._errors_of(f"its {modality} series"):
                answer = self._client.search_for_series(
                    fields=list(SERIES_FIELDS),
                    limit=PAGE,
                    offset=offset,
                    search_filters={"Modality": modality},
                )
                page = rows_of(answer, "SeriesInstanceUID")
            found = [series for series in map(series_of_row, page) if series]
            fresh = [series for series in found if series.uid not in seen]
            seen |= {series.uid for series in fresh}
            yield from fresh
            offset += len(page)
            if not page or (not fresh and (found or page == before)):
                return  # the last page, or a server that ignores the offset and repeats the same page

    def fetch(self, series: FoundSeries, folder: Path, *, max_voxels: int = MAX_VOXELS) -> None:
        """Fetch every instance of a series into `folder`; afterwards the folder holds nothing else.

        Instances that are in the folder already are not fetched again.

        Args:
            series: Series to fetch.
            folder: Folder of the instances; created if it is missing.
            max_voxels: Largest series to fetch; a larger one is refused from the listing alone.

        Raises:
            PacsError: If the server fails, or lists fewer instances than the series has.
            CaseError: If the series is too large.
        """
        wanted = self._instances(series, max_voxels)
        folder.mkdir(parents=True, exist_ok=True)
        there = {file.name: file for file in folder.iterdir()}
        for name in there.keys() - {f"{uid}.dcm" for uid in wanted}:  # incomplete, or deleted from the PACS
            there[name].unlink()
        missing = [uid for uid in wanted if f"{uid}.dcm" not in there]
        threads = ThreadPoolExecutor(PARALLEL)
        try:
            with self._errors_of(str(series)):
                for done in as_completed(
                    threads.submit(self._fetch_one, series, uid, folder) for uid in missing
                ):
                    done.result()
        finally:
            threads.shutdown(cancel_futures=True)  # the first failure ends the fetch

    def slices(self, series: FoundSeries) -> int:
        """Number of slices of a series; the frames of an enhanced (multi-frame) object count each.

        Raises:
            PacsError: If the server fails.
        """
        if series.instances != 1:
            return series.instances
        with self._errors_of(f"the frames of {series}"):
            rows = self._client.search_for_instances(series.study, series.uid, fields=["NumberOfFrames"])
            return sum(map(slices_of_row, rows))

    def _instances(self, series: FoundSeries, max_voxels: int) -> list[str]:
        """SOPInstanceUID of each instance."""
        with self._errors_of(f"the instances of {series}"):
            answer = self._client.search_for_instances(
                series.study, series.uid, fields=["Rows", "Columns", "NumberOfFrames"]
            )
            rows = rows_of(answer, "SOPInstanceUID")
            uids = [uid_of_row(row, "SOPInstanceUID") for row in rows]
            voxels = sum(voxels_of_row(row) for row in rows)
        if not uids or len(uids) < series.instances:
            raise PacsError(
                f"{series} must have {series.instances or 'some'} instances; the PACS lists {len(uids)}. "
                "Is it still being sent? Try again when it is complete."
            )
        if voxels > max_voxels:
            raise CaseError(
                f"{series} must have at most {max_voxels:,} voxels; its headers say {voxels:,}. Leave it out "
                "by a rule of --conf series_rules."
            )
        return uids

    def store(self, instance: Dataset) -> None:
        """Store an instance in the PACS by STOW-RS.

        Raises:
            PacsError: If the PACS does not accept the instance.
        """
        with self._errors_of(f"storing instance {instance.SOPInstanceUID}"):
            answer = self._client.store_instances([instance])
            if answer.get("FailedSOPSequence"):
                reason = answer.FailedSOPSequence[0].get("FailureReason", "no reason")
                raise ValueError(f"it refused the instance: {reason}")

    def _fetch_one(self, series: FoundSeries, uid: str, folder: Path) -> None:
        with self._slots:
            instance = self._client.retrieve_instance(series.study, series.uid, uid)
        if str(instance.SOPInstanceUID) != uid:
            raise ValueError(f"instance {uid} was requested, but another one was sent")
        _check_pixels(series, instance)
        with replacing(folder / f"{uid}.dcm") as part:
            pydicom.dcmwrite(part, instance, **WHOLE_FILE)

    @contextmanager
    def _errors_of(self, request: str) -> Iterator[None]:
        """Turn any exception of a request into a `PacsError` that names the request."""
        try:
            yield
        except UserError:
            raise
        except Exception as err:  # OSError: the network; anything else: the content of the answer
            if not isinstance(err, OSError):
                logger.info("asking the PACS for %s failed", request, exc_info=True)
            raise PacsError(f"the PACS at {self.url} must answer for {request}; {_reason(err)}") from err


@lru_cache(maxsize=8)
def pacs_at(url: str) -> Pacs:
    """The server at an address; each process keeps one pool of connections to it."""
    return Pacs(url)


class _LimitedWait(HTTPAdapter):
    """HTTP adapter with a timeout by default; dicomweb-client itself sets none."""

    def send(self, request: Any, **options: Any) -> Any:  # type: ignore[override]
        """Send a request, with `TIMEOUT_S` if the caller gives no timeout."""
        options["timeout"] = options.get("timeout") or TIMEOUT_S
        return super().send(request, **options)


def _check_pixels(series: FoundSeries, instance: Dataset) -> None:
    """Refuse an image with fewer pixel bytes than its header demands; a truncated answer can parse."""
    if "Rows" not in instance:
        return
    found = sum(len(instance[name].value or b"") for name in _PIXEL_KEYWORDS if name in instance)
    compressed = instance.file_meta.TransferSyntaxUID.is_compressed
    expected = 1 if compressed else get_expected_length(instance)
    if found < expected:
        raise PacsError(
            f"{series} must be whole; its instance {instance.SOPInstanceUID} has {found:,} bytes of pixels "
            f"of {expected:,}. Try again; if this persists, send the series to the PACS again."
        )


def _reason(err: Exception) -> str:
    """Reason and what to do, without the URL that errors of requests repeat."""
    if isinstance(err, requests.HTTPError) and err.response is not None:
        status = err.response.status_code
        return f"it answered {status}. {_ADVICE.get(status, _TRY_AGAIN)}"
    if isinstance(err, requests.Timeout) or "timed out" in str(err):  # "timed out" within a ConnectionError
        return f"no answer in time. {_TRY_AGAIN}"
    if isinstance(err, requests.exceptions.SSLError):
        return _NOT_TRUSTED if "CERTIFICATE_VERIFY_FAILED" in str(err) else _NO_TLS
    if isinstance(err, requests.exceptions.ChunkedEncodingError):
        return f"the connection ended in mid-answer. {_TRY_AGAIN}"
    if isinstance(err, requests.ConnectionError):
        return f"no connection. {_TRY_AGAIN}"
    if isinstance(err, requests.TooManyRedirects):
        return f"it sends from one address to another without end. {_OTHER_ADDRESS}"
    if isinstance(err, (requests.JSONDecodeError, NotDicomJson, RecursionError)):
        return f"it answered something else than DICOM JSON. {_OTHER_ADDRESS}"
    return f"{str(err)[:200] or type(err).__name__}. {_TRY_AGAIN}"


_TRY_AGAIN = "Is it up? Try again."
_OTHER_ADDRESS = "Is this the address of its DICOMweb, such as http://HOST:8042/dicom-web?"
_CREDENTIALS = f"Set {USER} and {PASSWORD} in the environment to a user who may "
_ADVICE = {
    401: f"{_CREDENTIALS}read and store there.",
    403: f"{_CREDENTIALS}read and store there.",
    404: _OTHER_ADDRESS,
    405: _OTHER_ADDRESS,
    406: _OTHER_ADDRESS,
    407: "A proxy in between wants a password: set HTTP_PROXY and HTTPS_PROXY, or NO_PROXY for this host.",
}
_NOT_TRUSTED = (
    "its TLS certificate is not trusted. Set REQUESTS_CA_BUNDLE in the environment to the file of the "
    "authority that signed it, and use the name that it was signed for."
)
_NO_TLS = "it does not speak TLS. Write http:// if it has none."
