"""Headers of NIfTI files (.nii, .nii.gz): nibabel interprets them, and this module checks them."""

from __future__ import annotations

from typing import Any, BinaryIO

import nibabel as nib
import numpy as np
from numpy.typing import NDArray

from lib.cases.case import CaseError, Source
from lib.cases.formats.file_bytes import GZIP_START, gunzipped
from lib.cases.formats.headers import Header, require

SAME_PLACE_MM = 0.5  # between the two positions in a header; rounding errors are far smaller
MAX_EXTENSION_BYTES = 16 * 2**20  # between the header and the voxels; skipped, never stored
SLOPES = (1e-15, 1e9)  # from a diffusivity in m²/s to an activity in Bq/ml
_KINDS: dict[int, tuple[Any, bytes]] = {
    348: (nib.Nifti1Header, b"n+1"),
    540: (nib.Nifti2Header, b"n+2"),
}  # by the header's size
_REAL = {  # types with one real number a voxel, by their codes
    **{2: "u1", 4: "i2", 8: "i4", 16: "f4", 64: "f8"},
    **{256: "i1", 512: "u2", 768: "u4", 1024: "i8", 1280: "u8"},
}
_MILLIMETRES = {0, 2}  # 0 is unknown; writers that leave the unit out mean mm


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
    """Header of a NIfTI file, or of one channel of it; reads 348 or 540 bytes.

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
    size = int(fields["sizeof_hdr"])
    return Header(
        shape=(shape[2], shape[1], shape[0]),
        affine=_affine(fields, shape, source.name),
        dtype=_dtype(fields, source.name),
        gap=_first_voxel(fields, size, source.name) - size,
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
    block = content.read(348)
    sizes = {order: int.from_bytes(block[:4], order) for order in ("little", "big")}
    found = [(order, size) for order, size in sizes.items() if size in _KINDS]
    require(
        len(block) == 348 and bool(found),
        f"{name} must be a NIfTI file; its header is not. Export it again.",
    )
    order, size = found[0]
    block += content.read(size - len(block))
    kind, magic = _KINDS[size]
    require(len(block) == size, f"{name} must be complete; its header ends early. Copy or export it again.")
    fields = kind(block, endianness="<" if order == "little" else ">", check=False)
    require(
        fields["magic"].item()[:3] == magic,
        f"{name} must hold its header and its voxels (magic n+1 or n+2); its header says otherwise. "
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
        len(shape) == 3,
        f"{source.name} must be one 3-D volume; got shape {shape}. Split it by modality, "
        "or describe it in a Decathlon dataset.json.",
    )
    return shape


def _dtype(fields: Any, name: str) -> np.dtype[Any]:
    code, bits = int(fields["datatype"]), int(fields["bitpix"])
    require(
        code in _REAL,
        f"{name} must hold one real number a voxel; its header says type {code}. "
        "Export magnitude or grey values.",
    )
    dtype = np.dtype(fields.endianness + _REAL[code])
    require(
        bits == 8 * dtype.itemsize,
        f"{name} must have {8 * dtype.itemsize} bits a voxel, as its type {dtype.name} says; its header says "
        f"{bits}. Export it again.",
    )
    return dtype


def _first_voxel(fields: Any, size: int, name: str) -> int:
    least, place = size + 4, float(fields["vox_offset"])
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
        return 1.0, 0.0
    require(
        SLOPES[0] <= abs(slope) <= SLOPES[1] and np.isfinite(intercept),
        f"{name} must have a slope of {SLOPES[0]:g} to {SLOPES[1]:g} and a finite intercept; its header says "
        f"{slope:g} and {intercept:g}. Export it again.",
    )
    return slope, intercept


def _affine(fields: Any, shape: tuple[int, ...], name: str) -> NDArray[np.float64]:
    """Affine from index to RAS+ mm; other units and two different positions are refused."""
    unit = int(fields["xyzt_units"]) & 7
    require(
        unit in _MILLIMETRES,
        f"{name} must give its geometry in mm (unit 2); its header says unit {unit}. Export it again in mm.",
    )
    by_matrix, by_rotation = fields["sform_code"] != 0, fields["qform_code"] != 0
    if not by_rotation and by_matrix:
        return np.asarray(fields.get_sform(), dtype=float)
    signed = [float(size) for size in fields["pixdim"][:4]]
    require(
        signed[0] in (-1.0, 0.0, 1.0) and all(0.0 < size < np.inf for size in signed[1:]),
        f"{name} must have voxels of a size above 0 and an orientation of -1 or 1; its header says pixdim "
        f"{signed}. Export it again.",
    )
    fields["pixdim"][0] = signed[0] or 1.0  # NIfTI: 0 means 1
    if not by_rotation:
        return np.asarray(fields.get_base_affine(), dtype=float)
    try:
        rotated = np.asarray(fields.get_qform(), dtype=float)
    except ValueError as err:  # a quaternion longer than 1
        raise CaseError(
            f"{name} must have a unit quaternion; its quaternion is longer. Export it again."
        ) from err
    if not by_matrix:
        return rotated
    affine = np.asarray(fields.get_sform(), dtype=float)
    _check_one_place(name, rotated, affine, shape)
    return affine


def _check_one_place(
    name: str, first: NDArray[np.float64], second: NDArray[np.float64], shape: tuple[int, ...]
) -> None:
    """Refuse two different positions: a viewer may use one of them and this server the other."""
    corners = np.array([[i, j, k, 1] for i in (0, shape[0]) for j in (0, shape[1]) for k in (0, shape[2])])
    apart = float(np.linalg.norm(((first - second) @ corners.T)[:3], axis=0).max())
    require(
        apart <= SAME_PLACE_MM,  # also refuses NaN
        f"{name} must have one position; its header has two positions (qform, sform) {apart:.1f} mm "
        "apart. Export it again with one of them.",
    )
