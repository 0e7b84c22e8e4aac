"""Content hashes and measurements of files that were read before, in one small SQLite file."""

from __future__ import annotations

import hashlib
import json
import logging
import sqlite3
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any, TypeVar

from lib.cases.case import Case, Source
from lib.cases.formats.image import FILE_SUFFIXES
from lib.runtime.errors import UserError
from lib.runtime.own_files import set_aside

logger = logging.getLogger(__name__)
Result = TypeVar("Result")

_SCHEMA = """
CREATE TABLE IF NOT EXISTS content (path TEXT PRIMARY KEY, stamp TEXT NOT NULL, hash TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS measurement (key TEXT PRIMARY KEY, value TEXT NOT NULL);
"""


class Records:
    """Content hashes by path, size and modification time, and measurements by content hash.

    Several processes may share the file. If it is lost, everything is measured again with the same result.
    """

    def __init__(self, path: Path) -> None:
        """Open or create the file at `path`."""
        self.path = path
        self._inode = 0  # inode of the file that is known to have the tables
        path.parent.mkdir(parents=True, exist_ok=True)
        self._with_database(lambda database: None)

    def content_hash(self, case: Case) -> str:
        """Hash of the bytes of all modalities of a case; recomputed only if size or time changed.

        Raises:
            CaseError: If a file is missing or unreadable.
        """
        return self.content_hashes([case])[case.id]

    def content_hashes(self, cases: Iterable[Case]) -> dict[str, str]:
        """Content hash of each case, by id.

        Raises:
            CaseError: If a file is missing or unreadable.
        """
        cases = list(cases)
        known = self.file_hashes(source for case in cases for source in case.modalities.values())
        return {
            case.id: _combine(
                {name: (known[str(source.path)], source) for name, source in case.modalities.items()}
            )
            for case in cases
        }

    def image_hashes(self, cases: Sequence[Case]) -> dict[str, dict[str, str]]:
        """Hash of each modality's file or folder, by case id; cases that cannot be read are left out."""
        try:
            known = self.file_hashes(source for case in cases for source in case.modalities.values())
        except UserError:
            each = (self.image_hashes([case]) for case in cases) if len(cases) > 1 else ()
            return {id: value for found in each for id, value in found.items()}
        return {
            case.id: {name: known[str(source.path)] for name, source in case.modalities.items()}
            for case in cases
        }

    def file_hashes(self, sources: Iterable[Source]) -> dict[str, str]:
        """Hash of the file or folder of each volume, by its path.

        Raises:
            CaseError: If a file is missing or unreadable.
        """
        wanted = {str(source.path): source for source in sources}
        known = self._with_database(lambda database: _known_hashes(database, list(wanted)))
        with ThreadPoolExecutor() as pool:
            stamps = dict(zip(wanted, pool.map(lambda source: source.stamp(), wanted.values()), strict=True))
            stale = [path for path, stamp in stamps.items() if known.get(path, ("", ""))[0] != stamp]
            fresh = dict(zip(stale, pool.map(lambda path: _hash_files(wanted[path]), stale), strict=True))
        if fresh:
            self._write("content", [(path, stamps[path], value) for path, value in fresh.items()])
        return {path: known[path][1] for path in wanted if path not in fresh} | fresh

    def last_hashes(self, stems: Iterable[Path]) -> set[str]:
        """Hashes of the files that were last read under these paths without suffix; they may be gone."""
        paths = [f"{stem}{suffix}" for stem in stems for suffix in FILE_SUFFIXES]
        known = self._with_database(lambda database: _known_hashes(database, paths))
        return {known[path][1] for path in paths if path in known}

    def measurements(self, keys: Iterable[str]) -> dict[str, Any]:
        """Stored measurements by key, for those of the keys that have one."""
        wanted = set(keys)
        rows = self._with_database(
            lambda database: database.execute("SELECT key, value FROM measurement").fetchall()
        )
        read = ((key, _measured(value)) for key, value in rows if key in wanted)
        return {key: value for key, value in read if value is not None}

    def store(self, measurements: Mapping[str, Any]) -> None:
        """Store measurements in one transaction."""
        self._write("measurement", [(key, json.dumps(value)) for key, value in measurements.items()])

    def _write(self, table: str, rows: Sequence[tuple[str, ...]]) -> None:
        """Store rows; if the disk is full, they are computed again next time."""
        if not rows:
            return
        insert = f"INSERT OR REPLACE INTO {table} VALUES ({', '.join('?' * len(rows[0]))})"
        try:
            self._with_database(lambda database: database.executemany(insert, rows))
        except sqlite3.OperationalError as err:
            logger.warning("measurements cannot be stored in %s: %s", self.path, err)

    def _with_database(self, work: Callable[[sqlite3.Connection], Result]) -> Result:
        """Run `work` on the database; a damaged database is replaced by a new one."""
        if self.path.exists() and not self.path.is_file():
            self._set_aside("it is no file")
        try:
            return self._run(work)
        except sqlite3.DatabaseError as err:
            if isinstance(err, sqlite3.OperationalError) and err.sqlite_errorcode != sqlite3.SQLITE_ERROR:
                raise  # busy, full or not writable, but not damaged
            self._set_aside(str(err))
            return self._run(work)

    def _run(self, work: Callable[[sqlite3.Connection], Result]) -> Result:
        with closing(sqlite3.connect(self.path, timeout=30.0)) as database, database:
            if self._inode != (inode := self.path.stat().st_ino):
                database.executescript(_SCHEMA)
                self._inode = inode
            return work(database)

    def _set_aside(self, why: str) -> None:
        for journal in self.path.parent.glob(f"{self.path.name}-*"):  # must not be applied to the new file
            journal.unlink(missing_ok=True)
        set_aside(self.path, f"{why}. All files are read again.")


def _known_hashes(database: sqlite3.Connection, paths: Sequence[str]) -> dict[str, tuple[str, str]]:
    """Stamp and hash by path, of these paths and possibly more."""
    marks = ", ".join("?" * len(paths))
    rows = (
        database.execute(f"SELECT path, stamp, hash FROM content WHERE path IN ({marks})", paths)
        if len(paths) <= 500
        else database.execute("SELECT path, stamp, hash FROM content")
    )
    return {path: (str(stamp), str(value)) for path, stamp, value in rows}


def _measured(value: Any) -> dict[str, Any] | None:
    """Measurement in a stored row; None if the row is damaged."""
    try:
        found = json.loads(value)
    except (TypeError, ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def _hash_files(source: Source) -> str:
    source.make_local()
    digest = hashlib.blake2b(digest_size=16)
    files = sorted(p for p in source.path.iterdir() if p.is_file()) if source.path.is_dir() else [source.path]
    for file in files:
        with file.open("rb") as stream:
            while block := stream.read(1 << 20):
                digest.update(block)
    return digest.hexdigest()


def _combine(parts: Mapping[str, tuple[str, Source]]) -> str:
    text = json.dumps(
        {
            name: [value, source.channel, source.scale, source.series]
            for name, (value, source) in sorted(parts.items())
        }
    )
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()
