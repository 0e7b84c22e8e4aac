"""Series of DICOM slices: their files, order, position in space and unit."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset, FileDataset

from lib.cases.case import CaseError, Source
from lib.cases.formats import acquisition, suv
from lib.cases.formats.acquisition import UNSAID, Acquisition
from lib.cases.formats.dicom_file import NoDicom, read_header
from lib.cases.formats.slice_header import SLICE_SPACING_MM, SliceHeader
from lib.cases.formats.suv import suv_factor
from lib.cases.unexpected_errors import as_case_error
from lib.runtime.errors import UserError

TILT_MM = 0.5  # largest distance of the last slice from the normal through the first

_TAGS = [
    "Modality",
    "SeriesDescription",
    "SeriesInstanceUID",
    "StudyInstanceUID",
    "FrameOfReferenceUID",
    "PatientID",
    "Rows",
    "Columns",
    "NumberOfFrames",
    "PixelSpacing",
    "ImagePositionPatient",
    "ImageOrientationPatient",
    "InstanceNumber",
    "StudyDate",
    "StudyTime",
    "BitsAllocated",
    "BitsStored",
    "PixelRepresentation",
    "SamplesPerPixel",
    "PhotometricInterpretation",
    "RescaleSlope",
    "RescaleIntercept",
    "RescaleType",
    *acquisition.TAGS,
    *suv.TAGS,
]
_DICOM_SUFFIXES = (".dcm", ".dicom", ".ima")  # a file with such a suffix must be a slice
_UID_LENGTH = 64
Headers = tuple[tuple[Path, FileDataset], ...]


@dataclass(frozen=True, eq=False)
class Series:
    """One 3-D series.

    Attributes:
        uid: SeriesInstanceUID.
        study: StudyInstanceUID.
        frame_of_reference: FrameOfReferenceUID.
        patient: PatientID.
        modality: DICOM Modality.
        description: SeriesDescription.
        files: Slices in the order of their position along the slice normal.
        shape: Shape (D, H, W).
        affine_lps: Maps (i along W, j along H, k along D, 1) to LPS mm, shape (4, 4).
        suv_factor: Decoded value x factor = SUV by body weight; 1 for other modalities.
        made: What the first slice's header says of how the series was made.
    """

    uid: str
    study: str
    frame_of_reference: str
    patient: str
    modality: str
    description: str
    files: tuple[Path, ...]
    shape: tuple[int, int, int]
    affine_lps: NDArray[np.float64]
    suv_factor: float
    made: Acquisition = UNSAID


def read_series(folder: Path, uid: str | None = None) -> Series:
    """Series in a folder; `uid` selects one if there are several.

    Raises:
        CaseError: If the folder has no series or several, a file is damaged, or the slices do not form a
            volume.
    """
    headers = list_series(folder)
    if uid is None and len(headers) == 1:
        uid = next(iter(headers))
    if uid not in headers:
        raise CaseError(
            f"{folder} must hold one DICOM series; found {len(headers)}"
            f"{' without ' + uid if uid else ''}. Put each series in a folder of its own."
        )
    with as_case_error(f"series {uid} in {folder}"):
        return _assemble(folder, uid, headers[uid])


def list_series(folder: Path) -> dict[str, Headers]:
    """Headers of every DICOM image in a folder (not below it), grouped by SeriesInstanceUID.

    Raises:
        CaseError: If the folder or a DICOM file in it cannot be read; the file may be a slice of any series.
    """
    with as_case_error(str(folder)):
        return _headers(folder, Source(folder).stamp())


@lru_cache(maxsize=64)
def _headers(folder: Path, _stamp: str) -> dict[str, Headers]:
    series: dict[str, list[tuple[Path, FileDataset]]] = defaultdict(list)
    for path in sorted(folder.iterdir()):
        if not path.is_file() or path.name.startswith(".") or path.name.upper() == "DICOMDIR":
            continue
        try:
            with as_case_error(path.name):
                header = read_header(path, tags=_TAGS)
                if uid := _uid_of(header, path):
                    series[uid].append((path, header))
        except NoDicom as err:
            if path.suffix.lower() in _DICOM_SUFFIXES:
                raise _damaged(folder, err) from err
        except UserError as err:
            raise _damaged(folder, err) from err
    return {uid: tuple(s) for uid, s in series.items() if any("Rows" in header for _, header in s)}


def _uid_of(header: FileDataset, path: Path) -> str:
    """SeriesInstanceUID; may be empty for a file that is not an image."""
    value = header.get("SeriesInstanceUID")
    uid = value.strip() if isinstance(value, str) else ""
    if "Rows" in header and not (0 < len(uid) <= _UID_LENGTH and uid.isprintable() and " " not in uid):
        raise CaseError(f"{path.name} must name its series; got {str(value)[:_UID_LENGTH]!r}.")
    return uid


def _damaged(folder: Path, err: UserError) -> CaseError:
    return CaseError(
        f"every DICOM file in {folder} must be readable, as it may be a slice of any series there. {err} "
        "Copy or export the folder again."
    )


def _assemble(folder: Path, uid: str, headers: Headers) -> Series:
    first = headers[0][1]
    name = _name(folder, uid, first)
    _check_stack(name, headers)
    slices = [SliceHeader.of(path, header, name) for path, header in headers]
    for other in slices[1:]:
        other.check_same_series(slices[0], name)
    row, column = np.reshape(slices[0].orientation, (2, 3))
    normal = np.cross(row, column)
    slices.sort(key=lambda each: float(np.dot(normal, each.position)))
    positions = np.array([each.position for each in slices])
    _check_tilt(name, positions, normal)
    _check_steps(name, slices, positions @ normal)
    affine = np.eye(4)
    affine[:3, 0] = row * slices[0].spacing[1]
    affine[:3, 1] = column * slices[0].spacing[0]
    affine[:3, 2] = normal * ((positions[-1] - positions[0]) @ normal / (len(slices) - 1))
    affine[:3, 3] = positions[0]
    return Series(
        uid=uid,
        study=slices[0].study,
        frame_of_reference=slices[0].frame_of_reference,
        patient=slices[0].patient,
        modality=slices[0].modality,
        description=str(first.get("SeriesDescription", "")),
        files=tuple(each.path for each in slices),
        shape=(len(slices), *slices[0].size),
        affine_lps=affine,
        suv_factor=suv_factor([header for _, header in headers], name),
        made=Acquisition.of(first),
    )


def _name(folder: Path, uid: str, header: Dataset) -> str:
    """Name of a series in error messages."""
    modality, description = (
        str(header.get(keyword, ""))[:_UID_LENGTH] for keyword in ("Modality", "SeriesDescription")
    )
    return f"series {uid} ({modality} '{description}') in {folder}"


def _check_stack(name: str, headers: Headers) -> None:
    """Refuse files that form no stack of slices: no images, several frames a file, or a single slice."""
    for path, header in headers:
        if "Rows" not in header:
            raise CaseError(
                f"{path.name} of {name} must be an image; its header has no Rows. Export it again."
            )
        frames = header.get("NumberOfFrames") or 1
        if int(frames) != 1:
            raise CaseError(
                f"{name} must have one slice a file; a file of it has {int(frames)} frames. Export it as "
                "single frames, not enhanced (multi-frame)."
            )
    if len(headers) < 2:
        raise CaseError(
            f"{name} must hold at least two slices; found {len(headers)}. Export the whole series."
        )


def _check_steps(name: str, slices: Sequence[SliceHeader], along: NDArray[np.float64]) -> None:
    """Refuse uneven spacing: a slice is missing, duplicated or misplaced."""
    gaps = np.diff(along)
    step = float(np.median(gaps))
    if step <= 1e-3 or np.abs(gaps - step).max() > max(0.1 * step, 0.05):
        worst = int(np.abs(gaps - step).argmax())
        raise CaseError(
            f"{name} must have evenly spaced slices ({step:.2f} mm); between {slices[worst].path.name} and "
            f"{slices[worst + 1].path.name} there are {gaps[worst]:.2f} mm. A slice is missing or "
            "duplicated. Send or export the series again."
        )
    if step > SLICE_SPACING_MM[1]:
        raise CaseError(
            f"{name} must have slices at most {SLICE_SPACING_MM[1]:g} mm apart; they are {step:.2f} mm "
            "apart. Export the whole series."
        )


def _check_tilt(name: str, positions: NDArray[np.float64], normal: NDArray[np.float64]) -> None:
    """Refuse slices that are not stacked along their normal; no viewer's file format holds such a grid."""
    way = positions[-1] - positions[0]
    sideways = float(np.linalg.norm(way - (way @ normal) * normal))
    if sideways > TILT_MM:
        degrees = np.degrees(np.arctan2(sideways, abs(way @ normal)))
        raise CaseError(
            f"{name} must have its slices stacked at a right angle; they are tilted by {degrees:.1f} "
            "degrees (gantry tilt). Resample the series to a straight volume first."
        )
