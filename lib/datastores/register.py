"""datastore_v2.json: which labels and notes there are, safe between processes and against a kill."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from filelock import FileLock

from lib.atomic import replacing

Objects = dict[str, dict[str, Any]]


class Register:
    """The file that MONAI Label keeps its labels in, with two promises more.

    It is replaced atomically, so that it is readable after a kill at any moment; and it is read again under
    its lock before each write, so that one process never erases what another one wrote.
    """

    def __init__(self, path: Path) -> None:
        """Use the file at `path`; it need not be there."""
        self.path = path
        self._lock = FileLock(f"{path}.lock")
        self._stamp: tuple[int, int, int] | None = None
        self._content: dict[str, Any] = _empty()

    @property
    def content(self) -> dict[str, Any]:
        """What the file says now; read again only when it changed. Not to be modified."""
        try:
            stat = self.path.stat()
        except FileNotFoundError:
            return self._content if self._stamp is None else _empty()
        stamp = (stat.st_ino, stat.st_size, stat.st_mtime_ns)
        if stamp != self._stamp:
            self._content, self._stamp = self._read(), stamp
        return self._content

    @property
    def objects(self) -> Objects:
        """Record of each image that has one."""
        objects: Objects = self.content["objects"]
        return objects

    def change(
        self, edit: Callable[[dict[str, Any]], None], *, then: Callable[[], None] = lambda: None
    ) -> None:
        """Apply an edit to the newest content and write it, whole or not at all.

        Args:
            edit: Changes the content in place; an exception leaves the file as it was.
            then: Done once it is written, before anyone else may change it.

        Raises:
            ValueError: If the edited content is not JSON; NaN and infinity are not.
        """
        with self._lock:
            content = self._read()
            edit(content)
            text = json.dumps(content, allow_nan=False)
            with replacing(self.path) as part:
                part.write_text(text)
            then()

    def _read(self) -> dict[str, Any]:
        try:
            content = json.loads(self.path.read_text())
        except FileNotFoundError:
            return _empty()
        if not isinstance(content, dict) or not isinstance(content.get("objects"), dict):
            raise ValueError(
                f"{self.path} must be a datastore of MONAI Label; it is another file. Move it away."
            )
        return content


def _empty() -> dict[str, Any]:
    return {"name": "", "description": "", "objects": {}}
