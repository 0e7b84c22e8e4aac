"""Files of our own that are read back: a damaged one is set aside and made again, or refused."""

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

from pydantic import TypeAdapter, ValidationError

from lib.runtime.errors import UserError

logger = logging.getLogger(__name__)
MOST_BYTES = 500_000_000  # of a document; the largest that is written, for 50,000 cases, has a tenth
UNREADABLE = (  # what NumPy and JSON raise for a file that is damaged or of another kind
    OSError,
    ValueError,
    TypeError,
    LookupError,
    AttributeError,
    EOFError,
    BadZipFile,
    RecursionError,
)
_ENDLESS = re.compile(rb"NaN|Infinity|[eE]\+?\d{3}")  # what may be read as a number that is not finite
Kind = TypeVar("Kind")


class Unavailable(UserError):
    """What we keep cannot be used now; who needs it is told so until somebody has mended it."""


class Damaged(Unavailable):
    """A file of our own that does not hold what we write there."""


def read_document(path: Path, kind: type[Kind]) -> Kind:
    """What a JSON file of our own says, checked down to the last value.

    Raises:
        FileNotFoundError: If there is none.
        Damaged: If it does not say anything of this kind; the message is the reason.
    """
    content = _bytes_of(path)
    try:
        value: Kind = _adapter(kind).validate_json(content, strict=True)  # type: ignore[arg-type]
        if _ENDLESS.search(content):
            json.dumps(value, allow_nan=False, default=str)
    except ValidationError as err:
        first = err.errors(include_url=False, include_input=False)[0]
        where = ".".join(map(str, first["loc"]))[:80]
        raise Damaged(f"{first['msg']} (at {where})" if where else first["msg"]) from err
    except ValueError as err:
        raise Damaged("it holds a number that is not finite") from err
    return value


def recalled(path: Path, kind: type[Kind], *, again: str) -> Kind | None:
    """What a file says that can be made again; None where there is none, or a damaged one was set aside.

    Args:
        path: Of the JSON file.
        kind: Type of what it says.
        again: What follows from its loss, as a sentence for the log.
    """
    try:
        return read_document(path, kind)
    except FileNotFoundError:
        return None
    except Damaged as err:
        set_aside(path, f"{err}. {again}")
        return None


def set_aside(path: Path, why: str) -> None:
    """Give a damaged file or folder another name, and say so; it is kept for whoever wants to look."""
    aside = path.with_name(f"{path.name}.damaged-{datetime.now():%Y%m%d-%H%M%S-%f}")
    try:
        path.rename(aside)
    except FileNotFoundError:  # another process did
        return
    logger.warning("%s was damaged and is now %s: %s", path, aside.name, why)


def as_damaged(path: Path, reason: object, *, restore: str) -> Damaged:
    """The refusal of a file that cannot be made again: what it is, why, and what to do."""
    return Damaged(f"{path} must be whole; it is damaged: {reason}. {restore}")


def _bytes_of(path: Path) -> bytes:
    try:
        found = path.stat()
        if not S_ISREG(found.st_mode):
            raise Damaged("it is no file")
        if found.st_size > MOST_BYTES:
            raise Damaged(f"it has {found.st_size / 1e6:,.0f} MB; at most {MOST_BYTES / 1e6:,.0f} are read")
        return path.read_bytes()
    except PermissionError as err:
        raise Damaged("this user may not read it") from err


@cache
def _adapter(kind: Any) -> TypeAdapter[Any]:
    return TypeAdapter(kind)
