"""Checked header of one DICOM slice: every field has the expected type and range."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from pydicom.dataset import Dataset
from pydicom.multival import MultiValue
from pydicom.uid import UID

from lib.cases.case import CaseError
from lib.cases.formats.contrast import Contrast
from lib.cases.unexpected_errors import as_case_error

TAGS = (
    "SOPClassUID", "SOPInstanceUID", "Modality", "SeriesDescription", "SeriesInstanceUID", "StudyInstanceUID",
    "FrameOfReferenceUID", "PatientID", "Rows", "Columns", "NumberOfFrames", "PixelSpacing",
    "ImagePositionPatient", "ImageOrientationPatient", "StudyDate", "StudyTime", "BitsAllocated",
    "BitsStored", "HighBit", "PixelRepresentation", "SamplesPerPixel", "PhotometricInterpretation",
    "RescaleSlope", "RescaleIntercept", "RescaleType", "ModalityLUTSequence",
)  # fmt: skip
SLICE_SPACING_MM = (0.01, 50.0)  # of pixels and of slices; all scanners lie within
MAX_POSITION_MM = 1e5  # a scanner table travels metres, not a hundred metres
DIRECTION_TOLERANCE = 1e-3  # directions are rounded to text
MAX_SLOPE, MAX_INTERCEPT = 1e9, {"CT": 32768.0}
_OTHER_MAX_INTERCEPT = 1e9  # for other modalities
_SHARED_FIELDS = {  # fields that all slices of a series share, and their names in errors
    "patient": "PatientID",
    "study": "StudyInstanceUID",
    "frame_of_reference": "FrameOfReferenceUID",
    "modality": "Modality",
    "size": "size in pixels",
    "pixels": "kind of pixels",
    "rescaled": "rescaling",
    "units": "units",
}
_MEASURED = ("CT", "PT")  # their values have a unit, so a display from white to black does not change them
_OTHER_THAN_HU = ("OD", "MGML", "Z_EFF", "ED", "EDW", "HU_MOD", "PCT")  # RescaleType of maps made from a CT
_SPACING_TOLERANCE = 1e-3  # relative
_ORIENTATION_TOLERANCE = 1e-4


@dataclass(frozen=True)
class SliceHeader:
    """Header of a slice.

    Attributes:
        path: Path of the file.
        frame: Index of the slice in its file; None for a file of a single slice.
        instance: SOPInstanceUID of the file.
        patient: PatientID.
        study: StudyInstanceUID.
        frame_of_reference: FrameOfReferenceUID.
        modality: DICOM Modality.
        size: Rows and columns.
        pixels: Bits allocated, bits stored, sign, samples a pixel and photometric interpretation.
        spacing: Distance between rows and between columns in mm.
        position: Position of the first pixel in LPS mm.
        orientation: Unit vectors along a row and along a column in LPS.
        rescaled: Whether stored values are rescaled, and the unit after it.
        units: Units, decay correction and patient's weight, which give the meaning of PET values.
        scale: Slope and intercept: value = stored number x slope + intercept.
        as_itk_expects: Whether ITK is known to decode the file to these values.
        contrast: What may tell the volumes of one series apart.
    """

    path: Path
    frame: int | None
    instance: str
    patient: str
    study: str
    frame_of_reference: str
    modality: str
    size: tuple[int, int]
    pixels: tuple[int, int, int, int, str]
    spacing: tuple[float, ...]
    position: tuple[float, ...]
    orientation: tuple[float, ...]
    rescaled: tuple[bool, str]
    units: tuple[str, ...]
    scale: tuple[float, float]
    as_itk_expects: bool
    contrast: Contrast

    @classmethod
    def of(cls, path: Path, header: Dataset, series: str, *, frame: int | None = None) -> SliceHeader:
        """Check the header of a file, or of one of its frames; `series` is the name of its series in errors.

        Raises:
            CaseError: If a field is missing, has the wrong type or lies outside the range of scanners.
        """
        name = f"{_label(path, frame)} of {series}"
        with as_case_error(name):
            return _read(_Fields(header, name), path, frame)

    @property
    def label(self) -> str:
        """Name of the slice in errors."""
        return _label(self.path, self.frame)

    def check_same_series(self, first: SliceHeader, series: str) -> None:
        """Refuse a slice that differs from the first slice of its series.

        Raises:
            CaseError: If a field differs; the message names the field, the slice and both values.
        """
        for field, keyword in _SHARED_FIELDS.items():
            self._compare(first, series, keyword, getattr(self, field), getattr(first, field))
        close = {
            "PixelSpacing": np.allclose(self.spacing, first.spacing, rtol=_SPACING_TOLERANCE, atol=0.0),
            "ImageOrientationPatient": np.allclose(
                self.orientation, first.orientation, atol=_ORIENTATION_TOLERANCE
            ),
        }
        own = {"PixelSpacing": self.spacing, "ImageOrientationPatient": self.orientation}
        others = {"PixelSpacing": first.spacing, "ImageOrientationPatient": first.orientation}
        for keyword in (keyword for keyword, alike in close.items() if not alike):
            self._compare(first, series, keyword, own[keyword], others[keyword])

    def _compare(self, first: SliceHeader, series: str, keyword: str, own: Any, other: Any) -> None:
        if own != other:
            raise CaseError(
                f"{self.label} must have the {keyword} of the other slices of {series}; it has "
                f"{_shown(own)}, {first.label} has {_shown(other)} (a localizer, or another patient's?). "
                "Make each image a series of its own."
            )


@dataclass(frozen=True)
class _Fields:
    """Typed access to the fields of a header; a wrong type or range is refused."""

    header: Dataset
    name: str

    def text(self, keyword: str) -> str:
        value = self.header.get(keyword)
        if isinstance(value, (MultiValue, list, tuple, bytes, dict)) or hasattr(value, "walk"):
            self.refuse(keyword, "be one text", value)
        return "" if value is None else str(value).strip().rstrip("\0")

    def numbers(self, keyword: str, count: int, least: float, most: float) -> tuple[float, ...]:
        value = self.header.get(keyword)
        several = value if isinstance(value, (MultiValue, list)) else [value]
        try:
            numbers = tuple(float(number) for number in several)
        except (TypeError, ValueError, OverflowError):
            numbers = ()
        if len(numbers) != count or not all(least <= number <= most for number in numbers):
            kind = "a number" if count == 1 else f"{count} numbers"
            self.refuse(keyword, f"be {kind} from {least:g} to {most:g}", value)
        return numbers

    def number(self, keyword: str, least: int, most: int) -> int:
        (value,) = self.numbers(keyword, 1, least, most)
        if value != int(value):
            self.refuse(keyword, "be a whole number", value)
        return int(value)

    def refuse(self, keyword: str, what: str, value: object) -> None:
        raise CaseError(f"{keyword} of {self.name} must {what}; got {_shown(value)}. Export it again.")


def _label(path: Path, frame: int | None) -> str:
    return path.name if frame is None else f"frame {frame + 1} of {path.name}"


def _read(fields: _Fields, path: Path, frame: int | None) -> SliceHeader:
    header = fields.header
    places = ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing")
    if missing := [keyword for keyword in places if not header.get(keyword)]:
        raise CaseError(
            f"{fields.name} must have a position in space; its header has no {', '.join(missing)}. Export "
            "the original series, not a secondary capture."
        )
    modality = fields.text("Modality")
    size = (fields.number("Rows", 1, 65535), fields.number("Columns", 1, 65535))
    pixels = _pixels(fields, modality)
    _check_length(fields, path, size[0] * size[1] * int(pixels[0]) // 8 * _frames(fields))
    rescaled, scale = _rescaled(fields, modality)
    return SliceHeader(
        path=path,
        frame=frame,
        instance=fields.text("SOPInstanceUID"),
        patient=fields.text("PatientID"),
        study=fields.text("StudyInstanceUID"),
        frame_of_reference=fields.text("FrameOfReferenceUID"),
        modality=modality,
        size=size,
        pixels=pixels,
        spacing=fields.numbers("PixelSpacing", 2, *SLICE_SPACING_MM),
        position=fields.numbers("ImagePositionPatient", 3, -MAX_POSITION_MM, MAX_POSITION_MM),
        orientation=_orientation(fields),
        rescaled=rescaled,
        units=tuple(fields.text(keyword) for keyword in ("Units", "DecayCorrection", "PatientWeight")),
        scale=scale,
        as_itk_expects=frame is None and _as_itk_expects(header, pixels),
        contrast=Contrast.of(header),
    )


def _frames(fields: _Fields) -> int:
    return 1 if not fields.header.get("NumberOfFrames") else fields.number("NumberOfFrames", 1, 10**9)


def _as_itk_expects(header: Dataset, pixels: tuple[int, int, int, int, str]) -> bool:
    """Whether ITK decodes a file; it reads few files of old, and inverts MONOCHROME1."""
    return (
        getattr(header, "preamble", None) is not None
        and "MediaStorageSOPClassUID" in header.file_meta
        and UID(str(header.get("SOPClassUID") or "")).type == "SOP Class"
        and header.get("HighBit", pixels[1] - 1) == pixels[1] - 1
        and pixels[-1] == "MONOCHROME2"
    )


def _pixels(fields: _Fields, modality: str) -> tuple[int, int, int, int, str]:
    """Bits allocated, bits stored, sign, samples and photometric interpretation of a grey image."""
    allocated = fields.number("BitsAllocated", 8, 32)
    photometric = fields.text("PhotometricInterpretation")
    samples = fields.header.get("SamplesPerPixel", 1)
    if photometric == "PALETTE COLOR" or samples != 1:
        raise CaseError(
            f"{fields.name} must hold one grey value a pixel; its header says {photometric[:16]} and "
            f"{_shown(samples)} samples a pixel (colours). Export the original series, not a picture of it."
        )
    if allocated % 8 or not photometric.startswith("MONOCHROME"):
        raise CaseError(
            f"{fields.name} must be a grey image of 8, 16 or 32 bits a pixel; it has {allocated} bits, "
            f"{photometric[:16] or 'no PhotometricInterpretation'}. Export the original series."
        )
    if photometric != "MONOCHROME2" and modality not in _MEASURED:
        raise CaseError(
            f"{fields.name} must show large values bright (MONOCHROME2); it is {photometric[:16]}, which "
            "shows them dark. Export the original series."
        )
    return (
        allocated,
        fields.number("BitsStored", 1, allocated),
        fields.number("PixelRepresentation", 0, 1),
        fields.number("SamplesPerPixel", 1, 1),
        photometric,
    )


def _check_length(fields: _Fields, path: Path, pixel_bytes: int) -> None:
    """Refuse a file that is shorter than its pixels, unless it is compressed."""
    syntax = fields.header.file_meta.get("TransferSyntaxUID")
    if syntax is not None and not syntax.is_compressed and path.stat().st_size < pixel_bytes:
        raise CaseError(
            f"{fields.name} must be whole; its header says {pixel_bytes:,} bytes of pixels, the file has "
            f"{path.stat().st_size:,}. Copy or export it again."
        )


def _orientation(fields: _Fields) -> tuple[float, ...]:
    """Six numbers: two unit vectors at a right angle."""
    values = fields.numbers(
        "ImageOrientationPatient", 6, -1.0 - DIRECTION_TOLERANCE, 1.0 + DIRECTION_TOLERANCE
    )
    row, column = np.reshape(values, (2, 3))
    if max(abs(row @ row - 1.0), abs(column @ column - 1.0), abs(row @ column)) > 2.0 * DIRECTION_TOLERANCE:
        fields.refuse("ImageOrientationPatient", "be two unit vectors at a right angle", values)
    return values


def _rescaled(fields: _Fields, modality: str) -> tuple[tuple[bool, str], tuple[float, float]]:
    """Whether values are rescaled and RescaleType; slope and intercept, which may differ between slices."""
    if fields.header.get("ModalityLUTSequence"):
        raise CaseError(
            f"{fields.name} must give its values by RescaleSlope and RescaleIntercept; it has a table "
            "instead (Modality LUT Sequence). Export the original series."
        )
    kind = fields.text("RescaleType")
    if modality == "CT" and kind in _OTHER_THAN_HU:
        raise CaseError(
            f"{fields.name} must be in HU; its values are {kind} (a map made from a CT?). Leave it out, or "
            "export the CT itself."
        )
    if all(fields.header.get(keyword) is None for keyword in ("RescaleSlope", "RescaleIntercept")):
        return (False, kind), (1.0, 0.0)
    most = MAX_INTERCEPT.get(modality, _OTHER_MAX_INTERCEPT)
    (slope,) = fields.numbers("RescaleSlope", 1, 0.0, MAX_SLOPE)
    if slope == 0.0:
        fields.refuse("RescaleSlope", "be more than 0", slope)
    (intercept,) = fields.numbers("RescaleIntercept", 1, -most, most)
    return (True, kind), (slope, intercept)


def _shown(value: object) -> str:
    """Short text of a value for an error, without control characters."""
    if isinstance(value, tuple):
        return " / ".join(_shown(each) for each in value)
    if isinstance(value, float):
        return f"{value:g}" if math.isfinite(value) else str(value)
    text = "nothing" if value is None or value == "" else str(value)
    return "".join(letter if letter.isprintable() else "?" for letter in text[:60])
