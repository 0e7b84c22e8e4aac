"""Headers of NIfTI files (.nii, .nii.gz): nibabel interprets them, and this module checks them."""

from __future__ import annotations

from typing import Any, BinaryIO

import nibabel as nib
import numpy as np

from lib.cases.case import Source
from lib.cases.formats.file_bytes import GZIP_START, gunzipped
from lib.cases.formats.headers import Header, require
from lib.cases.formats.nifti_place import nifti_affine

MAX_EXTENSION_BYTES = 16 * 2**20  # between the header and the voxels; skipped, never stored
SLOPES = (1e-15, 1e9)  # from a diffusivity in m²/s to an activity in Bq/ml
_HEADER_BYTES, _NIFTI_2_BYTES = 348, 540  # a header begins with its own size
_REAL = {  # types with one real number a voxel, by their codes
    **{2: "u1", 4: "i2", 8: "i4", 16: "f4", 64: "f8"},
    **{256: "i1", 512: "u2", 768: "u4", 1024: "i8", 1280: "u8"},
}
_SEVERAL = {1004, 1005, 1006, 1007}  # intent codes of matrices and vectors; ITK opens them as such
_OTHER_TYPES = {  # what a voxel of another type holds
    **dict.fromkeys((32, 1792, 2048), "complex numbers"),
    **{128: "colours (RGB)", 2304: "colours (RGBA)", 1536: "numbers of 128 bits", 1: "single bits"},
}


def nifti_content(file: BinaryIO, source: Source) -> BinaryIO:
    """Bytes of a NIfTI file, unpacked if its name ends in .gz.

    Raises:
        CaseError: If the name and the content disagree.
    """
    packed = file.read(2) == GZIP_START
    file.seek(0)
    named = source.path.name.lower().endswith(".gz")
    require(
        packed == named,
        f"{source.name} must be named for what it holds; it is {'' if packed else 'not '}packed with gzip. "
        f"Rename it to end in {'.nii.gz' if packed else '.nii'}, or export it again.",
    )
    return gunzipped(file) if packed else file


def nifti_header(content: BinaryIO, source: Source) -> Header:
    """Header of a NIfTI file, or of one channel of it; reads 348 bytes.

    Args:
        content: Unpacked content at its start.
        source: Source of the file; gives its name in messages and the channel.

    Raises:
        CaseError: If it is not one 3-D volume of real numbers at one position.
    """
    fields = _fields(content, source.name)
    whole = _shape(fields, source.name)
    shape = _volume_shape(whole, source)
    slope, intercept = _scaling(fields, source.name)
    depth_first = (shape[2], shape[1], shape[0])
    return Header(
        shape=depth_first,
        affine=nifti_affine(fields, depth_first, source.name),
        dtype=_dtype(fields, source.name),
        gap=_first_voxel(fields, source.name) - _HEADER_BYTES,
        channels=1 if source.channel is None else whole[3],
        channel=source.channel or 0,
        slope=slope,
        intercept=intercept,
    )


def nifti_shape(content: BinaryIO, source: Source) -> tuple[int, ...]:
    """Sizes along every axis, (W, H, D, …); `content` must be at its start.

    Raises:
        CaseError: If it is no NIfTI file.
    """
    return _shape(_fields(content, source.name), source.name)


def _fields(content: BinaryIO, name: str) -> Any:
    """Fields of a header, in the byte order of its size field."""
    block = content.read(_HEADER_BYTES)
    sizes = {int.from_bytes(block[:4], order): order for order in ("little", "big")}
    require(
        _NIFTI_2_BYTES not in sizes,
        f"{name} must be a NIfTI-1 file; it is NIfTI-2, which 3D Slicer does not open. Save it as NIfTI-1.",
    )
    require(
        len(block) == _HEADER_BYTES and _HEADER_BYTES in sizes,
        f"{name} must be a NIfTI file; its header is not. Export it again.",
    )
    order = "<" if sizes[_HEADER_BYTES] == "little" else ">"
    fields = nib.Nifti1Header(block, endianness=order, check=False)
    require(
        fields["magic"].item()[:3] == b"n+1",
        f"{name} must hold its header and its voxels (magic n+1); its header says otherwise. "
        "Export one .nii file.",
    )
    return fields


def _shape(fields: Any, name: str) -> tuple[int, ...]:
    sizes = [int(size) for size in fields["dim"]]
    rank = sizes[0]
    require(
        1 <= rank <= 7 and min(sizes[1 : rank + 1]) >= 1,
        f"{name} must have 1 to 7 axes of at least one voxel; its header says dim {sizes}. Export it again.",
    )
    return tuple(sizes[1 : rank + 1])


def _volume_shape(shape: tuple[int, ...], source: Source) -> tuple[int, ...]:
    if source.channel is not None:
        require(
            len(shape) == 4 and source.channel < shape[3],
            f"{source.name} must have at least {source.channel + 1} channels along its "
            f"fourth axis; got shape {shape}. Check dataset.json against the file.",
        )
        return shape[:3]
    while len(shape) > 3 and shape[-1] == 1:
        shape = shape[:-1]
    require(
        len(shape) > 2,
        f"{source.name} must be a 3-D volume; it is a single slice of shape {shape}. Stack the slices of a "
        "scan in one file.",
    )
    require(
        len(shape) < 5,
        f"{source.name} must hold one number a voxel; got shape {shape}, {shape[-1]} numbers a voxel (a "
        "vector or colours). Export grey values, or one file a component.",
    )
    require(
        len(shape) == 3,
        f"{source.name} must be one 3-D volume; got shape {shape}. Split it by modality, "
        "or describe it in a Decathlon dataset.json.",
    )
    return shape


def _dtype(fields: Any, name: str) -> np.dtype[Any]:
    code, bits, intent = int(fields["datatype"]), int(fields["bitpix"]), int(fields["intent_code"])
    require(
        code in _REAL,
        f"{name} must hold one real number a voxel; its header says type {code}"
        f"{', ' + _OTHER_TYPES[code] if code in _OTHER_TYPES else ''}. Export magnitude or grey values.",
    )
    require(
        intent not in _SEVERAL,
        f"{name} must hold one real number a voxel; its header says intent {intent}, a matrix or a vector. "
        "Export grey values, or one file a component.",
    )
    dtype = np.dtype(fields.endianness + _REAL[code])
    require(
        bits == 8 * dtype.itemsize,
        f"{name} must have {8 * dtype.itemsize} bits a voxel, as its type {dtype.name} says; its header says "
        f"{bits}. Export it again.",
    )
    return dtype


def _first_voxel(fields: Any, name: str) -> int:
    least, place = _HEADER_BYTES + 4, float(fields["vox_offset"])
    require(
        least <= place <= least + MAX_EXTENSION_BYTES and place.is_integer(),
        f"{name} must have its first voxel {least} to {least + MAX_EXTENSION_BYTES} bytes after its start; "
        f"its header says {place:g}. Export it again, without extensions.",
    )
    return int(place)


def _scaling(fields: Any, name: str) -> tuple[float, float]:
    """Slope and intercept; a slope of 0 or NaN means that the stored numbers are the values."""
    slope, intercept = float(fields["scl_slope"]), float(fields["scl_inter"])
    if slope == 0.0 or np.isnan(slope):
        require(
            intercept == 0.0 or np.isnan(intercept),
            f"{name} must have a slope beside its intercept; its header says {slope:g} and {intercept:g}, "
            "and only some viewers would add the intercept. Export it again.",
        )
        return 1.0, 0.0
    require(
        SLOPES[0] <= abs(slope) <= SLOPES[1] and np.isfinite(intercept),
        f"{name} must have a slope of {SLOPES[0]:g} to {SLOPES[1]:g} and a finite intercept; its header says "
        f"{slope:g} and {intercept:g}. Export it again.",
    )
    return slope, intercept
