"""Small images on disk, in every format that is read."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import nrrd
import numpy as np
import pydicom
import SimpleITK as sitk
from pydicom.dataset import FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, generate_uid

from lib.cases.formats.dicom import read_series


def write_image(
    path: Path, *, shape: tuple[int, ...] = (6, 7, 8), seed: int = 0, spacing: float = 2.0
) -> Path:
    """A small NIfTI of noise on a grid with an offset; made along with its folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    affine = np.diag([spacing, spacing, spacing, 1.0])
    affine[:3, 3] = (-10.0, 5.0, 3.0)
    values = np.random.default_rng(seed).integers(0, 100, shape).astype(np.int16)
    nib.save(nib.Nifti1Image(values, affine), path)
    return path


def write_nrrd(path: Path, **header: object) -> Path:
    values = np.arange(60, dtype=np.int16).reshape(3, 4, 5)
    usual = {
        "space": "left-posterior-superior",
        "space directions": np.diag([1.0, 1.5, 2.0]),
        "space origin": np.array([1.0, 2.0, 3.0]),
    }
    nrrd.write(
        str(path), values, {key: value for key, value in {**usual, **header}.items() if value is not None}
    )
    return path


def write_series(
    folder: Path,
    *,
    modality: str,
    description: str,
    study: str,
    slices: int = 4,
    step: tuple[float, float, float] = (0.0, 0.0, 2.0),
    slopes: tuple[float, ...] = (),
    skip: int | None = None,
    frame: str = "1.2.3",
    **tags: object,
) -> str:
    folder.mkdir(parents=True, exist_ok=True)
    uid = generate_uid()
    for place in range(slices):
        if place == skip:
            continue
        header = pydicom.Dataset()
        header.file_meta = FileMetaDataset()
        header.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        header.file_meta.MediaStorageSOPClassUID = header.SOPClassUID = "1.2.840.10008.5.1.4.1.1.4"
        header.file_meta.MediaStorageSOPInstanceUID = header.SOPInstanceUID = generate_uid()
        header.Modality, header.SeriesDescription, header.PatientID = modality, description, "p"
        header.StudyInstanceUID, header.SeriesInstanceUID, header.FrameOfReferenceUID = study, uid, frame
        header.Rows, header.Columns, header.PixelSpacing, header.SliceThickness = 5, 6, [1.0, 1.0], 2.0
        header.ImagePositionPatient, header.ImageOrientationPatient = (
            [place * along for along in step],
            [1, 0, 0, 0, 1, 0],
        )
        header.BitsAllocated = header.BitsStored = 16
        header.HighBit, header.PixelRepresentation, header.SamplesPerPixel = 15, 0, 1
        header.PhotometricInterpretation, header.InstanceNumber = "MONOCHROME2", place
        header.PixelData = np.full((5, 6), place, dtype=np.uint16).tobytes()
        if slopes:
            header.RescaleSlope, header.RescaleIntercept = slopes[place], 0.0
        for name, value in tags.items():
            setattr(header, name, value)
        header.is_little_endian, header.is_implicit_VR = True, False
        pydicom.dcmwrite(folder / f"{place}.dcm", header, write_like_original=False)
    return uid


def tilt_series(folder: Path, degrees: float) -> None:
    """Give a series the slices that a tilted gantry would have made of the same body."""
    series = read_series(folder)
    step = series.places.grid.spacing[0] * np.tan(np.radians(degrees))
    for number, file in enumerate(series.files):
        header = pydicom.dcmread(file)
        image = sitk.ReadImage(str(file))[:, :, 0]
        image.SetOrigin((0.0, 0.0))
        further = sitk.TranslationTransform(2, (0.0, number * step))
        moved = sitk.GetArrayFromImage(sitk.Resample(image, further, sitk.sitkLinear, -1000))
        stored = np.rint((moved - header.RescaleIntercept) / header.RescaleSlope)
        header.PixelData = stored.astype(np.int16 if header.PixelRepresentation else np.uint16).tobytes()
        header.ImagePositionPatient[1] = float(header.ImagePositionPatient[1]) + number * step
        pydicom.dcmwrite(file, header)


def write_body(path: Path, *, seed: int = 0, lesion: tuple[slice, ...] | None = None) -> Path:
    """A bright box of 20 x 16 x 12 voxels in the air of a volume of 24 x 20 x 16 voxels of 4 mm."""
    path.parent.mkdir(parents=True, exist_ok=True)
    values = np.random.default_rng(seed).normal(5.0, 1.0, (24, 20, 16))
    values[2:22, 2:18, 2:14] += 200.0
    if lesion:
        values[lesion] += 50.0
    affine = np.diag([4.0, 4.0, 4.0, 1.0])
    affine[:3, 3] = (-90.0, 40.0, 30.0)
    nib.save(nib.Nifti1Image(values.astype(np.int16), affine), path)
    return path
