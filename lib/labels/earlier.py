"""Labels that were there before: another server's, another tool's, or put there by hand."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from filelock import FileLock

from lib.cases.case import Case
from lib.cases.discovery.found_pool import FoundPool
from lib.cases.formats.image import stem_of, suffix_of
from lib.cases.pool import Skipped
from lib.labels.origin import Origin
from lib.labels.register import Register
from lib.labels.store import LabelStore
from lib.labels.versions import check_tag, entries_of
from lib.runtime.errors import UserError
from lib.runtime.own_files import Damaged
from lib.runtime.progress import OnCasesDone

SETTLED_S = 2.0  # a younger file may still be being copied
_LOCK = ".taking-in.lock"
_NOT_ALLOWED = (
    "the server must be able to read it, and to write its own labels; {}. Correct the permissions of the "
    "folders."
)
_NEVER = (-1, -1)  # stamp of no file, so that it is tried again
Stamp = tuple[int, int]  # size, and time of the last change in ns


class EarlierLabels:
    """Takes label files at `labels/TAG/NAME.nii.gz` in as versions, and leaves the files as they are.

    MONAI Label and earlier releases of this app keep labels there, under the id of a case or of one of its
    images; so do people who add labels by hand. What the register datastore_v2.json says of such a label
    (structures, reader, time) is kept with the version. A file that changes is taken in again.
    """

    def __init__(self, found: FoundPool, labels: LabelStore, register: Register, folders: list[Path]) -> None:
        """Look for label files in the folders of the labels; nothing is read yet."""
        self._found, self._labels, self._register, self._folders = found, labels, register, folders
        self._left: dict[Path, tuple[Stamp, object, str]] = {}  # stamp, pool and reason of each file left out
        self._same: dict[Path, Stamp] = {}  # files with the content of a version

    @property
    def left_out(self) -> list[Skipped]:
        """Files that no case could take, with the reason, as the last `look` found them."""
        return [Skipped(path, reason) for path, (_, _, reason) in sorted(self._left.items())]

    def taken(self) -> int:
        """Number of current labels that came from such files."""
        each = (version for versions in self._labels.log.current.values() for version in versions.values())
        return sum(version.kind == "taken in" for version in each)

    def look(self, on_progress: OnCasesDone = lambda done, of: None) -> int:
        """Take in the files that are new or have changed; return how many were.

        While the register is damaged no file is taken in, because it may say what the values mean.

        Args:
            on_progress: Called with the number of files done and the number of all that are new.
        """
        files = dict(self._files())
        self._left = {path: left for path, left in self._left.items() if path in files}
        if all(self._is_known(path, stamp) for path, stamp in files.items()):
            return 0
        lock = self._labels.log.files.folder / _LOCK
        try:
            lock.parent.mkdir(parents=True, exist_ok=True)
            with FileLock(lock):  # another process may be taking in the same files
                return self._take_all(files, on_progress)
        except Damaged as err:
            reason = str(err)
        except OSError as err:
            reason = _NOT_ALLOWED.format(err.strerror)
        new = [path for path, stamp in files.items() if not self._is_known(path, stamp)]
        self._left |= dict.fromkeys(new, (_NEVER, self._found.pool, reason))
        return 0

    def _take_all(self, files: Mapping[Path, Stamp], on_progress: OnCasesDone) -> int:
        """Take in the files that are new, the oldest first."""
        new = [path for path, stamp in files.items() if not self._is_known(path, stamp)]
        taken = 0
        for done, path in enumerate(sorted(new, key=lambda path: (self._written(path, files[path]), path))):
            on_progress(done, len(new))
            if time.time_ns() - files[path][1] < SETTLED_S * 1e9 and self._is_growing(path, files[path]):
                continue
            try:
                taken += self._take(path, files[path])
                self._left.pop(path, None)
            except Damaged:
                raise
            except UserError as err:
                self._left[path] = (files[path], self._found.pool, str(err))
            except OSError as err:
                self._left[path] = (files[path], self._found.pool, _NOT_ALLOWED.format(err.strerror))
        return taken

    def _take(self, path: Path, stamp: Stamp) -> bool:
        """Take a file in; returns False if a version of its case has the same content."""
        tag, name = check_tag(path.parent.name), stem_of(path)
        case = self._case_of(name)
        with path.open("rb") as stream:
            content = hashlib.file_digest(stream, "sha256").hexdigest()
        if any((each.tag, each.sha256) == (tag, content) for each in self._labels.log.of_case(case.id)):
            self._same[path] = stamp
            return False
        entry = self._entry(path)
        notes = {key: value for key, value in entry.items() if key not in ("written", "dicom_seg", "ts")}
        about: dict[str, Any] = {"file": _name(path), "size": stamp[0], "changed": stamp[1]}
        if sent := entry.get("dicom_seg"):
            about["dicom_seg"] = sent
        origin = Origin("taken in", reader=str(notes.get("client_id") or ""), about=about)
        self._labels.save(case, path, tag, notes, origin, written=self._written(path, stamp))
        return True

    def _entry(self, path: Path) -> dict[str, Any]:
        """What the register says of a label file."""
        labels = self._register.objects.get(stem_of(path), {}).get("labels", {})
        entry: dict[str, Any] = labels.get(path.parent.name, {}).get("info", {})
        return entry

    def _written(self, path: Path, stamp: Stamp) -> str:
        """Time of a label: as the register says, or else that of its file."""
        entry = self._entry(path)
        with suppress(KeyError, TypeError, ValueError):
            return datetime.fromisoformat(entry["written"]).astimezone(UTC).isoformat()
        with suppress(KeyError, TypeError, ValueError, OverflowError, OSError):
            return datetime.fromtimestamp(entry["ts"], UTC).isoformat()
        return datetime.fromtimestamp(stamp[1] / 1e9, UTC).isoformat()

    def _case_of(self, name: str) -> Case:
        try:
            return self._found.pool.resolve(name)[0]
        except UserError as err:
            raise UserError(
                f"a label must be named for a case or for one of its images; {name[:80]!r} is none of "
                f"{len(self._found.pool.cases)} cases. Rename the file."
            ) from err

    def _files(self) -> Iterator[tuple[Path, Stamp]]:
        for folder in self._folders:
            for tag in entries_of(folder, folders=True):
                for path in entries_of(tag, folders=False):
                    if suffix_of(path):
                        found = path.stat()
                        yield path, (found.st_size, found.st_mtime_ns)

    def _is_known(self, path: Path, stamp: Stamp) -> bool:
        """Whether a file was taken in, or left out, as it is now; the latter holds until the pool changes."""
        if path in self._left:
            return self._left[path][:2] == (stamp, self._found.pool)
        return stamp in (self._same.get(path), self._labels.log.sources.get(_name(path)))

    def _is_growing(self, path: Path, stamp: Stamp) -> bool:
        time.sleep(SETTLED_S / 10)
        found = path.stat()
        return (found.st_size, found.st_mtime_ns) != stamp


def _name(path: Path) -> str:
    """Name of a file below the folder of the labels, which may be moved."""
    return f"{path.parent.name}/{path.name}"
