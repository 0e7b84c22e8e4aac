"""What a client is told of an error of the operating system: one table of errno, status and sentence."""

from __future__ import annotations

import errno
import sqlite3
from typing import NamedTuple


class Answer(NamedTuple):
    """Answer to an error that people can correct outside the program.

    Attributes:
        status: HTTP status.
        sentence: What must hold, what was found and what to do; names no path, which a client need not know.
    """

    status: int
    sentence: str


NO_ROOM = Answer(
    507, "the server's disk must have room; it has none left. Nothing was stored. Make room there."
)
NOT_ALLOWED = Answer(
    507,
    "the server must be allowed to read and write its folders; it is not. Nothing was stored. "
    "See --conf work_dir.",
)
NAME_TOO_LONG = Answer(
    400, "a name must have at most 255 bytes; a longer one was sent. Nothing was stored. Send a shorter name."
)
GONE = Answer(
    503,
    "a file that the server needs must be there; it was removed, or its disk is not connected. Ask again; if "
    "that lasts, the server's log says which file.",
)
OVERLOADED = Answer(
    503, "the server must have memory and open files left; it has none. Nothing was stored. Ask again."
)

_BY_ERRNO = {
    **dict.fromkeys((errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EMLINK), NO_ROOM),
    **dict.fromkeys((errno.EROFS, errno.EACCES, errno.EPERM), NOT_ALLOWED),
    **dict.fromkeys((errno.ENOENT, errno.ENOTDIR, errno.ESTALE, errno.ENOTCONN, errno.ENODEV), GONE),
    **dict.fromkeys((errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EAGAIN), OVERLOADED),
    errno.ENAMETOOLONG: NAME_TOO_LONG,
}
_BY_SQLITE_CODE = {
    sqlite3.SQLITE_FULL: NO_ROOM,
    **dict.fromkeys((sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PERM), NOT_ALLOWED),
}


def answer_to(error: BaseException | None) -> Answer | None:
    """Answer to an error of the operating system or of SQLite; None for any other error."""
    if isinstance(error, OSError):
        return _BY_ERRNO.get(error.errno or 0)
    if isinstance(error, sqlite3.Error):
        code = getattr(error, "sqlite_errorcode", 0)
        return _BY_SQLITE_CODE.get(code & 0xFF)  # the rest says where in SQLite it happened
    return None
