"""datastore_v2.json: which labels and notes there are, safe between processes and against a kill."""

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
from lib.runtime.files import replacing
from lib.runtime.own_files import Damaged, as_damaged, read_document

logger = logging.getLogger(__name__)
_RESTORE = (
    "It says which labels there are and what is noted with them: restore it from a backup. Move it away if "
    "there is none, and submit the files under labels again."
)

Objects = dict[str, dict[str, Any]]


class _Info(TypedDict, total=False):
    __pydantic_config__ = ConfigDict(extra="allow")  # type: ignore[misc]  # pydantic reads it
    written: str
    dicom_seg: dict[str, Any]


class _Kept(TypedDict, total=False):
    __pydantic_config__ = ConfigDict(extra="allow")  # type: ignore[misc]
    ext: Annotated[str, Field(pattern=r"^(\.\w+)*$")]
    info: _Info


class _Record(TypedDict, total=False):
    __pydantic_config__ = ConfigDict(extra="allow")  # type: ignore[misc]
    image: _Kept
    labels: dict[str, _Kept]


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
    """A change of files that holds once the register says so.

    Attributes:
        file: Lies beside the label files under a name of its own, as `lib.runtime.files.part_of` gives it;
            while it is there, the change is not complete.
        place: What it replaces; None where it only marks that others go.
        gone: Files that go.
    """

    file: Path
    place: Path | None = None
    gone: tuple[Path, ...] = ()

    def complete(self) -> None:
        """Bring the files to what the register says; nothing where that is done."""
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
    """The file that MONAI Label keeps its labels in, with three promises more.

    It is replaced atomically, so that it is readable after a kill at any moment. It is read again under its
    lock before each write, so that one process never erases what another one wrote. And the files that a
    write changes agree with it: they lie ready before it and take their places after it, or at the next look
    if the writer was killed in between.
    """

    def __init__(self, path: Path) -> None:
        """Use the file at `path`; it need not be there."""
        self.path = path
        self._lock = FileLock(f"{path}.lock")
        self._stamp: tuple[int, int, int] | None = None
        self._content: dict[str, Any] = _empty()
        self._swept = False

    @property
    def content(self) -> dict[str, Any]:
        """What the file says now; read again only when it changed. Not to be modified.

        Raises:
            Damaged: If it cannot be read.
        """
        try:
            stat = self.path.stat()
        except FileNotFoundError:
            return self._content if self._stamp is None else _empty()
        stamp = (stat.st_ino, stat.st_size, stat.st_mtime_ns)
        if stamp != self._stamp:
            content = self._read()
            staged = self._staged(content)
            if staged and staged.file.exists():
                with self._lock:  # of a writer that is at it, or was killed
                    staged.complete()
            self._content, self._stamp = content, stamp
        return self._content

    def check(self) -> None:
        """Refuse now what would fail later.

        Raises:
            Damaged: If the file cannot be used.
        """
        self._read()

    @property
    def objects(self) -> Objects:
        """Record of each image that has one."""
        objects: Objects = self.content["objects"]
        return objects

    def change(self, edit: Edit) -> None:
        """Apply an edit to the newest content and write it, whole or not at all.

        Args:
            edit: Changes the content in place; an exception leaves the file as it was. It returns the change
                of files that belongs to it, or nothing.

        Raises:
            ValueError: If the edited content is not JSON; NaN and infinity are not.
            Damaged: If the file cannot be read.
            OSError: If it cannot be written. Nothing has changed then.
        """
        with self._lock:
            content = self._read()
            if earlier := self._staged(content):
                earlier.complete()
            self._sweep()
            staged = edit(content)
            try:
                self._write(content, staged)
            except BaseException:
                if staged:
                    staged.file.unlink(missing_ok=True)
                raise
            self._complete(staged)

    def _write(self, content: dict[str, Any], staged: Staged | None) -> None:
        if staged:
            root = self.path.parent
            content["pending"] = {
                "file": str(staged.file.relative_to(root)),
                "place": staged.place and str(staged.place.relative_to(root)),
                "gone": [str(file.relative_to(root)) for file in staged.gone],
            }
        else:
            content.pop("pending", None)
        text = json.dumps(content, allow_nan=False)
        with replacing(self.path) as part:
            part.write_text(text)

    def _complete(self, staged: Staged | None) -> None:
        """What is written holds, so that a failure here is none of the writer's: the next look goes on."""
        try:
            if staged:
                staged.complete()
        except OSError as err:
            logger.warning("a label's file takes its place at the next look: %s", err)

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
        """Remove what killed writers left: nobody else writes now, and what was pending is complete."""
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
            raise as_damaged(self.path, err, restore=_RESTORE) from err


def _empty() -> dict[str, Any]:
    return {"name": "", "description": "", "objects": {}}
