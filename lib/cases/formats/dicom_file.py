"""Bounded reading of DICOM files, so that a damaged or hostile file costs little memory and time."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, BinaryIO

import pydicom
from pydicom.dataset import FileDataset
from pydicom.errors import InvalidDicomError

from lib.cases.case import CaseError
from lib.cases.unexpected_errors import as_case_error

SLICE_HEADER_BYTES = 1024**2  # a usual header has a few kilobytes
SLICE_HEADER_READS = 50_000  # reads; an element takes two or three, and all take half a second


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
    """Header of a DICOM file, without its pixels.

    Args:
        path: Path of the file.
        tags: Keywords or numbers of the wanted elements; by default all.

    Raises:
        NoDicom: If the file is not a DICOM file.
        CaseError: If the file cannot be read, or its header does not end.
    """
    try:
        with path.open("rb") as stream:
            return read_within(
                stream,
                path.name,
                most=SLICE_HEADER_BYTES,
                reads=SLICE_HEADER_READS,
                stop_before_pixels=True,
                specific_tags=tags,
            )
    except OSError as err:
        raise CaseError(f"{path.name} must be readable; {err.strerror}. Check the disk.") from err


def read_within(stream: BinaryIO, name: str, *, most: int, reads: int, **options: Any) -> FileDataset:
    """Read a DICOM data set from a stream, with limits.

    Args:
        stream: Stream at its start.
        name: Name of the file, for errors.
        most: Largest number of bytes to read; skipped bytes do not count.
        reads: Largest number of reads.
        options: Options of `pydicom.dcmread`.

    Raises:
        NoDicom: If the stream is not a DICOM file.
        CaseError: If the data set cannot be read within the limits.
    """
    with as_case_error(name):
        try:
            return pydicom.dcmread(_Bounded(stream, name, most, reads), **options)  # type: ignore[arg-type]
        except InvalidDicomError as err:
            raise NoDicom(f"{name} must be a DICOM file; it is of another kind.") from err
