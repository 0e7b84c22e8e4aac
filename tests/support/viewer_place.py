"""Where ITK, and so 3D Slicer, puts an image file; and small files of 5 x 4 x 3 voxels with any header."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import SimpleITK as sitk

from lib.cases.formats.grid import Grid, Volume
from lib.cases.formats.headers import RAS_LPS

NUMBERS = np.arange(60, dtype=np.int16)  # in the order of the files: W first
_NRRD = {
    **{"type": "short", "dimension": "3", "space": "left-posterior-superior", "sizes": "5 4 3"},
    **{"space directions": "(1,0,0) (0,1.5,0) (0,0,2)", "kinds": "domain domain domain", "endian": "little"},
    **{"encoding": "raw", "space origin": "(10,20,30)"},
}
_META = {
    **{"ObjectType": "Image", "NDims": "3", "BinaryData": "True", "BinaryDataByteOrderMSB": "False"},
    **{"CompressedData": "False", "TransformMatrix": "1 0 0 0 1 0 0 0 1", "Offset": "10 20 30"},
    **{"CenterOfRotation": "0 0 0", "AnatomicalOrientation": "RAI", "ElementSpacing": "1 1.5 2"},
    **{"DimSize": "5 4 3", "ElementType": "MET_SHORT", "ElementDataFile": "LOCAL"},
}


def nifti_file(
    values: np.ndarray = NUMBERS, *, shape: tuple[int, ...] = (5, 4, 3), order: str = "<", **fields: object
) -> bytes:
    """A NIfTI file with this header; without fields it has voxels of 1 x 1.5 x 2 mm and no place."""
    header = nib.Nifti1Header(endianness=order)
    header.set_data_dtype(values.dtype)
    header.set_data_shape(shape)
    header["pixdim"][:4] = (1.0, 1.0, 1.5, 2.0)
    header["vox_offset"], header["magic"], header["xyzt_units"] = 352, b"n+1", 2
    for name, value in fields.items():
        header[name] = value
    return bytes(header.binaryblock) + bytes(4) + values.astype(values.dtype.newbyteorder(order)).tobytes()


def nrrd_file(voxels: bytes = NUMBERS.tobytes(), fields: dict[str, str | None] | None = None) -> bytes:
    """An NRRD file with these fields changed or added, or left out where they are None."""
    return b"NRRD0005\n" + _lines(_NRRD | (fields or {}), ": ") + b"\n" + voxels


def meta_file(voxels: bytes = NUMBERS.tobytes(), **fields: str | None) -> bytes:
    """A MetaImage file with these fields changed or added, or left out where they are None."""
    said = _META | fields
    return (
        _lines({**said, "ElementDataFile": None}, " = ")
        + _lines({"ElementDataFile": said["ElementDataFile"]}, " = ")
        + voxels
    )


def _lines(fields: dict[str, str | None], between: str) -> bytes:
    return "".join(
        f"{name}{between}{value}\n" for name, value in fields.items() if value is not None
    ).encode()


def seen_by_itk(path: Path) -> Volume:
    """The volume as ITK reads it.

    Raises:
        RuntimeError: If ITK does not open it.
    """
    image = sitk.ReadImage(str(path))
    affine = np.eye(4)
    affine[:3, :3] = np.reshape(image.GetDirection(), (3, 3)) * image.GetSpacing()
    affine[:3, 3] = image.GetOrigin()
    array = sitk.GetArrayFromImage(image)
    return Volume(array, Grid(array.shape, RAS_LPS @ affine))


def apart_mm(first: Grid, second: Grid) -> float:
    """Largest distance between the corners of two grids of one shape."""
    assert first.shape == second.shape
    depth, height, width = first.shape
    corners = np.array([[i, j, k, 1] for i in (0, width) for j in (0, height) for k in (0, depth)])
    return float(np.abs((first.affine - second.affine) @ corners.T).max())
