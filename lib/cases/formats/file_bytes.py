"""Bytes of untrusted files: regular files only, and gzip or zlib unpacked in bounded steps."""

from __future__ import annotations

import io
import os
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from stat import S_ISREG
from typing import BinaryIO

from lib.cases.case import CaseError

GZIP_START = b"\x1f\x8b"
PIECE = 64 * 1024  # bytes of a packed file in one step
MAX_GZIP_MEMBERS = 65_536  # 4 GB in bgzip's blocks of 64 kB; so many empty members take seconds
_GZIP = 16 + zlib.MAX_WBITS  # makes zlib read a gzip member and verify its checksum and length
_ZLIB = zlib.MAX_WBITS  # makes zlib read its own format and verify the checksum


@contextmanager
def regular_file(path: Path, name: str) -> Iterator[BinaryIO]:
    """Open a regular file for reading; a device, pipe or socket may never end and is refused.

    Args:
        path: Path of the file; links are followed.
        name: Name of the file in messages.

    Raises:
        CaseError: If the path is no regular file or cannot be read.
    """
    try:
        stream = _opened(path)
    except (OSError, ValueError) as err:  # ValueError: a path with a NUL
        reason = err.strerror if isinstance(err, OSError) else "its path has a NUL"
        raise CaseError(f"{name} must be there and readable; {reason}. Copy or export it again.") from err
    if stream is None:
        raise CaseError(f"{name} must be a regular file; it is a folder, a pipe or a device. Replace it.")
    with stream:
        yield stream


def gunzipped(packed: BinaryIO) -> BinaryIO:
    """Unpacked content of a gzip file from the present position; at most `PIECE` bytes are buffered.

    Several members form one content, as the gzip format says. The checksum and length of each member are
    verified at its end, and nothing may follow the last member.
    """
    return io.BufferedReader(_Unpacked(packed, _GZIP, MAX_GZIP_MEMBERS), PIECE)


def inflated(packed: BinaryIO) -> BinaryIO:
    """Unpacked content of one zlib stream, under the same limits as `gunzipped`."""
    return io.BufferedReader(_Unpacked(packed, _ZLIB, 1), PIECE)


def skip(content: BinaryIO, count: int) -> None:
    """Read bytes and drop them.

    Raises:
        EOFError: If the content ends before `count` bytes.
    """
    while count:
        piece = content.read(min(count, PIECE))
        if not piece:
            raise EOFError("there is less than its header says")
        count -= len(piece)


def _opened(path: Path) -> BinaryIO | None:
    """The open file if it is a regular file, both before and after opening; None otherwise."""
    if not S_ISREG(os.stat(path).st_mode):
        return None
    handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    if S_ISREG(os.fstat(handle).st_mode):
        return os.fdopen(handle, "rb")
    os.close(handle)
    return None


class _Unpacked(io.RawIOBase):
    """Unpacked bytes of gzip members or of a zlib stream; EOFError or zlib.error if they are damaged."""

    def __init__(self, packed: BinaryIO, window: int, most: int) -> None:
        self._packed, self._rest, self._members = packed, b"", 1
        self._window, self._most = window, most
        self._member = zlib.decompressobj(window)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: bytearray | memoryview) -> int:  # type: ignore[override]
        while True:
            self._rest = self._rest or self._packed.read(PIECE)
            if self._member.eof:
                if not self._rest:
                    return 0
                self._begin_member()
            at_end = not self._rest
            piece = self._member.decompress(self._rest, len(buffer))
            self._rest = self._member.unconsumed_tail or self._member.unused_data
            if piece:
                buffer[: len(piece)] = piece
                return len(piece)
            if at_end and not self._member.eof:
                raise EOFError("the packed data end early")

    def _begin_member(self) -> None:
        self._members += 1
        if self._members > self._most:
            raise EOFError(f"more follows than {self._most:,} packed streams")
        self._member = zlib.decompressobj(self._window)
