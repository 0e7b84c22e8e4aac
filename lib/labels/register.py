"""Register of labels and notes, datastore_v2.json: safe between processes and against kills."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, NotRequired

from filelock import FileLock
from pydantic import ConfigDict, Field
from typing_extensions import TypedDict

from lib.runtime.disk_cache import PART
from lib.runtime.errors import UserError
from lib.runtime.files import replacing
from lib.runtime.own_files import Damaged, as_damaged, parse_document, read_document

logger = logging.getLogger(__name__)
_RESTORE_REGISTER = (
    "It says which labels there are and what is noted with them: restore it from a backup. Move it away if "
    "there is none, and submit the files under labels again."
)

Objects = dict[str, dict[str, Any]]


class _Info(TypedDict, total=False):
    __pydantic_config__ = ConfigDict(extra="allow")  # type: ignore[misc]  # pydantic reads it
    written: str
    dicom_seg: dict[str, Any]


class _Entry(TypedDict, total=False):
    __pydantic_config__ = ConfigDict(extra="allow")  # type: ignore[misc]
    ext: Annotated[str, Field(pattern=r"^(\.\w+)*$")]
    info: _Info


class _Record(TypedDict, total=False):
    __pydantic_config__ = ConfigDict(extra="allow")  # type: ignore[misc]
    image: _Entry
    labels: dict[str, _Entry]


class _Pending(TypedDict):
    file: str
    place: str | None
    gone: list[str]


class _Content(TypedDict):
    __pydantic_config__ = ConfigDict(extra="allow")  # type: ignore[misc]
    objects: dict[str, _Record]
    name: NotRequired[str]
    description: NotRequired[str]
    pending: NotRequired[_Pending]


@dataclass(frozen=True)
class Staged:
    """Change of label files that takes effect with a write of the register.

    Attributes:
        file: Staged file beside the label files, named by `lib.runtime.files.part_of`; while it exists, the
            change is not complete.
        place: Label file that it replaces; None if the change only removes files.
        gone: Label files to remove.
    """

    file: Path
    place: Path | None = None
    gone: tuple[Path, ...] = ()

    def complete(self) -> None:
        """Bring the files to the state in the register; does nothing if that is done already."""
        if not self.file.exists():
            return
        for other in self.gone:
            other.unlink(missing_ok=True)
        if self.place:
            self.file.replace(self.place)
        else:
            self.file.unlink()


Edit = Callable[[dict[str, Any]], Staged | None]


class Register:
    """MONAI Label's register of labels, with three more guarantees.

    The file is replaced atomically, so it stays readable after a kill at any moment. Each write reads the
    file again under a lock first, so one process never erases the entries of another. And the label files
    always agree with the register: new files are staged before the write and moved into place after it, or
    at the next read if the writer was killed in between.
    """

    def __init__(self, path: Path) -> None:
        """Use the file at `path`; it need not exist."""
        self.path = path
        self._lock = FileLock(f"{path}.lock")
        self._stamp: tuple[int, int, int] | None = None
        self._content: dict[str, Any] = _empty()
        self._swept = False

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
            content = self._read()
            staged = self._staged(content)
            if staged and staged.file.exists():
                with self._lock:  # the writer is still busy, or was killed
                    staged.complete()
            self._content, self._stamp = content, stamp
        return self._content

    def check(self) -> None:
        """Check that the file can be used, before anything depends on it.

        Raises:
            Damaged: If the file cannot be used.
        """
        self._read()

    @property
    def objects(self) -> Objects:
        """Records by case id."""
        objects: Objects = self.content["objects"]
        return objects

    def change(self, edit: Edit) -> None:
        """Apply an edit to the newest content and write the file, completely or not at all.

        Args:
            edit: Changes the content in place and returns the change of files that belongs to it, if any.
                If it raises, the file stays unchanged.

        Raises:
            ValueError: If the edited content is not JSON; NaN and infinity are not JSON.
            UserError: If the edited content could not be read again; every later request would fail then.
            Damaged: If the file cannot be read.
            OSError: If the file cannot be written; nothing has changed then.
        """
        with self._lock:
            content = self._read()
            if earlier := self._staged(content):
                earlier.complete()
            self._sweep()
            staged = edit(content)
            try:
                written = self._write(content, staged)
            except BaseException:
                if staged:
                    staged.file.unlink(missing_ok=True)
                raise
            if self._complete(staged):
                self._content, self._stamp = written, _stamp_of(self.path)

    def _write(self, content: dict[str, Any], staged: Staged | None) -> dict[str, Any]:
        """Write the content; returns it as every later reader will have it."""
        if staged:
            root = self.path.parent
            content["pending"] = {
                "file": str(staged.file.relative_to(root)),
                "place": staged.place and str(staged.place.relative_to(root)),
                "gone": [str(file.relative_to(root)) for file in staged.gone],
            }
        else:
            content.pop("pending", None)
        text = json.dumps(content, allow_nan=False).encode()
        try:
            written = dict(parse_document(text, _Content))
        except Damaged as err:
            raise UserError(f"notes must fit the register of the labels; {err}. Leave them out.") from err
        with replacing(self.path) as part:
            part.write_bytes(text)
        return written

    def _complete(self, staged: Staged | None) -> bool:
        """Complete a staged change; the write already holds, so after a failure the next read retries."""
        try:
            if staged:
                staged.complete()
        except OSError as err:
            logger.warning("a label file will be moved into place at the next read: %s", err)
            return False
        return True

    def _staged(self, content: dict[str, Any]) -> Staged | None:
        pending = content.get("pending")
        if pending is None:
            return None
        root = self.path.parent
        place = root / pending["place"] if pending["place"] else None
        staged = Staged(root / pending["file"], place, tuple(root / name for name in pending["gone"]))
        files = [staged.file, *staged.gone, *([place] if place else [])]
        ours = all(
            file.relative_to(root).parts[0] == "labels" and file.resolve().is_relative_to(root.resolve())
            for file in files
        )
        return staged if ours and staged.file.name.startswith(PART) else None

    def _sweep(self) -> None:
        """Remove leftovers of killed writers; the caller holds the lock and completed pending changes."""
        if self._swept:
            return
        self._swept = True
        root = self.path.parent
        for left in [*root.glob(f"{PART}*-{self.path.name}"), *root.glob(f"labels/*/{PART}*")]:
            with suppress(OSError):
                left.unlink()

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
