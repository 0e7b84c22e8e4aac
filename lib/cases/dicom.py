"""Series of DICOM slices: which files, in which order, where in space, in which unit."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from pathlib import Path

import numpy as np
import pydicom
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.errors import InvalidDicomError

from lib.cases.case import CaseError, Source

TILT_MM = 0.5  # the last slice may lie this far beside the first one's normal

_TAGS = [
    "Modality",
    "SeriesDescription",
    "SeriesInstanceUID",
    "StudyInstanceUID",
    "FrameOfReferenceUID",
    "PatientID",
    "PatientWeight",
    "Rows",
    "Columns",
    "NumberOfFrames",
    "PixelSpacing",
    "ImagePositionPatient",
    "ImageOrientationPatient",
    "InstanceNumber",
    "Units",
    "DecayCorrection",
    "SeriesDate",
    "SeriesTime",
    "AcquisitionDate",
    "AcquisitionTime",
    "RadiopharmaceuticalInformationSequence",
    "StudyDate",
    "StudyTime",
]


@dataclass(frozen=True, eq=False)
class Series:
    """One 3-D series.

    Attributes:
        files: Slices in the order of their position along the slice normal.
        shape: (D, H, W).
        affine_lps: (4, 4), maps (i along W, j along H, k along D, 1) to LPS mm.
        suv_factor: Decoded value x factor = SUV by body weight; 1 for other modalities.
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


def read_series(folder: Path, uid: str | None = None) -> Series:
    """The series in a folder; `uid` names one where there are several.

    Raises:
        CaseError: If there is none or more than one, or its slices do not make a volume.
    """
    headers = list_series(folder)
    if uid is None and len(headers) == 1:
        uid = next(iter(headers))
    if uid not in headers:
        raise CaseError(
            f"{folder} must hold one DICOM series; found {len(headers)}"
            f"{' without ' + uid if uid else ''}. Put each series in a folder of its own."
        )
    return _assemble(folder, dict(headers[uid]))


def list_series(folder: Path) -> dict[str, tuple[tuple[Path, Dataset], ...]]:
    """Headers of every DICOM image in a folder (not below it), grouped by SeriesInstanceUID."""
    return _headers(folder, Source(folder).stamp())


@lru_cache(maxsize=64)
def _headers(folder: Path, _stamp: str) -> dict[str, tuple[tuple[Path, Dataset], ...]]:
    series: dict[str, list[tuple[Path, Dataset]]] = defaultdict(list)
    for path in sorted(folder.iterdir()):
        if not path.is_file() or path.name.startswith(".") or path.name.upper() == "DICOMDIR":
            continue
        try:
            header = pydicom.dcmread(path, stop_before_pixels=True, specific_tags=_TAGS)
        except (InvalidDicomError, OSError, ValueError):
            continue
        if "Rows" in header and "SeriesInstanceUID" in header:
            series[str(header.SeriesInstanceUID)].append((path, header))
    return {uid: tuple(slices) for uid, slices in series.items()}


def _assemble(folder: Path, slices: dict[Path, Dataset]) -> Series:
    first = next(iter(slices.values()))
    name = _name(folder, first)
    _check_alike(name, slices)
    row, column = np.reshape(np.asarray(first.ImageOrientationPatient, dtype=float), (2, 3))
    normal = np.cross(row, column)
    order = sorted(slices, key=lambda path: float(np.dot(normal, slices[path].ImagePositionPatient)))
    positions = np.array([slices[path].ImagePositionPatient for path in order], dtype=float)
    _check_tilt(name, positions, normal)
    gaps = np.diff(positions @ normal)
    step = float(np.median(gaps))
    if step <= 1e-3 or np.abs(gaps - step).max() > max(0.1 * step, 0.05):
        worst = int(np.abs(gaps - step).argmax())
        raise CaseError(
            f"{name} must have evenly spaced slices ({step:.2f} mm); between {order[worst].name} and "
            f"{order[worst + 1].name} there are {gaps[worst]:.2f} mm. A slice is missing or double: "
            "send or export the series again."
        )
    affine = np.eye(4)
    affine[:3, 0] = row * float(first.PixelSpacing[1])
    affine[:3, 1] = column * float(first.PixelSpacing[0])
    affine[:3, 2] = normal * ((positions[-1] - positions[0]) @ normal / (len(order) - 1))
    affine[:3, 3] = positions[0]
    return Series(
        uid=str(first.SeriesInstanceUID),
        study=str(first.get("StudyInstanceUID", "")),
        frame_of_reference=str(first.get("FrameOfReferenceUID", "")),
        patient=str(first.get("PatientID", "")),
        modality=str(first.get("Modality", "")),
        description=str(first.get("SeriesDescription", "")),
        files=tuple(order),
        shape=(len(order), int(first.Rows), int(first.Columns)),
        affine_lps=affine,
        suv_factor=suv_factor(first, name),
    )


def _name(folder: Path, header: Dataset) -> str:
    """A series as an error names it."""
    return (
        f"series {header.SeriesInstanceUID} ({header.get('Modality', '')} "
        f"'{header.get('SeriesDescription', '')}') in {folder}"
    )


def _check_alike(name: str, slices: dict[Path, Dataset]) -> None:
    """Refuse what cannot be stacked: several frames a file, one slice, no place, several sizes or ways."""
    frames = max(int(header.get("NumberOfFrames") or 1) for header in slices.values())
    if frames > 1:
        raise CaseError(
            f"{name} must have one slice a file; a file of it has {frames} frames. Export it as single "
            "frames, not enhanced (multi-frame)."
        )
    if len(slices) < 2:
        raise CaseError(
            f"{name} must hold at least two slices; found {len(slices)}. Export the whole series."
        )
    first = next(iter(slices.values()))
    for path, header in slices.items():
        places = ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing")
        if missing := [tag for tag in places if not header.get(tag)]:
            raise CaseError(
                f"{path.name} of {name} must say where it lies; it has no {', '.join(missing)}. Export "
                "the original series, not a secondary capture."
            )
        same = (header.Rows, header.Columns) == (first.Rows, first.Columns) and np.allclose(
            header.ImageOrientationPatient, first.ImageOrientationPatient, atol=1e-4
        )
        if not same:
            raise CaseError(
                f"{path.name} must have the size and orientation of the other slices of {name}; it "
                "differs (a localizer?). Make each orientation a series of its own."
            )


def _check_tilt(name: str, positions: NDArray[np.float64], normal: NDArray[np.float64]) -> None:
    """Refuse slices that are not stacked along their normal: no viewer's file format holds such a grid."""
    way = positions[-1] - positions[0]
    sideways = float(np.linalg.norm(way - (way @ normal) * normal))
    if sideways > TILT_MM:
        degrees = np.degrees(np.arctan2(sideways, abs(way @ normal)))
        raise CaseError(
            f"{name} must have its slices stacked at a right angle; they are tilted by {degrees:.1f} "
            "degrees (gantry tilt). Resample the series to a straight volume first."
        )


def suv_factor(header: Dataset, name: str) -> float:
    """Factor from a PET series' decoded values to SUV by body weight (g/ml).

    SUV = activity [Bq/ml] x weight [g] / injected dose decayed to the series' reference time [Bq]; the
    dose is not decayed where the images are corrected to the injection (DecayCorrection ADMIN).

    Raises:
        CaseError: If the header lacks what the formula needs.
    """
    if header.get("Modality") != "PT" or header.get("Units") == "GML":
        return 1.0
    if header.get("Units") != "BQML":
        raise CaseError(
            f"{name} must be a PET series in BQML or GML; got {header.get('Units')!r}. "
            "Reconstruct or convert it to SUV."
        )
    try:
        tracer = header.RadiopharmaceuticalInformationSequence[0]
        dose, weight = float(tracer.RadionuclideTotalDose), float(header.PatientWeight) * 1000.0
        if header.DecayCorrection != "ADMIN":
            injected = _time(tracer.RadiopharmaceuticalStartTime)
            delay = (_time(header.SeriesTime) - injected).total_seconds() % 86400.0
            dose *= 0.5 ** (delay / float(tracer.RadionuclideHalfLife))
        if dose <= 0 or weight <= 0:
            raise ValueError(f"dose {dose}, weight {weight}")
    except (AttributeError, IndexError, TypeError, ValueError) as err:
        raise CaseError(
            f"{name} must carry weight, injected dose and times to compute SUV; {err}. "
            "Export the PET with its radiopharmaceutical information."
        ) from err
    return weight / dose


def _time(value: str) -> datetime:
    return datetime.strptime(str(value).split(".")[0].ljust(6, "0"), "%H%M%S")
