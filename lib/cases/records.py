"""What is known of files that were read before: content hashes and measurements, in one small SQLite file."""

from __future__ import annotations

import hashlib
import json
import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from lib.cases.case import Case, Source

_SCHEMA = """
CREATE TABLE IF NOT EXISTS content (path TEXT PRIMARY KEY, stamp TEXT NOT NULL, hash TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS measurement (key TEXT PRIMARY KEY, value TEXT NOT NULL);
"""


class Records:
    """Hashes by (path, size, modification time), measurements by content; shared by processes.

    Losing the file costs time, never a result.
    """

    def __init__(self, path: Path) -> None:
        """Open or create the file at `path`."""
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        with self._connect() as database:
            database.executescript(_SCHEMA)

    def content_hash(self, case: Case) -> str:
        """Hash of the bytes of every modality of a case; recomputed only where size or time changed.

        Raises:
            CaseError: If a file is gone or unreadable.
        """
        return self.content_hashes([case])[case.id]

    def content_hashes(self, cases: Iterable[Case]) -> dict[str, str]:
        """Content hash of each case, by id.

        Raises:
            CaseError: If a file is gone or unreadable.
        """
        cases = list(cases)
        wanted = {str(source.path): source for case in cases for source in case.modalities.values()}
        with self._connect() as database:
            marks = ", ".join("?" * len(wanted))
            rows = (
                database.execute(f"SELECT * FROM content WHERE path IN ({marks})", list(wanted))
                if len(wanted) <= 500
                else database.execute("SELECT * FROM content")
            )
            known = {path: (stamp, value) for path, stamp, value in rows}
        with ThreadPoolExecutor() as pool:
            stamps = dict(zip(wanted, pool.map(lambda source: source.stamp(), wanted.values()), strict=True))
            stale = [path for path, stamp in stamps.items() if known.get(path, ("", ""))[0] != stamp]
            fresh = dict(zip(stale, pool.map(lambda path: _hash_files(wanted[path]), stale), strict=True))
        if fresh:
            with self._connect() as database:
                database.executemany(
                    "INSERT OR REPLACE INTO content VALUES (?, ?, ?)",
                    [(path, stamps[path], value) for path, value in fresh.items()],
                )
        known |= {path: (stamps[path], value) for path, value in fresh.items()}
        return {
            case.id: _combine(
                {name: (known[str(source.path)][1], source) for name, source in case.modalities.items()}
            )
            for case in cases
        }

    def measurements(self, keys: Iterable[str]) -> dict[str, Any]:
        """Stored measurements among these keys."""
        wanted = set(keys)
        with self._connect() as database:
            rows = database.execute("SELECT key, value FROM measurement").fetchall()
        return {key: json.loads(value) for key, value in rows if key in wanted}

    def store(self, measurements: Mapping[str, Any]) -> None:
        """Add measurements in one transaction."""
        with self._connect() as database:
            database.executemany(
                "INSERT OR REPLACE INTO measurement VALUES (?, ?)",
                [(key, json.dumps(value)) for key, value in measurements.items()],
            )

    @contextmanager
    def _connect(self) -> Iterator[sqlite3.Connection]:
        with closing(sqlite3.connect(self.path, timeout=30.0)) as database, database:
            yield database


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
