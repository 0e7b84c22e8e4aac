"""Series as a PACS lists them, read from the DICOM JSON rows of a QIDO-RS answer."""

from __future__ import annotations

import hashlib
import logging
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydicom.datadict import tag_for_keyword

Row = Mapping[str, Any]  # one entry of a listing, DICOM JSON
SERIES_FIELDS = (
    "SeriesDescription",
    "NumberOfSeriesRelatedInstances",
    "FrameOfReferenceUID",
    "PatientID",
    "StudyDate",
    "StudyDescription",
    "StudyTime",
    "SeriesDate",
    "SeriesTime",
)
logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class FoundSeries:
    """A series as the PACS lists it.

    Attributes:
        study: StudyInstanceUID.
        uid: SeriesInstanceUID.
        modality: DICOM Modality.
        description: SeriesDescription; empty if the PACS gives none.
        instances: Number of files according to the PACS; 0 if the PACS does not give it. A file is one slice,
            or all slices of an enhanced object.
        frame_of_reference: FrameOfReferenceUID; empty if the PACS does not list it.
        patient: PatientID.
        study_date: StudyDate, YYYYMMDD.
        study_time: StudyTime, HHMMSS.
        study_description: StudyDescription; empty if the PACS gives none.
        made: SeriesDate and SeriesTime, or those of the study; sorts by age.
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
    study_description: str = ""
    made: str = ""

    @property
    def stamp(self) -> str:
        """Hash that changes when the PACS lists other instances of the series."""
        mark = f"{self.uid} {self.instances} {self.made}"
        return hashlib.blake2b(mark.encode(), digest_size=8).hexdigest()

    @property
    def study_title(self) -> str:
        """What people call the study: PatientID, date and description, as far as the PACS gives them."""
        date = self.study_date
        if re.fullmatch(r"\d{8}", date):
            date = f"{date[:4]}-{date[4:6]}-{date[6:]}"
        return ", ".join(filter(None, [self.patient, date, self.study_description]))

    def __str__(self) -> str:
        """Name of the series in errors and tables."""
        return f"series {self.uid} ({self.modality} '{self.description}') of study {self.study}"


class NotDicomJson(ValueError):
    """An answer is no list of DICOM attributes; taken for an empty one, it would hide a wrong address."""


def rows_of(answer: Any, keyword: str) -> list[Row]:
    """Rows of a listing; an invalid row among valid ones is left to its reader.

    Args:
        answer: JSON that a server answered.
        keyword: Attribute that every row must have.

    Raises:
        NotDicomJson: If the answer is no list, or none of its rows has the attribute.
    """
    tag = _tag(keyword)
    if not isinstance(answer, list) or not (
        answer == [] or any(isinstance(row, dict) and tag in row for row in answer)
    ):
        raise NotDicomJson("a listing must be a list of rows with DICOM attributes; it is not.")
    return [row for row in answer if isinstance(row, dict)]


def series_of_row(row: Row) -> FoundSeries | None:
    """The series of a row; None for an invalid row, which must not hide the valid ones."""
    try:
        return _series(row)
    except Exception as err:  # a row may hold anything
        logger.warning("a series that the PACS lists is left out: %s", str(err)[:200])
        return None


def uid_of_row(row: Row, keyword: str) -> str:
    """UID in a row; it becomes a file name, so its form is checked.

    Raises:
        LookupError: If the row has no such UID.
        ValueError: If the UID is not numbers between dots.
    """
    text = str(row[_tag(keyword)]["Value"][0])
    if not re.fullmatch(r"\d+(\.\d+)*", text.strip()):
        raise ValueError(f"a UID must be numbers between dots; it sent {text[:80]!r}")
    return text.strip()


def voxels_of_row(row: Row) -> int:
    """Number of voxels of an instance; 0 if the row does not give its size."""
    rows, columns = (max(int(_value(row, name) or 0), 0) for name in ("Rows", "Columns"))
    return rows * columns * slices_of_row(row)


def slices_of_row(row: Row) -> int:
    """Number of slices of an instance; 1 if the row does not give its frames."""
    return max(int(_value(row, "NumberOfFrames") or 0), 1)


def _series(row: Row) -> FoundSeries:
    text = {name: _value(row, name) for name in SERIES_FIELDS}
    made = text["SeriesDate"] + text["SeriesTime"] or text["StudyDate"] + text["StudyTime"]
    return FoundSeries(
        study=uid_of_row(row, "StudyInstanceUID"),
        uid=uid_of_row(row, "SeriesInstanceUID"),
        modality=_value(row, "Modality"),
        description=text["SeriesDescription"],
        instances=int(text["NumberOfSeriesRelatedInstances"] or 0),
        frame_of_reference=text["FrameOfReferenceUID"],
        patient=text["PatientID"],
        study_date=text["StudyDate"],
        study_time=text["StudyTime"],
        study_description=text["StudyDescription"],
        made=made,
    )


def _value(row: Row, keyword: str) -> str:
    """First value of an attribute. pydicom data sets of thousands of rows would take seconds to build."""
    values = row.get(_tag(keyword), {}).get("Value")
    return str(values[0]) if values and values[0] is not None else ""


def _tag(keyword: str) -> str:
    return f"{tag_for_keyword(keyword):08X}"
