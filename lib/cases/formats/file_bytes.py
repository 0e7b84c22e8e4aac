"""Bytes of a file that anyone may have written: only of a regular file, and unpacked in bounded steps."""

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
PIECE = 64 * 1024  # bytes of a packed file that are looked at together
MAX_GZIP_MEMBERS = (
    65_536  # 4 GB in the blocks of 64 kB that bgzip writes; a flood of empty ones takes seconds
)
_GZIP = 16 + zlib.MAX_WBITS  # zlib then reads a gzip member, and compares its checksum and length


@contextmanager
def regular_file(path: Path, name: str) -> Iterator[BinaryIO]:
    """A file to read; a device, a pipe or a socket, which may never end, is not opened.

    Args:
        path: A link counts as the file that it leads to.
        name: The file in sentences.

    Raises:
        CaseError: If it is no regular file or cannot be read.
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
    """The content of a gzip file from where `packed` stands; at most `PIECE` of either is held.

    Members one after another are one content, as gzip says; each one's checksum and length are verified once
    it is read to its end, and nothing else may follow the last one.
    """
    return io.BufferedReader(_Gunzipped(packed), PIECE)


def skip(content: BinaryIO, count: int) -> None:
    """Read on without keeping anything.

    Raises:
        EOFError: If there are fewer bytes.
    """
    while count:
        piece = content.read(min(count, PIECE))
        if not piece:
            raise EOFError("there is less than its header says")
        count -= len(piece)


def _opened(path: Path) -> BinaryIO | None:
    """The file if it is a regular one when it is looked at, and still when it is open."""
    if not S_ISREG(os.stat(path).st_mode):
        return None
    handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    if S_ISREG(os.fstat(handle).st_mode):
        return os.fdopen(handle, "rb")
    os.close(handle)
    return None


class _Gunzipped(io.RawIOBase):
    """Unpacked bytes of gzip members; raises EOFError or zlib.error where they are damaged."""

    def __init__(self, packed: BinaryIO) -> None:
        self._packed, self._rest, self._members = packed, b"", 1
        self._member = zlib.decompressobj(_GZIP)

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
                raise EOFError("the gzip data end early")

    def _begin_member(self) -> None:
        self._members += 1
        if self._members > MAX_GZIP_MEMBERS:
            raise EOFError(f"it has more than {MAX_GZIP_MEMBERS:,} gzip members")
        self._member = zlib.decompressobj(_GZIP)
