"""The program's own files: a damaged file is set aside and made again, or refused."""

from __future__ import annotations

import json
import logging
import re
from datetime import datetime
from functools import cache
from pathlib import Path
from stat import S_ISREG
from typing import Any, TypeVar
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray
from pydantic import TypeAdapter, ValidationError

from lib.runtime.errors import UserError

logger = logging.getLogger(__name__)
MAX_DOCUMENT_BYTES = 500_000_000  # a tenth is enough for the largest document, with 50,000 cases
UNREADABLE = (  # errors of NumPy and JSON for a damaged file or a file of another kind
    OSError,
    ValueError,
    TypeError,
    LookupError,
    AttributeError,
    EOFError,
    BadZipFile,
    RecursionError,
)
_MAYBE_INFINITE = re.compile(rb"NaN|Infinity|[eE]\+?\d{3}")  # may be parsed as a number that is not finite
Kind = TypeVar("Kind")


class Unavailable(UserError):
    """The program's own data cannot be used now; requests for it fail until somebody repairs it."""


class NoRoom(Unavailable):
    """The disk of the program's own data is full; nothing was written."""


class Damaged(Unavailable):
    """One of the program's own files does not hold what the program writes there."""


def read_arrays(path: Path) -> dict[str, NDArray[Any]]:
    """Arrays of an .npz file, read into memory; raises one of `UNREADABLE` if it is damaged.

    `np.load(path)` itself would leave a damaged file open.
    """
    with path.open("rb") as stream, np.load(stream) as stored:
        return dict(stored)


def map_array(path: Path) -> Any:
    """Array of an .npy file, memory-mapped read-only; raises one of `UNREADABLE` if the file is damaged."""
    return np.lib.format.open_memmap(path, mode="r")


def read_document(path: Path, kind: type[Kind]) -> Kind:
    """Content of one of the program's JSON files, with every value checked against `kind`.

    Raises:
        FileNotFoundError: If there is no file.
        Damaged: If the content is not of this kind; the message is the reason.
    """
    return parse_document(_bytes_of(path), kind)


def parse_document(content: bytes, kind: type[Kind]) -> Kind:
    """Value of a JSON text, checked against `kind`; also for a writer, before it replaces a file.

    Raises:
        Damaged: If the content is too large or not of this kind; the message is the reason.
    """
    if len(content) > MAX_DOCUMENT_BYTES:
        raise Damaged(_too_large(len(content)))
    try:
        value: Kind = _adapter(kind).validate_json(content, strict=True)  # type: ignore[arg-type]
        if _MAYBE_INFINITE.search(content):
            json.dumps(value, allow_nan=False, default=str)
    except ValidationError as err:
        first = err.errors(include_url=False, include_input=False)[0]
        where = ".".join(map(str, first["loc"]))[:80]
        raise Damaged(f"{first['msg']} (at {where})" if where else first["msg"]) from err
    except ValueError as err:
        raise Damaged("it holds a number that is not finite") from err
    return value


def read_or_set_aside(path: Path, kind: type[Kind], *, consequence: str) -> Kind | None:
    """Content of a JSON file that can be made again; None if it is missing, or damaged and now set aside.

    Args:
        path: Path of the JSON file.
        kind: Type of the content.
        consequence: Consequence of the loss, as a sentence for the log.
    """
    try:
        return read_document(path, kind)
    except FileNotFoundError:
        return None
    except Damaged as err:
        set_aside(path, f"{err}. {consequence}")
        return None


def set_aside(path: Path, why: str) -> None:
    """Rename a damaged file or folder and log it; it is kept for inspection."""
    aside = path.with_name(f"{path.name}.damaged-{datetime.now():%Y%m%d-%H%M%S-%f}")
    try:
        path.rename(aside)
    except FileNotFoundError:  # another process has set it aside
        return
    logger.warning("%s was damaged and is now %s: %s", path, aside.name, why)


def as_damaged(path: Path, reason: object, *, restore: str) -> Damaged:
    """Error for a damaged file that cannot be made again: which file, why, and what to do."""
    return Damaged(f"{path} must be whole; it is damaged: {reason}. {restore}")


def _bytes_of(path: Path) -> bytes:
    try:
        found = path.stat()
        if not S_ISREG(found.st_mode):
            raise Damaged("it is no file")
        if found.st_size > MAX_DOCUMENT_BYTES:
            raise Damaged(_too_large(found.st_size))
        return path.read_bytes()
    except PermissionError as err:
        raise Damaged("this user may not read it") from err


def _too_large(size: int) -> str:
    return f"it has {size / 1e6:,.0f} MB; at most {MAX_DOCUMENT_BYTES / 1e6:,.0f} are read"


@cache
def _adapter(kind: Any) -> TypeAdapter[Any]:
    return TypeAdapter(kind)
