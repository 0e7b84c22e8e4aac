"""Files on their way to a client: what was opened is sent whole, whatever happens to its name meanwhile."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from fastapi.responses import FileResponse
from starlette.types import Receive, Scope, Send

from lib.runtime.temporary import is_temporary
from lib.server.errors import ClientError


class HeldFile(FileResponse):
    """A file that is open from the start; caches may remove it, and a temporary one is removed at once.

    The name of an open file under `/dev/fd` reaches it also when it has no other name any more.
    """

    def __init__(self, path: str | os.PathLike[str], **options: Any) -> None:
        """Open it.

        Args:
            path: The file.
            options: As `FileResponse` takes them.

        Raises:
            Refusal: If it was removed just before.
        """
        try:
            self._file = Path(path).open("rb")
        except FileNotFoundError as err:
            raise ClientError("what was asked for has just been removed. Ask again.", status=503) from err
        if is_temporary(Path(path)):
            Path(path).unlink(missing_ok=True)
        number = self._file.fileno()
        super().__init__(f"/dev/fd/{number}", stat_result=os.fstat(number), **options)

    @classmethod
    def of(cls, answer: FileResponse) -> HeldFile:
        """An endpoint's answer, opened now."""
        return cls(
            answer.path, media_type=answer.media_type, filename=answer.filename, background=answer.background
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send it."""
        with self._file:
            await super().__call__(scope, receive, send)
