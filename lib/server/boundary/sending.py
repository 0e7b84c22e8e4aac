"""File responses: an opened file is sent whole, even if it is removed or replaced meanwhile."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from fastapi.responses import FileResponse
from starlette.types import Receive, Scope, Send

from lib.runtime.temporary import is_temporary
from lib.server.errors import ClientError


class HeldFile(FileResponse):
    """A response that keeps its file open from the start; a cache may remove the file meanwhile.

    A temporary file is removed at once. The path of an open file under `/dev/fd` works even after that.
    """

    def __init__(self, path: str | os.PathLike[str], **options: Any) -> None:
        """Open the file.

        Args:
            path: Path of the file.
            options: Options of `FileResponse`.

        Raises:
            ClientError: 503 if the file was removed just before, 409 if the server may not read it.
        """
        try:
            self._file = Path(path).open("rb")
        except FileNotFoundError as err:
            raise ClientError("the requested file has just been removed. Ask again.", status=503) from err
        except PermissionError as err:
            raise ClientError(
                f"{Path(path).name} must be readable by the server's user; it is not. Change its "
                "permissions.",
                status=409,
            ) from err
        if is_temporary(Path(path)):
            Path(path).unlink(missing_ok=True)
        number = self._file.fileno()
        super().__init__(f"/dev/fd/{number}", stat_result=os.fstat(number), **options)

    @classmethod
    def of(cls, answer: FileResponse) -> HeldFile:
        """Open the file of an endpoint's response now."""
        return cls(
            answer.path, media_type=answer.media_type, filename=answer.filename, background=answer.background
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the file."""
        with self._file:
            await super().__call__(scope, receive, send)
