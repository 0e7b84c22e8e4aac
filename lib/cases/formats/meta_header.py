"""Headers of MetaImage files (.mha); the voxels must be in the same file, and pointers to others are refused.

Where the format leaves something open, or ITK would read other voxels or another place, the file is refused,
because 3D Slicer reads with ITK. The format: https://itk.org/Wiki/ITK/MetaIO/Documentation
"""

from __future__ import annotations

import os
import re
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from lib.cases.case import CaseError
from lib.cases.formats.file_bytes import inflated
from lib.cases.formats.headers import NUMBER, RAS_LPS, Header, require

MAX_HEADER_BYTES = 256 * 1024  # ITK writes half a kilobyte; converters add a time for each slice
MAX_LINE_BYTES = 16 * 1024  # ITK opens no file with lines of twice that
MAX_TEXT = 250  # letters of the format's own texts; longer ones make ITK fail or crash
UNIT_LENGTH = 1e-3  # directions are rounded to text
_OTHER_NAMES = {
    **{"Rotation": "TransformMatrix", "Orientation": "TransformMatrix"},
    **{"Position": "Offset", "Origin": "Offset", "ElementByteOrderMSB": "BinaryDataByteOrderMSB"},
}
_PER_AXIS = ("DimSize", "TransformMatrix", "Offset", "ElementSpacing", "ElementSize", "CenterOfRotation")
_TYPES = {
    **{"MET_CHAR": "i1", "MET_UCHAR": "u1", "MET_SHORT": "i2", "MET_USHORT": "u2"},
    **{"MET_INT": "i4", "MET_UINT": "u4", "MET_LONG": "i4", "MET_ULONG": "u4"},  # a LONG has 4 bytes in ITK
    **{"MET_LONG_LONG": "i8", "MET_ULONG_LONG": "u8", "MET_FLOAT": "f4", "MET_DOUBLE": "f8"},
}
_TEXTS = {"Name", "Comment", "ObjectSubType", "AnatomicalOrientation", "AcquisitionDate", "Modality"}
_FLAGS = {"true": True, "false": False}
_ONLY = {  # what these fields may say, in lower case; the format's default where it is left out
    **{"ObjectType": ("image",), "BinaryData": ("true",), "HeaderSize": ("0",), "DistanceUnits": ("mm", "?")},
    **{"ElementNumberOfChannels": ("1",), "ElementToIntensityFunctionSlope": ("1", "1.0")},
    "ElementToIntensityFunctionOffset": ("0", "0.0"),
}


def meta_header(file: BinaryIO, name: str) -> tuple[Header, BinaryIO]:
    """Header of a MetaImage file, and its unpacked content from the first voxel on.

    Args:
        file: File at its start.
        name: Name of the file in messages.

    Raises:
        CaseError: If the file is not one 3-D volume of real numbers in mm, or has no position in space.
    """
    fields = _fields(file, name)
    for field, values in _ONLY.items():
        require(
            fields.get(field, values[0]).lower() in values,
            f"{name} must have {field} = {values[0]}; its header says {fields.get(field, '')[:40]}. "
            "Export it again as one volume of grey values in mm.",
        )
    width, height, depth = _sizes(fields, name)
    header = Header((depth, height, width), _affine(fields, name), _dtype(fields, name))
    if not _flag(fields, "CompressedData", name, default=False):
        return header, file
    here, end = file.tell(), file.seek(0, os.SEEK_END)
    file.seek(here)
    said = fields.get("CompressedDataSize", "nothing")
    require(
        said == str(end - here),
        f"{name} must be complete and say how long its packed voxels are (CompressedDataSize); its header "
        f"says {said[:20]}, and {end - here} bytes follow. Copy or export it again.",
    )
    return header, inflated(file)


def _fields(file: BinaryIO, name: str) -> dict[str, str]:
    """Value of each field up to ElementDataFile, after which the voxels begin."""
    fields: dict[str, str] = {}
    while "ElementDataFile" not in fields:
        line = file.readline(MAX_LINE_BYTES)
        require(
            line.endswith(b"\n") and file.tell() <= MAX_HEADER_BYTES,
            f"{name} must be a MetaImage file, whose header has lines of at most {MAX_LINE_BYTES:,} bytes "
            f"and ends with ElementDataFile within {MAX_HEADER_BYTES:,}; its header does not. Export it "
            "again.",
        )
        text = line.decode("utf-8", "replace")
        field, equals, value = (part.strip() for part in text.partition("="))
        field = _OTHER_NAMES.get(field, field)
        require(
            bool(equals and field) and ":" not in field,
            f"{name} must have a line FIELD = VALUE for each field of its header; got {text[:40].strip()!r}. "
            "Export it again.",
        )
        require(
            field not in fields,
            f"{name} must give {field[:40]} once; its header gives it twice. Export it again.",
        )
        require(
            "NDims" in fields or field not in _PER_AXIS,
            f"{name} must give NDims before {field}; its header gives it later. Export it again.",
        )
        require(
            field not in _TEXTS or len(value) <= MAX_TEXT,
            f"{name} must have a {field} of at most {MAX_TEXT} letters, which viewers can read; it has "
            f"{len(value):,}. Export it again without.",
        )
        fields[field] = value
    require(
        fields["ElementDataFile"].upper() == "LOCAL",
        f"{name} must hold its voxels right after its header (ElementDataFile = LOCAL); its header names "
        f"{fields['ElementDataFile'][:40]!r}, which is not opened. Save it as one .mha file.",
    )
    return fields


def _sizes(fields: dict[str, str], name: str) -> tuple[int, int, int]:
    axes, text = fields.get("NDims", ""), fields.get("DimSize", "")
    require(
        axes == "3",
        f"{name} must be one 3-D volume; its header says NDims = {axes[:20] or 'nothing'}. Export one file a "
        "modality.",
    )
    words = text.split()
    sizes = [int(word) for word in words if re.fullmatch("[0-9]{1,9}", word)]
    require(
        len(words) == len(sizes) == 3 and min(sizes) >= 1,
        f"{name} must have three axes of at least one voxel; its header says DimSize = {text[:40]}. Export "
        "it again.",
    )
    return sizes[0], sizes[1], sizes[2]


def _dtype(fields: dict[str, str], name: str) -> np.dtype[Any]:
    code = _TYPES.get(fields.get("ElementType", ""))
    if code is None:
        raise CaseError(
            f"{name} must hold one real number a voxel; its header says ElementType = "
            f"{fields.get('ElementType', 'nothing')[:40]}. Export grey values."
        )
    if code in ("i1", "u1") and "BinaryDataByteOrderMSB" not in fields:
        return np.dtype(code)
    return np.dtype((">" if _flag(fields, "BinaryDataByteOrderMSB", name) else "<") + code)


def _flag(fields: dict[str, str], field: str, name: str, *, default: bool | None = None) -> bool:
    value = _FLAGS.get(fields[field].lower()) if field in fields else default
    if value is None:
        raise CaseError(
            f"{name} must say {field} = True or False; its header says {fields.get(field, 'nothing')[:20]}. "
            "Export it again."
        )
    return value


def _affine(fields: dict[str, str], name: str) -> NDArray[np.float64]:
    """Affine from index to RAS+ mm; a MetaImage is in LPS."""
    directions = _numbers(fields, "TransformMatrix", 9, name).reshape(3, 3)  # one row an axis
    spacing = _numbers(fields, "ElementSpacing", 3, name)
    lengths = np.linalg.norm(directions, axis=1)
    require(
        bool((np.abs(lengths - 1.0) <= UNIT_LENGTH).all() and (spacing > 0.0).all()),
        f"{name} must have directions of length 1 and voxels of a size above 0; its header says lengths "
        f"{lengths.round(4).tolist()}, ElementSpacing {spacing.tolist()}. Export it again.",
    )
    affine = np.eye(4)
    affine[:3, 3] = _numbers(fields, "Offset", 3, name)
    with np.errstate(over="ignore", invalid="ignore"):  # the grid refuses infinity and NaN
        affine[:3, :3] = directions.T * spacing
        return np.asarray(RAS_LPS @ affine)


def _numbers(fields: dict[str, str], field: str, count: int, name: str) -> NDArray[np.float64]:
    words = fields.get(field, "").split()
    require(
        len(words) == count and all(re.fullmatch(NUMBER, word) for word in words),
        f"{name} must say where it lies in the patient ({field} = {count} numbers); its header says "
        f"{fields.get(field, 'nothing')[:60]}. Export it again with its position.",
    )
    return np.array([float(word) for word in words])
