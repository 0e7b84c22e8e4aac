"""DICOM files read within bounds, so that a damaged or hostile one costs little memory and time."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, BinaryIO

import pydicom
from pydicom.dataset import FileDataset
from pydicom.errors import InvalidDicomError

from lib.cases.case import CaseError
from lib.cases.unexpected_errors import as_case_error

SLICE_HEADER_BYTES = 1024**2  # a slice's header takes some kilobytes
SLICE_HEADER_READS = 50_000  # an element takes two or three; this many take half a second


class NoDicom(CaseError):
    """A file of another kind."""


class _Bounded:
    """A stream that gives so many bytes, in so many pieces, and no more; what is skipped does not count."""

    def __init__(self, stream: BinaryIO, name: str, most: int, reads: int) -> None:
        self.seek, self.tell = stream.seek, stream.tell
        self._stream, self._name, self._left, self._reads = stream, name, most, reads

    def read(self, size: int = -1) -> bytes:
        if size < 0:  # pydicom asks for all that is left only to inflate it, which has no bound
            raise CaseError(
                f"{self._name} must not be deflated as a whole; it is. Send it in another transfer syntax."
            )
        data = self._stream.read(min(size, self._left + 1))
        self._left -= len(data)
        self._reads -= 1
        if min(self._left, self._reads) < 0:
            raise CaseError(
                f"{self._name} must have a header of usual length; its own has no end. Export it again."
            )
        return data


def read_header(path: Path, *, tags: Sequence[str] | None = None) -> FileDataset:
    """The header of a DICOM file, without its pixels.

    Args:
        path: Of the file.
        tags: Keywords of the elements wanted; by default all.

    Raises:
        NoDicom: If it is a file of another kind.
        CaseError: If it cannot be read, or its header has no end.
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
        raise CaseError(f"{path.name} must be readable; {err.strerror}. Look at the disk.") from err


def read_within(stream: BinaryIO, name: str, *, most: int, reads: int, **options: Any) -> FileDataset:
    """A DICOM data set from a stream, of which at most so much is read.

    Args:
        stream: At its beginning.
        name: Of the file, for the error.
        most: Bytes, those that are skipped not counted.
        reads: Pieces that they are read in.
        options: Of `pydicom.dcmread`.

    Raises:
        NoDicom: If it is a file of another kind.
        CaseError: If it cannot be read.
    """
    with as_case_error(name):
        try:
            return pydicom.dcmread(_Bounded(stream, name, most, reads), **options)  # type: ignore[arg-type]
        except InvalidDicomError as err:
            raise NoDicom(f"{name} must be a DICOM file; it is of another kind.") from err
