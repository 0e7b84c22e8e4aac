"""Decoding of the slices of a series to values in the modality's unit."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pydicom
import SimpleITK as sitk
from numpy.typing import NDArray
from pydicom.datadict import keyword_for_tag
from pydicom.dataset import FileDataset
from pydicom.uid import UID, ExplicitVRBigEndian

from lib.cases.case import CaseError
from lib.cases.formats.dicom_file import read_pixels
from lib.cases.formats.pydicom_versions import WHOLE_FILE
from lib.cases.formats.slice_header import SliceHeader

_MANY_GREY_FRAMES = UID("1.2.840.10008.5.1.4.1.1.7.3")  # SOP class of images without a scale
_STORED = (  # attributes of the stored numbers
    "SOPClassUID", "SOPInstanceUID", "Rows", "Columns", "NumberOfFrames", "SamplesPerPixel", "BitsAllocated",
    "BitsStored", "HighBit", "PixelRepresentation", "PixelData",
)  # fmt: skip


def decode(slices: Sequence[SliceHeader]) -> NDArray[np.float32]:
    """Values of the slices, shape (D, H, W): stored number x slope + intercept, each slice by its own.

    ITK decodes and rescales the slices where it is known to do so rightly. For multi-frame objects, files of
    old and MONOCHROME1 only the stored numbers are decoded, and rescaled here.

    Raises:
        CaseError: If a file does not hold the pixels that its header says.
    """
    if all(each.as_itk_expects for each in slices):
        reader = sitk.ImageSeriesReader()
        reader.SetOutputPixelType(sitk.sitkFloat32)  # else the type of the first slice truncates the others
        reader.SetFileNames([str(each.path) for each in slices])
        return np.asarray(sitk.GetArrayFromImage(reader.Execute()), dtype=np.float32)
    array = np.empty((len(slices), *slices[0].size), dtype=np.float32)
    for path in dict.fromkeys(each.path for each in slices):
        places = [place for place, each in enumerate(slices) if each.path == path]
        frames = _stored(path, slices[places[0]], max(slices[place].frame or 0 for place in places) + 1)
        for place in places:
            slope, intercept = slices[place].scale
            array[place] = frames[slices[place].frame or 0] * np.float64(slope) + np.float64(intercept)
    return array


def _stored(path: Path, header: SliceHeader, least: int) -> NDArray[Any]:
    """Stored numbers of a file, shape (frames, rows, columns)."""
    pixel_bytes = least * header.size[0] * header.size[1] * header.pixels[0] // 8
    dataset = read_pixels(path, pixel_bytes=pixel_bytes)
    if not dataset.get("PixelData"):
        raise CaseError(f"{path.name} must hold whole numbers as pixels; it has none. Export it again.")
    compressed = dataset.file_meta.TransferSyntaxUID.is_compressed
    frames = _unpacked(dataset) if compressed else _native(dataset, header, path)
    if len(frames) < least or frames.shape[1:] != header.size:
        raise CaseError(
            f"{path.name} must hold {least} frames of {header.size} pixels; it holds {frames.shape}. Export "
            "it again."
        )
    return frames


def _native(dataset: FileDataset, header: SliceHeader, path: Path) -> NDArray[Any]:
    """Numbers of uncompressed pixels, without what may stand in the unused bits."""
    allocated, stored, signed, *_ = header.pixels
    order = ">" if dataset.file_meta.TransferSyntaxUID == ExplicitVRBigEndian else "<"
    size = header.size[0] * header.size[1]
    data = dataset.PixelData
    frames = len(data) // (size * allocated // 8)
    numbers = np.frombuffer(data, f"{order}{'i' if signed else 'u'}{allocated // 8}", frames * size)
    high = int(dataset.get("HighBit", stored - 1))
    if not stored - 1 <= high < allocated:
        raise CaseError(
            f"{path.name} must have its HighBit from {stored - 1} to {allocated - 1}; got {high}. Export it "
            "again."
        )
    if stored < allocated:
        numbers = numbers << (allocated - 1 - high)
        numbers >>= allocated - stored
    return numbers.reshape(-1, *header.size)


def _unpacked(dataset: FileDataset) -> NDArray[Any]:
    """Numbers of compressed pixels, decoded by ITK from a copy that says nothing else."""
    for tag in [tag for tag in dataset.keys() if keyword_for_tag(tag) not in _STORED]:
        del dataset[tag]
    dataset.PhotometricInterpretation = "MONOCHROME2"
    dataset.SOPClassUID = dataset.file_meta.MediaStorageSOPClassUID = _MANY_GREY_FRAMES
    with TemporaryDirectory() as folder:
        copy = Path(folder, "frames.dcm")
        pydicom.dcmwrite(copy, dataset, **WHOLE_FILE)
        array = sitk.GetArrayFromImage(sitk.ReadImage(str(copy), imageIO="GDCMImageIO"))
    return array.reshape(-1, *array.shape[-2:])
