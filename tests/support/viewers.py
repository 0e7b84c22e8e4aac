"""SEGs as viewers store them: dcmqi as 3D Slicer calls it, and what OHIF's dcmjs makes."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pydicom
from numpy.typing import NDArray
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, generate_uid

from lib.cases.case import Source
from lib.cases.formats.dicom import Series
from lib.cases.formats.image import Volume, read_volume, write_nifti

DCMQI = Path(sys.executable).parent


def slicer_seg(label: Volume, series: Series, *, names: dict[str, int], folder: Path) -> Dataset:
    """Values of the label named and numbered from 1 in their order, whatever they are."""
    folder.mkdir(parents=True, exist_ok=True)
    write_nifti(label, folder / "segments.nii.gz")
    tissue = {"CodeValue": "85756007", "CodingSchemeDesignator": "SCT", "CodeMeaning": "Tissue"}
    segments = [
        {
            "labelID": value,
            "SegmentLabel": name,
            "SegmentDescription": name,
            "SegmentAlgorithmType": "SEMIAUTOMATIC",
            "SegmentAlgorithmName": "Segment Editor",
            "SegmentedPropertyCategoryCodeSequence": tissue,
            "SegmentedPropertyTypeCodeSequence": tissue,
        }
        for name, value in names.items()
    ]
    meta = {
        "ContentCreatorName": "Reader^Slicer",
        "SeriesDescription": "Segmentation",
        "SeriesNumber": "300",
        "InstanceNumber": "1",
        "segmentAttributes": [segments],
    }
    (folder / "meta.json").write_text(json.dumps(meta))
    subprocess.run(
        [
            str(DCMQI / "itkimage2segimage"),
            *("--inputImageList", str(folder / "segments.nii.gz")),
            *("--inputDICOMDirectory", str(series.files[0].parent)),
            *("--inputMetadata", str(folder / "meta.json")),
            *("--outputDICOM", str(folder / "slicer.dcm")),
            "--noDicomValueChecks",  # the samples' StudyIDs are longer than DICOM allows
        ],
        check=True,
        capture_output=True,
        timeout=120,
    )
    return pydicom.dcmread(folder / "slicer.dcm")


def read_in_slicer(dataset: Dataset, folder: Path) -> dict[str, Volume]:
    """What Slicer makes of a SEG: the mask of each segment, on the grid of the SEG's own frames."""
    folder.mkdir(parents=True, exist_ok=True)
    dataset.save_as(folder / "seg.dcm", write_like_original=False)
    subprocess.run(
        [
            str(DCMQI / "segimage2itkimage"),
            *("--inputDICOM", str(folder / "seg.dcm")),
            *("--outputDirectory", str(folder)),
            *("--outputType", "nifti"),
        ],
        check=True,
        capture_output=True,
        timeout=120,
    )
    attributes = json.loads((folder / "meta.json").read_text())["segmentAttributes"]
    return {
        group[0]["SegmentLabel"]: read_volume(Source(folder / f"{number}.nii.gz"))
        for number, group in enumerate(attributes, start=1)
    }


def ohif_seg(masks: dict[str, NDArray[np.bool_]], series: Series) -> Dataset:
    """One segment a mask, frames only where it is painted, each on the slice that it was painted on."""
    headers = [pydicom.dcmread(path, stop_before_pixels=True) for path in series.files]
    frames = [
        (number, k, mask[k])
        for number, mask in enumerate(masks.values(), start=1)
        for k in np.flatnonzero(mask.any(axis=(1, 2)))
    ]
    seg = Dataset()
    seg.file_meta = FileMetaDataset()
    seg.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    seg.is_little_endian, seg.is_implicit_VR = True, False
    seg.SOPClassUID, seg.SOPInstanceUID = "1.2.840.10008.5.1.4.1.1.66.4", generate_uid()
    seg.StudyInstanceUID, seg.SeriesInstanceUID = series.study, generate_uid()
    seg.Modality, seg.SegmentationType = "SEG", "BINARY"
    seg.Rows, seg.Columns, seg.NumberOfFrames = *series.shape[1:], len(frames)
    seg.BitsAllocated = seg.BitsStored = seg.SamplesPerPixel = 1
    seg.HighBit = seg.PixelRepresentation = 0
    seg.PhotometricInterpretation = "MONOCHROME2"
    seg.Manufacturer = seg.ManufacturerModelName = "Unspecified"
    seg.ContentDate, seg.ContentTime = "20250304", "101112"
    seg.ReferencedSeriesSequence = [Dataset()]
    seg.ReferencedSeriesSequence[0].SeriesInstanceUID = series.uid
    shared = Dataset()
    shared.PlaneOrientationSequence, shared.PixelMeasuresSequence = [Dataset()], [Dataset()]
    shared.PlaneOrientationSequence[0].ImageOrientationPatient = headers[0].ImageOrientationPatient
    shared.PixelMeasuresSequence[0].PixelSpacing = headers[0].PixelSpacing
    seg.SharedFunctionalGroupsSequence = [shared]
    seg.SegmentSequence = [_ohif_segment(number, name) for number, name in enumerate(masks, start=1)]
    seg.PerFrameFunctionalGroupsSequence = [_ohif_frame(number, headers[k]) for number, k, _ in frames]
    packed = np.packbits(np.stack([mask for *_, mask in frames]).ravel(), bitorder="little").tobytes()
    seg.PixelData = packed + b"\0" * (len(packed) % 2)
    return seg


def _ohif_segment(number: int, name: str) -> Dataset:
    segment = Dataset()
    segment.SegmentNumber, segment.SegmentLabel = number, name
    segment.SegmentAlgorithmType, segment.SegmentAlgorithmName = "MANUAL", "OHIF Brush"
    return segment


def _ohif_frame(number: int, header: Dataset) -> Dataset:
    frame = Dataset()
    frame.PlanePositionSequence, frame.SegmentIdentificationSequence = [Dataset()], [Dataset()]
    frame.PlanePositionSequence[0].ImagePositionPatient = header.ImagePositionPatient
    frame.SegmentIdentificationSequence[0].ReferencedSegmentNumber = number
    return frame
