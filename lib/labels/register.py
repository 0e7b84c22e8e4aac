"""Register of the notes, datastore_v2.json: safe between processes and against kills."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NotRequired

from filelock import FileLock
from pydantic import ConfigDict
from typing_extensions import TypedDict

from lib.runtime.errors import UserError
from lib.runtime.files import replacing
from lib.runtime.own_files import Damaged, as_damaged, parse_document, read_document

_RESTORE_REGISTER = (
    "It says what is noted with the cases, and what the labels of an earlier server mean: restore it from a "
    "backup. Move it away if there is none."
)

Objects = dict[str, dict[str, Any]]


class _Entry(TypedDict, total=False):
    __pydantic_config__ = ConfigDict(extra="allow")  # type: ignore[misc]  # pydantic reads it
    ext: str
    info: dict[str, Any]


class _Record(TypedDict, total=False):
    __pydantic_config__ = ConfigDict(extra="allow")  # type: ignore[misc]
    image: _Entry
    labels: dict[str, _Entry]


class _Content(TypedDict):
    __pydantic_config__ = ConfigDict(extra="allow")  # type: ignore[misc]
    objects: dict[str, _Record]
    name: NotRequired[str]
    description: NotRequired[str]


Edit = Callable[[dict[str, Any]], None]


class Register:
    """MONAI Label's register, where this server keeps notes on cases; labels have versions of their own.

    The file is replaced atomically, so it stays readable after a kill at any moment. Each write reads the
    file again under a lock first, so one process never erases the entries of another. Labels that an earlier
    server recorded in it stay recorded.
    """

    def __init__(self, path: Path) -> None:
        """Use the file at `path`; it need not exist."""
        self.path = path
        self._lock = FileLock(f"{path}.lock")
        self._stamp: tuple[int, int, int] | None = None
        self._content: dict[str, Any] = _empty()

    @property
    def content(self) -> dict[str, Any]:
        """Current content of the file, read again only when it changed; callers must not modify it.

        Raises:
            Damaged: If the file cannot be read.
        """
        try:
            stamp = _stamp_of(self.path)
        except FileNotFoundError:
            return self._content if self._stamp is None else _empty()
        if stamp != self._stamp:
            self._content, self._stamp = self._read(), stamp
        return self._content

    @property
    def objects(self) -> Objects:
        """Records by case id."""
        objects: Objects = self.content["objects"]
        return objects

    def notes_of(self, case_id: str) -> dict[str, Any]:
        """Notes on a case."""
        notes: dict[str, Any] = self.objects.get(case_id, {}).get("image", {}).get("info", {})
        return notes

    def note(self, case_id: str, notes: dict[str, Any]) -> None:
        """Store notes on a case."""

        def apply(content: dict[str, Any]) -> None:
            record = content["objects"].setdefault(case_id, {})
            record.setdefault("image", {}).setdefault("info", {}).update(notes)

        self.change(apply)

    @property
    def title(self) -> dict[str, Any]:
        """Name and description that a user gave the studies, if any."""
        return {key: self.content[key] for key in ("name", "description") if key in self.content}

    def set_title(self, **title: str) -> None:
        """Store the `name` or `description` of the studies."""
        self.change(lambda content: content.update(title))

    def check(self) -> None:
        """Check that the file can be used, before anything depends on it.

        Raises:
            Damaged: If the file cannot be used.
        """
        self._read()

    def change(self, edit: Edit) -> None:
        """Apply an edit to the newest content and write the file, completely or not at all.

        Args:
            edit: Changes the content in place. If it raises, the file stays unchanged.

        Raises:
            ValueError: If the edited content is not JSON; NaN and infinity are not JSON.
            UserError: If the edited content could not be read again; every later request would fail then.
            Damaged: If the file cannot be read.
            OSError: If the file cannot be written; nothing has changed then.
        """
        with self._lock:
            content = self._read()
            edit(content)
            text = json.dumps(content, allow_nan=False).encode()
            try:
                written = dict(parse_document(text, _Content))
            except Damaged as err:
                raise UserError(f"notes must fit the register of the labels; {err}. Leave them out.") from err
            with replacing(self.path) as part:
                part.write_bytes(text)
            self._content, self._stamp = written, _stamp_of(self.path)

    def _read(self) -> dict[str, Any]:
        try:
            return dict(read_document(self.path, _Content))
        except FileNotFoundError:
            return _empty()
        except Damaged as err:
            raise as_damaged(self.path, err, restore=_RESTORE_REGISTER) from err


def _stamp_of(path: Path) -> tuple[int, int, int]:
    stat = path.stat()
    return stat.st_ino, stat.st_size, stat.st_mtime_ns


def _empty() -> dict[str, Any]:
    return {"name": "", "description": "", "objects": {}}
