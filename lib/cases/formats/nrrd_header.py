"""Headers of NRRD files; the voxels must be in the same file, and pointers to other files are refused.

What ITK does not open is refused too, because 3D Slicer reads with ITK.
The format: http://teem.sourceforge.net/nrrd/format.html
"""

from __future__ import annotations

import re
from math import isfinite
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from lib.cases.case import CaseError
from lib.cases.formats.file_bytes import gunzipped
from lib.cases.formats.headers import NUMBER, RAS_LPS, Header, require

MAX_HEADER_BYTES = 64 * 1024  # Slicer writes one kilobyte, or ten for a segmentation with terms
_MAGIC = re.compile(rb"NRRD000[1-5]\r?\n")
_KEY = re.compile(r"([^:]*):=(.*)")
_SEGMENT = re.compile(r"Segment([0-9]{1,5})_(Name|LabelValue)")
_FIELD = re.compile(r"([A-Za-z][A-Za-z ]*):(?!=)(\s*)(.*)")
_VECTOR = rf"\(\s*{NUMBER}\s*,\s*{NUMBER}\s*,\s*{NUMBER}\s*\)"
_VECTORS = re.compile(rf"{_VECTOR}(?:\s+{_VECTOR})*")
_TYPE_NAMES = {
    "i1": "signed char, int8, int8_t",
    "u1": "uchar, unsigned char, uint8, uint8_t",
    "i2": "short, short int, signed short, signed short int, int16, int16_t",
    "u2": "ushort, unsigned short, unsigned short int, uint16, uint16_t",
    "i4": "int, signed int, int32, int32_t",
    "u4": "uint, unsigned int, uint32, uint32_t",
    "i8": "longlong, long long, long long int, signed long long, signed long long int, int64, int64_t",
    "u8": "ulonglong, unsigned long long, unsigned long long int, uint64, uint64_t",
    "f4": "float",
    "f8": "double",
}
_TYPE_CODES = {name: code for code, names in _TYPE_NAMES.items() for name in names.split(", ")}
_POINTERS = {
    "datafile",
    "lineskip",
    "byteskip",
}  # fields that would let a header read other files of the server
_ORDERS = {"little": "<", "big": ">"}
_SPACES = {"left-posterior-superior": RAS_LPS, "lps": RAS_LPS}
_SPACES |= {"right-anterior-superior": np.eye(4), "ras": np.eye(4)}
_SPACES |= dict.fromkeys(("left-anterior-superior", "las"), np.diag([-1.0, 1.0, 1.0, 1.0]))
_OF_THE_AXES = {
    *("sizes", "spacings", "thicknesses", "axis mins", "axis maxs", "centers", "centerings", "kinds"),
    *("labels", "units", "space directions"),
}
_OF_THE_SPACE = {"space directions", "space origin", "space units", "measurement frame"}
_NAMES = {
    *_OF_THE_AXES,
    *_OF_THE_SPACE,
    *("dimension", "space", "space dimension", "type", "block size", "encoding", "endian", "content"),
    *("number", "min", "max", "old min", "old max", "sample units"),
}
_SPELLINGS = _NAMES | {name.replace(" ", "") for name in _NAMES}
_WORDS = {  # what each axis of space may say; ITK opens nothing else
    **{"kinds": "domain|space|none|[?]{3}", "centerings": "cell|node|none|[?]{3}"},
    **{"spacings": "nan", "axismins": "nan", "axismaxs": "nan"},  # because the directions say it
    **{"thicknesses": f"nan|{NUMBER}", "units": '""'},
}
_THREE_QUOTED = re.compile(r'\s*"[^"]*"\s+"[^"]*"\s+"[^"]*"\s*')
_COLOURS = re.compile(r"rgba?-color|hsv-color|xyz-color|[34]-color", re.IGNORECASE)


def nrrd_header(file: BinaryIO, name: str) -> tuple[Header, BinaryIO]:
    """Header of an NRRD file, and its unpacked content from the first voxel on.

    Args:
        file: File at its start.
        name: Name of the file in messages.

    Raises:
        CaseError: If the file is not one 3-D volume of real numbers, or has no position in space.
    """
    fields, keys = _fields(file, name)
    pointing = sorted(_POINTERS & fields.keys())
    require(
        not pointing,
        f"{name} must hold its voxels right after its header; the header has a {', '.join(pointing)}. "
        "Export one file that holds both.",
    )
    encoding = fields.get("encoding", "").lower()
    require(
        encoding in ("raw", "gzip", "gz"),
        f"{name} must be encoded as raw or gzip; its header says {encoding[:20] or 'nothing'!r}. "
        "Export it again from the viewer.",
    )
    segments = _segments(keys, name)
    _check_kinds(fields, segments, name)
    width, height, depth = _sizes(fields, name)
    affine, dtype = _affine(fields, name), _dtype(fields, name)
    header = Header((depth, height, width), affine, dtype, segments=segments)
    _check_axes(fields, name)
    return header, file if encoding == "raw" else gunzipped(file)


def _fields(file: BinaryIO, name: str) -> tuple[dict[str, str], dict[str, str]]:
    """Value of each field, its name in lower case without spaces as writers differ, and of each own key."""
    require(
        bool(_MAGIC.fullmatch(file.readline(16))),
        f"{name} must be an NRRD file; it is not. Export it again.",
    )
    fields: dict[str, str] = {}
    keys: dict[str, str] = {}
    for line in _lines(file, name):
        if line.startswith("#"):
            continue
        if key := _KEY.fullmatch(line):
            keys[key[1]] = key[2]
            continue
        match = _FIELD.fullmatch(line)
        field = match[1].replace(" ", "").lower() if match else ""
        field = "centerings" if field == "centers" else field  # two names of one field
        spelled = match is not None and match[1].lower() in _SPELLINGS and match[2].startswith(" ")
        require(
            spelled or field in _POINTERS,
            f"{name} must have fields of the NRRD format in its header; got {line[:40]!r}. Export it again.",
        )
        require(
            field not in fields, f"{name} must give {field} once; its header gives it twice. Export it again."
        )
        fields[field] = match[3] if match else ""
    return fields, keys


def _segments(keys: dict[str, str], name: str) -> tuple[tuple[str, int], ...]:
    """Name and value of each segment of a Slicer segmentation, in the file's order."""
    found: dict[int, dict[str, str]] = {}
    for key, value in keys.items():
        if match := _SEGMENT.fullmatch(key):
            found.setdefault(int(match[1]), {})[match[2]] = value.strip()
    for number, segment in found.items():
        value = segment.get("LabelValue", "")
        require(
            bool(segment.get("Name")) and bool(re.fullmatch(r"[0-9]{1,5}", value)),
            f"{name} must give each segment a name and a value; Segment{number} has the name "
            f"{segment.get('Name', '')[:40]!r} and the value {value[:20]!r}. Export it again.",
        )
    return tuple((found[number]["Name"], int(found[number]["LabelValue"])) for number in sorted(found))


def _check_kinds(fields: dict[str, str], segments: tuple[tuple[str, int], ...], name: str) -> None:
    """Refuse several numbers a voxel: colours, vectors, and segments that lie in several layers."""
    kinds = fields.get("kinds", "").split()
    others = [kind for kind in kinds if not re.fullmatch(_WORDS["kinds"], kind, re.IGNORECASE)]
    layered = segments and (others or fields.get("dimension") == "4")
    require(
        not layered,
        f"{name} must have its segments in one layer; some of {', '.join(dict(segments))[:120]} overlap, and "
        "which of them a voxel belongs to is not known. Remove the overlap, or export a label map.",
    )
    what = "colours" if any(map(_COLOURS.fullmatch, others)) else "several numbers a voxel"
    require(
        not others,
        f"{name} must hold one grey value or label value a voxel; its header says {what} (an axis of the "
        f"kind {', '.join(others)[:40]}). Export grey values, or one file a channel.",
    )


def _lines(file: BinaryIO, name: str) -> list[str]:
    """Lines of the header up to the empty line that ends it."""
    lines: list[str] = []
    left = MAX_HEADER_BYTES
    while left > 0:
        line = file.readline(left)
        left -= len(line)
        if not line.endswith(b"\n"):
            break
        text = line.decode("utf-8", "replace").rstrip("\r\n")
        if not text:
            return lines
        lines.append(text)
    raise CaseError(
        f"{name} must end its header with an empty line within {MAX_HEADER_BYTES:,} bytes; it does not. "
        "Copy or export it again."
    )


def _sizes(fields: dict[str, str], name: str) -> tuple[int, int, int]:
    text, dimension = fields.get("sizes", "").strip(), fields.get("dimension", "").strip()
    sizes = tuple(int(size) for size in re.findall(r"[0-9]{1,9}", text))
    require(
        bool(re.fullmatch(r"[0-9]{1,9}(\s+[0-9]{1,9})*", text)) and dimension == str(len(sizes)),
        f"{name} must give as many sizes as its dimension; its header says dimension {dimension[:20]!r}, "
        f"sizes {text[:40]!r}. Export it again.",
    )
    require(
        len(sizes) == 3 and min(sizes) >= 1,
        f"{name} must be one 3-D volume; its header says sizes {text[:40]}. Export one file a modality.",
    )
    return sizes[0], sizes[1], sizes[2]


def _check_axes(fields: dict[str, str], name: str) -> None:
    """Refuse axes that are none of space, and fields in an order that ITK does not read."""
    places = {field: place for place, field in enumerate(fields)}
    for first, later in (("dimension", _OF_THE_AXES), ("space", _OF_THE_SPACE)):
        for field in sorted(later):
            require(
                places[first] < places.get(field.replace(" ", ""), len(places)),
                f"{name} must give its {first} before its {field}; its header gives it later. "
                "Export it again from the viewer.",
            )
    for field, word in _WORDS.items():
        words = fields.get(field, "").split()
        whole = len(words) == 3 and all(re.fullmatch(word, each, re.IGNORECASE) for each in words)
        _check_field(whole, field, fields, name)
    for field in ("labels", "spaceunits"):
        _check_field(bool(_THREE_QUOTED.fullmatch(fields.get(field, ""))), field, fields, name)
    if "measurementframe" in fields:
        _vectors(fields["measurementframe"], 3, name)


def _check_field(holds: bool, field: str, fields: dict[str, str], name: str) -> None:
    require(
        holds or field not in fields,
        f"{name} must have three axes in space, placed by their space directions alone; its header says "
        f"{field}: {fields.get(field, '')[:40]}. Export it again from the viewer.",
    )


def _dtype(fields: dict[str, str], name: str) -> np.dtype[Any]:
    code, order = _TYPE_CODES.get(fields.get("type", "").lower()), fields.get("endian", "").lower()
    require(
        code is not None,
        f"{name} must hold one real number a voxel; its header says type {fields.get('type', '')[:40]!r}. "
        "Export grey values.",
    )
    require(
        order in _ORDERS or (code in ("i1", "u1") and "endian" not in fields),
        f"{name} must say endian: little or big; its header says {order[:20] or 'nothing'!r}. "
        "Export it again.",
    )
    return np.dtype(f"{_ORDERS.get(order, '|')}{code}")


def _affine(fields: dict[str, str], name: str) -> NDArray[np.float64]:
    """Affine from index to RAS+ mm."""
    for field in ("space directions", "space origin"):
        require(
            field.replace(" ", "") in fields,
            f"{name} must have a position in space; its header has no {field!r}. "
            "Export it again from the viewer.",
        )
    space = fields.get("space", "").lower()
    require(
        space in _SPACES,
        f"{name} must use the space left-posterior-superior, right-anterior-superior or "
        f"left-anterior-superior; got {space[:40] or 'none'!r}. Export it again from the viewer.",
    )
    require(
        not fields.keys() & {"spacedimension", "blocksize"},
        f"{name} must have neither a space dimension beside its space nor a block size; its header has. "
        "Export it again from the viewer.",
    )
    units = re.findall(r'"([^"]*)"', fields.get("spaceunits", ""))
    require(
        set(units) <= {"mm", ""},
        f"{name} must give its geometry in mm; its header says {fields.get('spaceunits', '')[:40]}. "
        "Export it again in mm.",
    )
    affine = np.eye(4)
    affine[:3, :3] = _vectors(fields["spacedirections"], 3, name).T
    affine[:3, 3] = _vectors(fields["spaceorigin"], 1, name)[0]
    return np.asarray(_SPACES[space] @ affine)


def _vectors(text: str, count: int, name: str) -> NDArray[np.float64]:
    numbers = (
        [float(number) for number in re.findall(NUMBER, text)] if _VECTORS.fullmatch(text.strip()) else []
    )
    require(
        len(numbers) == 3 * count and all(map(isfinite, numbers)),
        f"{name} must give {count} vectors of three numbers; its header says {text[:60]!r}. Export it again.",
    )
    return np.array(numbers).reshape(count, 3)
