"""Frames of an enhanced (multi-frame) object as headers of single slices."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path

from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset, FileDataset
from pydicom.tag import BaseTag, Tag
from pydicom.uid import UID

from lib.cases.case import CaseError, Source
from lib.cases.formats.dicom_file import read_frames_header

TAGS = (
    "AcquisitionDateTime",
    "DecayCorrected",
)
_PER_FRAME, _SHARED = "PerFrameFunctionalGroupsSequence", "SharedFunctionalGroupsSequence"
_REAL_WORLD = "RealWorldValueMappingSequence"
_CONVERTED = ("UnassignedSharedConvertedAttributesSequence", "UnassignedPerFrameConvertedAttributesSequence")
_DIFFUSION = "MRDiffusionSequence"
_FRAME_TYPES = {  # attributes of each kind of image, and their names in the header of a single slice
    "FrameType": "ImageType",
    "ComplexImageComponent": "ComplexImageComponent",
    "AcquisitionContrast": "AcquisitionContrast",
}
_GROUPS: dict[str, Mapping[str, str]] = {
    "PlanePositionSequence": {"ImagePositionPatient": "ImagePositionPatient"},
    "PlaneOrientationSequence": {"ImageOrientationPatient": "ImageOrientationPatient"},
    "PixelMeasuresSequence": {"PixelSpacing": "PixelSpacing"},
    "PixelValueTransformationSequence": {
        keyword: keyword for keyword in ("RescaleSlope", "RescaleIntercept", "RescaleType")
    },
    "FrameContentSequence": {
        keyword: keyword for keyword in ("TemporalPositionIndex", "FrameAcquisitionDateTime", "StackID")
    },
    "MREchoSequence": {"EffectiveEchoTime": "EchoTime"},
    _DIFFUSION: {"DiffusionBValue": "DiffusionBValue"},
    "MRModifierSequence": {"InversionTimes": "InversionTime"},
    "MRImageFrameTypeSequence": _FRAME_TYPES,
    "CTImageFrameTypeSequence": _FRAME_TYPES,
    "PETFrameTypeSequence": _FRAME_TYPES,
    "CardiacSynchronizationSequence": {"NominalCardiacTriggerDelayTime": "TriggerTime"},
    "ContrastBolusUsageSequence": {
        keyword: keyword for keyword in ("ContrastBolusAgentAdministered", "ContrastBolusAgentPhase")
    },
}
_OWN_PLACE = ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing")  # only a frame's own counts
_ACTIVITY = {"Bq/ml": "BQML", "{SUVbw}g/ml": "GML", "g/ml{SUVbw}": "GML"}  # UCUM: Units of a PET slice


def has_frames(header: Dataset) -> bool:
    """Whether the places of an object's pixels stand in functional groups, or are missing."""
    kind = UID(str(header.get("SOPClassUID") or "")).name
    return "Enhanced" in kind or int(header.get("NumberOfFrames") or 1) != 1


def frames_of(path: Path, tags: tuple[str | int, ...], name: str) -> tuple[Dataset, ...]:
    """Header of each frame of a multi-frame object, with the keywords of a single slice.

    Legacy converted objects keep the attributes of the slices that they were made of.

    Args:
        path: Path of the file.
        tags: Elements wanted besides the functional groups.
        name: Name of the series in errors.

    Raises:
        CaseError: If the file cannot be read, or its frames have no place of their own.
    """
    return _frames_of(path, Source(path).stamp(), tags, name)


@lru_cache(maxsize=8)
def _frames_of(path: Path, _stamp: str, tags: tuple[str | int, ...], name: str) -> tuple[Dataset, ...]:
    whole = read_frames_header(path, tags=[*tags, _SHARED, _PER_FRAME])
    said, own = int(whole.get("NumberOfFrames") or 1), whole.get(_PER_FRAME) or ()
    if said != len(own):
        raise CaseError(
            f"{name} must give every frame its place; {path.name} has {said:,} frames, of which {len(own):,} "
            "have a position in space. Export it as single frames, or as enhanced CT, MR or PET."
        )
    shared = (whole.get(_SHARED) or [Dataset()])[0]
    elements = {
        element.tag: element for element in whole if element.keyword not in (_PER_FRAME, _SHARED, *_OWN_PLACE)
    }
    converted = {Tag(tag) for tag in tags}
    return tuple(_slice(elements, whole, shared, frame, converted) for frame in own)


def _slice(
    elements: Mapping[BaseTag, DataElement],
    whole: FileDataset,
    shared: Dataset,
    frame: Dataset,
    converted: set[BaseTag],
) -> Dataset:
    """Header of one frame; elements that frames share are the same objects."""
    header = Dataset(dict(elements))
    header.file_meta, header.preamble = whole.file_meta, whole.preamble
    for group in _CONVERTED:
        for item in (*_items(shared, group), *_items(frame, group)):
            for tag in item.keys() & converted - header.keys():
                header.add(item[tag])
    for group, names in _GROUPS.items():
        for item in (*_items(shared, group)[:1], *_items(frame, group)[:1]):
            for keyword in names:
                if keyword in item:
                    setattr(header, names[keyword], item[keyword].value)
    for diffusion in (*_items(shared, _DIFFUSION), *_items(frame, _DIFFUSION)):
        for direction in _items(diffusion, "DiffusionGradientDirectionSequence"):
            header.DiffusionGradientOrientation = direction.get("DiffusionGradientOrientation")
    _add_times(header)
    if header.get("Modality") == "PT":
        _add_units(header, (*_items(shared, _REAL_WORLD), *_items(frame, _REAL_WORLD)))
    return header


def _items(dataset: Dataset, keyword: str) -> tuple[Dataset, ...]:
    return tuple(dataset.get(keyword) or ())


def _add_times(header: Dataset) -> None:
    """AcquisitionDate and AcquisitionTime, which enhanced objects give as one text."""
    moment = str(header.get("FrameAcquisitionDateTime") or header.get("AcquisitionDateTime") or "")
    if len(moment) > len("YYYYMMDDHH"):
        header.AcquisitionDate, header.AcquisitionTime = moment[:8], moment[8:].split("+")[0].split("-")[0]


def _add_units(header: Dataset, mappings: tuple[Dataset, ...]) -> None:
    """Units and DecayCorrection of an enhanced PET, if its real-world values are the rescaled ones."""
    if "Units" not in header:
        for mapping in mappings:
            codes = _items(mapping, "MeasurementUnitsCodeSequence")
            unit = _ACTIVITY.get(str(codes[0].get("CodeValue"))) if codes else None
            if unit and _is_rescaled_alike(header, mapping):
                header.Units = unit
    if "DecayCorrection" not in header and header.get("DecayCorrected") == "YES":
        header.DecayCorrection = "START" if header.get("DecayCorrectionDateTime") else ""


def _is_rescaled_alike(header: Dataset, mapping: Dataset) -> bool:
    pairs = (("RescaleSlope", "RealWorldValueSlope"), ("RescaleIntercept", "RealWorldValueIntercept"))
    return all(
        abs(float(header.get(ours, 0.0)) - float(mapping.get(theirs, 0.0)))
        <= 1e-6 * abs(float(header.get(ours, 0.0)))
        for ours, theirs in pairs
    )
