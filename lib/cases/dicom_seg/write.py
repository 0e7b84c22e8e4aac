"""Writing of a label as a DICOM SEG that references the series it was outlined on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

import highdicom as hd
import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.uid import generate_uid
from pydicom.valuerep import DSfloat, PersonName

from lib import VERSION
from lib.cases.case import CaseError
from lib.cases.dicom_seg.terms import (
    ABNORMAL_STRUCTURE,
    ARTIFICIAL_INTELLIGENCE,
    LONG_STRING,
    type_of,
)
from lib.cases.dicom_seg.timestamps import write_moment
from lib.cases.formats.dicom import Series
from lib.cases.formats.dicom_file import read_frames_header
from lib.cases.formats.image import Volume, resample
from lib.cases.structure_colours import cielab_of

MANUFACTURER = "MDAL-CIML"
SHORT_STRING = 16  # longest StudyID in DICOM (SH), in characters
SERIES_NUMBER_OFFSET = 1000  # so that viewers list the SEG after the study's images
UTF_8 = "ISO_IR 192"  # preserves names in any script
# Type 2 attributes: the standard demands them in every image, yet de-identified headers lack them
_MAY_LACK = (
    "PatientID",
    "PatientName",
    "PatientBirthDate",
    "AccessionNumber",
    "StudyID",
    "StudyDate",
    "StudyTime",
)


@dataclass(frozen=True)
class Author:
    """Author of a label.

    Attributes:
        name: Name of the reader or of the model.
        version: Version of the model; None for a reader.
    """

    name: str
    version: str | None = None

    def __str__(self) -> str:
        """Name and version, for the series description."""
        return " ".join(filter(None, (self.name, self.version)))


def write_segmentation(
    label: Volume, series: Series, *, labels: Mapping[str, int], author: Author, written: datetime
) -> Dataset:
    """BINARY segmentation that references every instance of the series.

    Every structure in `labels` becomes a segment, outlined or not; slices without an outline are left out. An
    empty label ("no lesion") has one empty frame a segment, on the first slice, because DICOM demands at
    least one frame.

    Args:
        label: Label on any grid; it is resampled to the slices of the series. 0 is background.
        series: Series that the SEG references; its files must exist, but their pixels are not read.
        labels: Value of each name.
        author: Author of the label; a model's label is AUTOMATIC, a reader's is MANUAL.
        written: Time of the label, which decides the newest one of a case; a naive time is local time.

    Returns:
        Data set with new UIDs, except the tracking UIDs: a structure keeps its tracking UID within a study.

    Raises:
        CaseError: If the label has other values or lies outside the series, or the headers of the series lack
            attributes that a SEG must repeat.
    """
    places = series.places
    moved = places.on_slices(resample(label, places.grid, nearest=True).array)
    array = _numbered(moved, sorted(labels.values()))
    if label.array.any() and not array.any():
        raise CaseError(
            f"a label must lie on series {series.uid} to be its segmentation; none of its voxels does. Was "
            "it drawn on another study?"
        )
    headers, array = _read_headers(series), _in_order_of_files(array, series)
    empty = not array.any()
    names = sorted(labels, key=lambda name: labels[name])
    try:
        dataset = hd.seg.Segmentation(
            source_images=headers,
            pixel_array=array[:1] if empty else array,
            plane_positions=[_position_of(series)] if empty else None,
            omit_empty_frames=not empty,
            segmentation_type=hd.seg.SegmentationTypeValues.BINARY,
            segment_descriptions=[
                _describe(name, number=number, series=series, author=author)
                for number, name in enumerate(names, start=1)
            ],
            series_instance_uid=hd.UID(),
            series_number=int(headers[0].get("SeriesNumber") or 0) + SERIES_NUMBER_OFFSET,
            series_description=_text(f"{author}: segmentation of {series.description or series.modality}"),
            sop_instance_uid=hd.UID(),
            instance_number=1,
            manufacturer=MANUFACTURER,
            manufacturer_model_name=MANUFACTURER,
            software_versions=VERSION,
            device_serial_number="0",
            content_label="SEGMENTATION",
            content_description=_text("no lesion" if empty else ", ".join(names)),
        )
        write_moment(dataset, written, source=headers[0])
    except (AttributeError, TypeError, ValueError) as err:
        raise CaseError(
            f"series {series.uid} must have complete DICOM headers to carry a segmentation; {err}. Export it "
            "again from the scanner or the PACS."
        ) from err
    dataset.SpecificCharacterSet = UTF_8
    reader = author.name if author.version is None else ""
    dataset.ContentCreatorName = PersonName(_text(reader.replace("=", " ")))  # type 2: empty for a model
    return dataset


def _numbered(array: NDArray[np.generic], values: Sequence[int]) -> NDArray[np.uint8]:
    """Label with its values renumbered 1..n, as the segments are numbered."""
    numbered = np.zeros(array.shape, dtype=np.uint8)
    for number, value in enumerate(values, start=1):
        numbered[array == value] = number
    wrong = np.unique(array[(numbered == 0) & (array != 0)])
    if wrong.size:
        raise CaseError(
            f"a label must hold 0 and {', '.join(map(str, values))}; got {', '.join(map(str, wrong[:5]))}. "
            "Renumber it, or add the label to the decomposition."
        )
    return numbered


def _in_order_of_files(array: NDArray[np.uint8], series: Series) -> NDArray[np.uint8]:
    """Slices of a label in the order in which highdicom reads the positions of a multi-frame object."""
    frames = [each.frame for each in series.slices if each.frame is not None]
    return array[np.argsort(frames)] if frames else array


def _read_headers(series: Series) -> list[Dataset]:
    """Headers of the files, with the attributes added that highdicom demands and an export may lack."""
    headers: list[Dataset] = [read_frames_header(path) for path in series.files]
    step = series.places.grid.spacing[0]
    for header in headers:
        for keyword in _MAY_LACK:
            header.setdefault(keyword, None)
        header.StudyID = str(header.StudyID or "")[:SHORT_STRING]  # a longer id makes the SEG invalid
        if header.get("PatientSex") not in ("M", "F", "O"):
            header.PatientSex = None
        header.SliceThickness = header.get("SliceThickness") or step
        header.SpacingBetweenSlices = DSfloat(step, auto_format=True)  # Slicer needs it to build a volume
        if series.slices[0].frame is not None:
            _share_geometry(header, series, step)
    return headers


def _share_geometry(header: Dataset, series: Series, step: float) -> None:
    """Give all frames in common what highdicom reads there; Philips repeats it in each frame."""
    groups = header.setdefault("SharedFunctionalGroupsSequence", [Dataset()])[0]
    groups.PixelMeasuresSequence = hd.PixelMeasuresSequence(
        pixel_spacing=series.slices[0].spacing,
        slice_thickness=step,
        spacing_between_slices=step,
    )
    groups.PlaneOrientationSequence = hd.PlaneOrientationSequence(
        hd.CoordinateSystemNames.PATIENT, series.slices[0].orientation
    )


def _position_of(series: Series) -> hd.PlanePositionSequence:
    """Position of the first slice."""
    return hd.PlanePositionSequence(hd.CoordinateSystemNames.PATIENT, series.slices[0].position)


def _describe(name: str, *, number: int, series: Series, author: Author) -> hd.seg.SegmentDescription:
    algorithm = None
    if author.version is not None:
        algorithm = hd.AlgorithmIdentificationSequence(
            _text(author.name), family=ARTIFICIAL_INTELLIGENCE, version=_text(author.version)
        )
    kind = hd.seg.SegmentAlgorithmTypeValues
    segment = hd.seg.SegmentDescription(
        segment_number=number,
        segment_label=_text(name),
        segmented_property_category=ABNORMAL_STRUCTURE,
        segmented_property_type=type_of(name),
        algorithm_type=kind.MANUAL if algorithm is None else kind.AUTOMATIC,
        algorithm_identification=algorithm,
        tracking_id=f"{series.patient} {name}".strip(),
        tracking_uid=generate_uid(entropy_srcs=[series.study, name]),
    )
    segment.RecommendedDisplayCIELabValue = list(hd.color.CIELabColor(*cielab_of(number)).value)
    return segment


def _text(value: str) -> str:
    """Text that fits DICOM's LO: 64 characters, no control characters, and no backslash (a separator)."""
    printable = "".join(letter for letter in value.replace("\\", "/") if letter.isprintable())
    return printable[:LONG_STRING].strip()
