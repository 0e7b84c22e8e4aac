"""Bounded reading of DICOM files, so that a damaged or hostile file costs little memory and time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from struct import unpack
from typing import Any, BinaryIO

from pydicom.dataelem import DataElement, RawDataElement
from pydicom.dataset import Dataset, FileDataset
from pydicom.errors import InvalidDicomError
from pydicom.filereader import read_partial
from pydicom.tag import Tag
from pydicom.values import converters

from lib.cases.case import CaseError
from lib.cases.formats.pydicom_versions import syntax_as_read
from lib.cases.unexpected_errors import as_case_error

SLICE_HEADER_BYTES = 1024**2  # a usual header has a few kilobytes
SLICE_HEADER_READS = 50_000  # reads; an element takes two or three, and all take half a second
FRAMES_HEADER_BYTES = 64 * 1024**2  # of a multi-frame object: Siemens writes 16 kilobytes a frame
FRAMES_HEADER_READS = 1_000_000
FRAMES_ITEMS = 500_000  # a frame has ten to forty
PREAMBLE = 128  # bytes before the letters DICM
_FUNCTIONAL_GROUPS = (0x52009229, 0x52009230)
_OTHER_CONTENT = (  # thousands of items in objects that are no images, after all that names such an object
    0x00041220,  # files of a medium
    0x0040A730,  # report
    0x00660002,  # surfaces
    0x006A0002,  # annotations
    0x00700001,  # presentation state
    0x30060039,  # contours of radiotherapy
)
_PIXELS = (0x7FE00008, 0x7FE00009, 0x7FE00010)
_PIXEL_GROUP = 0x7FE0
_ITEM = b"\xfe\xff\x00\xe0"
_FIRST_GROUPS = (0x0002, 0x0008)  # with which a file without a preamble begins
_LONGEST_FIRST_FIELD = 1024  # bytes


class NoDicom(CaseError):
    """The file is not a DICOM file."""


class _Bounded:
    """Stream with a limit on bytes and on reads; skipped bytes do not count."""

    def __init__(self, stream: BinaryIO, name: str, most: int, reads: int) -> None:
        self.seek, self.tell = stream.seek, stream.tell
        self._stream, self._name, self._left, self._reads = stream, name, most, reads

    def read(self, size: int = -1) -> bytes:
        if size < 0:  # pydicom reads the rest at once only to inflate it, without a limit
            raise CaseError(
                f"{self._name} must not be deflated as a whole; it is. Send it in another transfer syntax."
            )
        data = self._stream.read(min(size, self._left + 1))
        self._left -= len(data)
        self._reads -= 1
        if min(self._left, self._reads) < 0:
            raise CaseError(
                f"{self._name} must have a header of usual length; its header does not end. Export it again."
            )
        return data


def read_header(path: Path, *, tags: Sequence[str | int] | None = None) -> FileDataset:
    """Header of a DICOM file, without its pixels and without the functional groups of its frames.

    Of an object that is no image, such as a report, the header ends before its content.

    Args:
        path: Path of the file.
        tags: Keywords or numbers of the wanted elements; by default all.

    Raises:
        NoDicom: If the file is not a DICOM file.
        CaseError: If the file cannot be read, or its header does not end.
    """
    return _read_file(
        path,
        tags,
        most=SLICE_HEADER_BYTES,
        reads=SLICE_HEADER_READS,
        stop_when=lambda tag, *_: tag in (*_FUNCTIONAL_GROUPS, *_OTHER_CONTENT, *_PIXELS),
    )


def read_frames_header(path: Path, *, tags: Sequence[str | int] | None = None) -> FileDataset:
    """Header of a multi-frame DICOM file with the functional groups of its frames; see `read_header`."""
    header = _read_file(
        path,
        tags,
        most=FRAMES_HEADER_BYTES,
        reads=FRAMES_HEADER_READS,
        stop_when=lambda tag, *_: tag in _PIXELS,
    )
    check_fields(header, path.name, most=FRAMES_HEADER_BYTES, items=FRAMES_ITEMS)
    return header


def read_pixels(path: Path, *, pixel_bytes: int) -> FileDataset:
    """DICOM file with its pixels as they are stored.

    Args:
        path: Path of the file.
        pixel_bytes: Bytes of its pixels, unpacked; a file with twice as many is refused.

    Raises:
        CaseError: If the file cannot be read within the limits.
    """
    return _read_file(path, None, most=FRAMES_HEADER_BYTES + 2 * pixel_bytes, reads=FRAMES_HEADER_READS)


def read_within(stream: BinaryIO, name: str, *, most: int, reads: int, **options: Any) -> FileDataset:
    """Read a DICOM data set from a stream, with limits.

    A file of old without a preamble is read too, if it begins as a DICOM file does and says what it is.

    Args:
        stream: Stream at its start.
        name: Name of the file, for errors.
        most: Largest number of bytes to read; skipped bytes do not count.
        reads: Largest number of reads.
        options: Options of pydicom's `read_partial`.

    Raises:
        NoDicom: If the stream is not a DICOM file.
        CaseError: If the data set cannot be read within the limits.
    """
    bare = _begins_without_preamble(stream.read(PREAMBLE + 4))
    stream.seek(0)
    try:
        dataset = _parsed(_Bounded(stream, name, most, reads), name, force=bare, **options)
    except CaseError as err:
        if bare:  # it only begins like one
            raise _no_dicom(name) from err
        raise
    if bare and not _says_what_it_is(dataset):
        raise _no_dicom(name)
    return dataset


def _parsed(stream: Any, name: str, **options: Any) -> FileDataset:
    with as_case_error(name):
        try:
            dataset: FileDataset = read_partial(stream, **options)
        except InvalidDicomError as err:
            raise _no_dicom(name) from err
        if "TransferSyntaxUID" not in dataset.file_meta:
            dataset.file_meta.TransferSyntaxUID = syntax_as_read(dataset)
        return dataset


def check_fields(dataset: Dataset, name: str, *, most: int, items: int) -> None:
    """Refuse a field, other than the pixels, that would take minutes to parse.

    Args:
        dataset: Data set whose fields are not parsed yet.
        name: Name of the file, for errors.
        most: Largest number of bytes of a field.
        items: Largest number of items of a sequence, at all depths.

    Raises:
        CaseError: If a field is longer.
    """
    for field in map(dataset.get_item, list(dataset.keys())):
        if _is_too_long(field, most, items):
            raise CaseError(
                f"{name} must have a header of usual length; its field {field.tag} takes "
                f"{len(field.value):,} bytes. Save or export it again."
            )


def _is_too_long(field: DataElement | RawDataElement, most: int, items: int) -> bool:
    if not isinstance(field, RawDataElement) or field.tag.group == _PIXEL_GROUP or not field.value:
        return False
    return len(field.value) > most or field.value.count(_ITEM) > items


def _read_file(
    path: Path,
    tags: Sequence[str | int] | None,
    *,
    most: int,
    reads: int,
    stop_when: Callable[..., bool] | None = None,
) -> FileDataset:
    wanted = None if tags is None else [Tag(tag) for tag in tags]
    try:
        with path.open("rb") as stream:
            return read_within(
                stream, path.name, most=most, reads=reads, stop_when=stop_when, specific_tags=wanted
            )
    except OSError as err:
        raise CaseError(f"{path.name} must be readable; {err.strerror}. Check the disk.") from err


def _begins_without_preamble(head: bytes) -> bool:
    """Whether a file that lacks the letters DICM begins with a DICOM element, which no text does."""
    if len(head) < PREAMBLE or head[PREAMBLE:] == b"DICM":
        return False
    explicit = head[4:6].decode("latin-1") in converters
    (length,) = unpack("<I", head[4:8])
    for order, possible in (("<", explicit or length <= _LONGEST_FIRST_FIELD), (">", explicit)):
        group, element = unpack(f"{order}HH", head[:4])
        if group in _FIRST_GROUPS and element < 0x100:
            return possible
    return False


def _says_what_it_is(dataset: Dataset) -> bool:
    return "SOPClassUID" in dataset or ("Rows" in dataset and "Columns" in dataset)


def _no_dicom(name: str) -> NoDicom:
    return NoDicom(f"{name} must be a DICOM file; it is of another kind.")
