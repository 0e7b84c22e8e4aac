"""Small enhanced (multi-frame) objects on disk."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pydicom
from numpy.typing import NDArray
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import UID, ExplicitVRLittleEndian, generate_uid

from lib.cases.formats.pydicom_versions import WHOLE_FILE

ENHANCED = {
    "MR": "1.2.840.10008.5.1.4.1.1.4.1",
    "CT": "1.2.840.10008.5.1.4.1.1.2.1",
    "PT": "1.2.840.10008.5.1.4.1.1.130",
}
ROWS, COLUMNS = 5, 6


@dataclass(frozen=True)
class Frame:
    """A frame whose pixels are all one stored number.

    Attributes:
        z: Position in mm.
        stored: Stored number.
        slope: RescaleSlope.
        intercept: RescaleIntercept.
        groups: Further functional groups: keyword of the group to its attributes.
    """

    z: float
    stored: int = 0
    slope: float = 1.0
    intercept: float = 0.0
    groups: dict[str, dict[str, object]] = field(default_factory=dict)


def item(**attributes: object) -> Dataset:
    """Item of a sequence."""
    made = Dataset()
    for keyword, value in attributes.items():
        setattr(made, keyword, value)
    return made


def write_enhanced(
    path: Path,
    frames: Sequence[Frame],
    *,
    modality: str = "MR",
    shared: dict[str, dict[str, object]] | None = None,
    geometry: str = "shared",
    kind: str = "",
    pixels: NDArray[np.generic] | None = None,
    spacing: Sequence[float] = (1.5, 1.0),
    **tags: object,
) -> str:
    """Write one object; its SeriesInstanceUID is returned.

    Args:
        path: Path of the file; made along with its folder.
        frames: Frames in the order of the file.
        modality: DICOM Modality.
        shared: Functional groups that all frames share.
        geometry: `shared`, or `per frame` as Philips writes it.
        kind: SOP class; that of the modality by default.
        pixels: Stored numbers, shape (frames, rows, columns); by default those of the frames.
        spacing: PixelSpacing.
        tags: Further attributes of the object.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    header, uid = Dataset(), generate_uid()
    header.file_meta = FileMetaDataset()
    header.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    header.file_meta.MediaStorageSOPClassUID = header.SOPClassUID = UID(kind or ENHANCED[modality])
    header.file_meta.MediaStorageSOPInstanceUID = header.SOPInstanceUID = generate_uid()
    header.Modality, header.SeriesDescription, header.PatientID = modality, "AX T1", "p"
    header.StudyInstanceUID, header.SeriesInstanceUID, header.FrameOfReferenceUID = "1.2", uid, "1.2.3"
    header.Rows, header.Columns, header.NumberOfFrames = ROWS, COLUMNS, len(frames)
    header.BitsAllocated = header.BitsStored = 16
    header.HighBit, header.PixelRepresentation, header.SamplesPerPixel = 15, 0, 1
    header.PhotometricInterpretation = "MONOCHROME2"
    if pixels is None:
        pixels = np.array([np.full((ROWS, COLUMNS), frame.stored) for frame in frames])
    header.PixelData = pixels.astype("<u2").tobytes()
    place = {
        "PixelMeasuresSequence": {"PixelSpacing": list(spacing), "SliceThickness": 2.0},
        "PlaneOrientationSequence": {"ImageOrientationPatient": [1, 0, 0, 0, 1, 0]},
    }
    common = place if geometry == "shared" else {}
    header.SharedFunctionalGroupsSequence = [_groups({**common, **(shared or {})})]
    header.PerFrameFunctionalGroupsSequence = [
        _groups({**({} if common else place), **_own(frame), **frame.groups}) for frame in frames
    ]
    for keyword, value in tags.items():
        setattr(header, keyword, value)
    header.is_little_endian, header.is_implicit_VR = True, False
    pydicom.dcmwrite(path, header, **WHOLE_FILE)
    return uid


def _own(frame: Frame) -> dict[str, dict[str, object]]:
    return {
        "PlanePositionSequence": {"ImagePositionPatient": [0.0, 0.0, frame.z]},
        "PixelValueTransformationSequence": {
            "RescaleSlope": frame.slope,
            "RescaleIntercept": frame.intercept,
            "RescaleType": "US",
        },
    }


def _groups(groups: dict[str, dict[str, object]]) -> Dataset:
    return item(**{name: [item(**attributes)] for name, attributes in groups.items()})
