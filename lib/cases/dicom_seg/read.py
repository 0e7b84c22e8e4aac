"""Reading of a DICOM SEG of any writer, by the names of its segments."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from io import BytesIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pydicom.dataset import Dataset
from pydicom.uid import RLELossless

from lib.cases.case import CaseError
from lib.cases.dicom_seg.terms import values_of
from lib.cases.dicom_seg.timestamps import read_moment
from lib.cases.formats.dicom_file import check_fields, read_within
from lib.cases.formats.headers import RAS_LPS
from lib.cases.formats.image import Volume
from lib.cases.formats.pydicom_versions import generate_frames
from lib.cases.formats.slice_places import SlicePlaces
from lib.cases.unexpected_errors import as_case_error
from lib.runtime.errors import UserError

SEGMENTATION_STORAGE = "1.2.840.10008.5.1.4.1.1.66.4"
OFF_GRID_VOXELS = 0.25  # some writers round positions to text; half a voxel would be another slice
SEG_HEADER_READS = 500_000  # reads; the position of a frame takes up to 140, and all take a few seconds
_ITEMS, _FIELD_BYTES = (
    100_000,
    16 * 1024**2,
)  # limits of one field except the pixels; a frame has about ten items
_FARTHEST = 1e6  # largest distance from the series in voxels
_DAMAGE_ERRORS = (
    AttributeError,
    LookupError,
    NotImplementedError,
    OSError,
    RuntimeError,
    TypeError,
    ValueError,
)


@dataclass(frozen=True)
class Description:
    """Header of a SEG without its pixels.

    Attributes:
        instance: SOPInstanceUID.
        series: SeriesInstanceUID of the SEG itself.
        study: StudyInstanceUID.
        references: SeriesInstanceUIDs of the series that the SEG was outlined on.
        segments: Names of the segments, in the order of the file.
        written: Time of the content in UTC; None if the header has no valid date and time.
        author: Name of the reader, or of the algorithm if there is no reader; may be empty.
        algorithm_type: MANUAL, AUTOMATIC or SEMIAUTOMATIC; SEMIAUTOMATIC if the segments differ.
    """

    instance: str
    series: str
    study: str
    references: tuple[str, ...]
    segments: tuple[str, ...]
    written: datetime | None
    author: str
    algorithm_type: str


def parse(data: bytes) -> Dataset:
    """Data set in the bytes of a file; the pixels are not decoded.

    Raises:
        CaseError: If the bytes are not DICOM, or the header does not end.
    """
    dataset = read_within(BytesIO(data), "a segmentation", most=2 * len(data), reads=SEG_HEADER_READS)
    with as_case_error("the header of a segmentation"):
        check_fields(dataset, "a segmentation", most=_FIELD_BYTES, items=_ITEMS)
    return dataset


def describe(dataset: Dataset) -> Description:
    """Description of a SEG from its header; the data set may lack pixels.

    Raises:
        CaseError: If the data set is no DICOM SEG with segments.
    """
    with as_case_error("the header of a segmentation"):
        return _describe(dataset)


def _describe(dataset: Dataset) -> Description:
    segments = _segments(dataset)
    types = {str(segment.get("SegmentAlgorithmType") or "MANUAL") for segment in segments.values()}
    algorithms = (str(segment.get("SegmentAlgorithmName") or "") for segment in segments.values())
    return Description(
        instance=str(dataset.get("SOPInstanceUID", "")),
        series=str(dataset.get("SeriesInstanceUID", "")),
        study=str(dataset.get("StudyInstanceUID", "")),
        references=tuple(
            str(item.SeriesInstanceUID)
            for item in dataset.get("ReferencedSeriesSequence") or ()
            if "SeriesInstanceUID" in item
        ),
        segments=tuple(_name_of(number, segment) for number, segment in segments.items()),
        written=read_moment(dataset),
        author=str(dataset.get("ContentCreatorName") or "") or next(algorithms),
        algorithm_type=types.pop() if len(types) == 1 else "SEMIAUTOMATIC",
    )


def read_segmentation(dataset: Dataset, places: SlicePlaces, *, labels: Mapping[str, int]) -> Volume:
    """Label on the straight grid of the series that the SEG was outlined on.

    Each frame carries its position, so the files of the series are not needed. If segments overlap, the
    higher value in `labels` wins. A FRACTIONAL segment covers a voxel if its fraction is at least half.

    Args:
        dataset: BINARY or FRACTIONAL segmentation, with any number of segments in any order.
        places: Places of the series' slices; every frame must lie on one of them.
        labels: Value of each name, at most 255; `values_of` defines which names count as the same.

    Returns:
        Label as uint8; 0 is background.

    Raises:
        CaseError: If the data set is no SEG, is damaged, names other structures, or lies off the slices.
    """
    with as_case_error("a segmentation"):
        return _read(dataset, places, labels)


def _read(dataset: Dataset, places: SlicePlaces, labels: Mapping[str, int]) -> Volume:
    segments = _segments(dataset)
    names = [_name_of(number, segment) for number, segment in segments.items()]
    value_of = dict(zip(segments, values_of(names, labels), strict=True))
    try:
        _check_size(dataset, most=math.prod(places.shape) * len(labels))
        values = [value_of[number] for number in _frame_segments(dataset)]
        corners = _frame_corners(dataset, places)
        frames = _frames(dataset)
    except UserError:
        raise
    except _DAMAGE_ERRORS as err:
        raise CaseError(
            f"segmentation {dataset.get('SOPInstanceUID', '?')} must be complete; a frame's segment, "
            f"position or pixels are missing or damaged ({str(err)[:200]}). Save it again from the viewer."
        ) from err
    label = np.zeros(places.shape, dtype=np.uint8)
    for frame in np.argsort(values, kind="stable"):
        i, j, k = corners[frame]
        window = label[k, j : j + dataset.Rows, i : i + dataset.Columns]
        window[frames[frame]] = values[frame]
    return Volume(places.straightened_label(label), places.grid)


def _check_size(dataset: Dataset, *, most: int) -> None:
    """Refuse more pixels than one mask a label has, before any pixel is decoded."""
    frames, rows, columns = len(dataset.PerFrameFunctionalGroupsSequence), dataset.Rows, dataset.Columns
    said = int(dataset.get("NumberOfFrames") or 1)
    if said != frames:
        raise ValueError(f"{said} frames, {frames} of which have a position")
    if min(frames, rows, columns) < 1 or frames * rows * columns > most:
        raise CaseError(
            f"a segmentation must have at most {most:,} pixels, a mask for each label; its header says "
            f"{frames:,} frames of {rows:,} x {columns:,}. Save it again from the viewer."
        )
    if dataset.BitsAllocated not in (1, 8) or dataset.get("SamplesPerPixel", 1) != 1:
        raise ValueError(f"{dataset.BitsAllocated} bits a pixel")


def _segments(dataset: Dataset) -> dict[int, Dataset]:
    """Segments by their number."""
    kind = str(dataset.get("SOPClassUID", "none"))
    if kind != SEGMENTATION_STORAGE:
        raise CaseError(
            f"a label must be a DICOM SEG (SOP class {SEGMENTATION_STORAGE}); got {kind}. Save it "
            "as a segmentation."
        )
    try:
        segments = {int(segment.SegmentNumber): segment for segment in dataset.get("SegmentSequence") or ()}
    except (AttributeError, TypeError, ValueError) as err:
        raise CaseError(f"each segment must have a number; {err}. Save it again from the viewer.") from err
    if not segments:
        raise CaseError(
            f"segmentation {dataset.get('SOPInstanceUID', '?')} must have at least one segment; found none. "
            "Add one in the viewer and save again."
        )
    return segments


def _name_of(number: int, segment: Dataset) -> str:
    return str(segment.get("SegmentLabel") or f"Segment {number}")


def _frame_segments(dataset: Dataset) -> list[int]:
    return [
        int(_group(dataset, frame, "SegmentIdentificationSequence").ReferencedSegmentNumber)
        for frame in dataset.PerFrameFunctionalGroupsSequence
    ]


def _group(dataset: Dataset, frame: Dataset, name: str) -> Dataset:
    """Functional group of one frame; all frames may share the group."""
    groups = frame.get(name) or dataset.SharedFunctionalGroupsSequence[0][name].value
    group: Dataset = groups[0]
    return group


def _frame_corners(dataset: Dataset, places: SlicePlaces) -> NDArray[np.int_]:
    """Index (i, j, k) in the stored slices of each frame's first voxel, shape (F, 3)."""
    last = np.array([[0, 0, 0], [dataset.Columns - 1, 0, 0], [0, dataset.Rows - 1, 0]])  # of rows and columns
    points = np.array([_frame_points(dataset, frame) for frame in dataset.PerFrameFunctionalGroupsSequence])
    from_lps = np.linalg.inv(RAS_LPS @ places.affine)
    indices = points @ from_lps[:3, :3].T + from_lps[:3, 3] - last  # (F, 3 points, 3), thrice the first voxel
    if not np.isfinite(indices).all() or np.abs(indices).max() > _FARTHEST:
        raise ValueError("a position without end")
    corners: NDArray[np.int_] = np.rint(indices[:, 0]).astype(int)
    off = np.abs(indices - corners[:, None]).max(axis=(1, 2))
    size = np.array([dataset.Columns, dataset.Rows, 1])
    outside = (corners < 0).any(axis=1) | (corners + size > places.shape[::-1]).any(axis=1)
    if (wrong := np.flatnonzero(~(off <= OFF_GRID_VOXELS) | outside)).size:
        place = ", ".join(f"{value:.1f}" for value in points[wrong[0], 0])
        raise CaseError(
            f"every frame must lie on the slices of the series, {places.shape} voxels; frame "
            f"{wrong[0] + 1} of {len(points)} at ({place}) mm, {dataset.Rows} x {dataset.Columns} pixels, "
            "does not. Save the segmentation on the series that it was opened with."
        )
    return corners


def _frame_points(dataset: Dataset, frame: Dataset) -> NDArray[np.float64]:
    """LPS mm of a frame's first pixel, and of the last pixels of its first row and column, shape (3, 3)."""
    origin = np.array(_group(dataset, frame, "PlanePositionSequence").ImagePositionPatient, dtype=float)
    orientation = _group(dataset, frame, "PlaneOrientationSequence").ImageOrientationPatient
    along_row, along_column = np.reshape(np.array(orientation, dtype=float), (2, 3))
    between_rows, between_columns = map(float, _group(dataset, frame, "PixelMeasuresSequence").PixelSpacing)
    return np.stack(
        [
            origin,
            origin + along_row * between_columns * (dataset.Columns - 1),
            origin + along_column * between_rows * (dataset.Rows - 1),
        ]
    )


def _frames(dataset: Dataset) -> NDArray[np.bool_]:
    """Pixels that each frame covers, shape (F, rows, columns)."""
    if dataset.file_meta.TransferSyntaxUID.is_compressed:
        _check_compressed(dataset)
    pixels = dataset.pixel_array.reshape(-1, dataset.Rows, dataset.Columns)
    if len(pixels) != len(dataset.PerFrameFunctionalGroupsSequence):
        raise ValueError(f"{len(pixels)} frames")
    # dcmjs writes masks of 0 and 1 with a maximum of 255 when it compresses them
    fractional = dataset.get("SegmentationType") == "FRACTIONAL" and pixels.max(initial=0) > 1
    return pixels >= (0.5 * float(dataset.MaximumFractionalValue)) if fractional else pixels > 0


def _check_compressed(dataset: Dataset) -> None:
    """Refuse compressed frames that decode to more pixels than the header says."""
    rows, columns = dataset.Rows, dataset.Columns
    run_lengths = dataset.file_meta.TransferSyntaxUID == RLELossless
    frames = len(dataset.PerFrameFunctionalGroupsSequence)
    for frame in generate_frames(dataset.PixelData, number_of_frames=frames):
        if run_lengths and len(frame) > 2 * rows * columns + 128:  # RLE adds at most one byte in 128
            raise ValueError(f"a frame of {len(frame):,} bytes for {rows} x {columns} pixels")
        if not run_lengths:
            with Image.open(BytesIO(frame)) as image:
                if image.size != (columns, rows):
                    raise ValueError(f"a frame of {image.size}, not {columns} x {rows} pixels")
