"""Files of rows that grow run by run, so that an interrupted benchmark resumes."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

Row = dict[str, Any]
Read = list[dict[str, str]]


class GrowingRows:
    """CSV files in a folder; only one process may write."""

    def __init__(
        self,
        folder: Path,
        columns: Mapping[str, tuple[str, ...]],
        keys: Mapping[str, tuple[str, ...]],
    ) -> None:
        """Use a folder that may not exist yet.

        Args:
            folder: Folder of the files.
            columns: Columns of each file, by its name.
            keys: Columns that tell one row of a file from another; a file without keys may repeat rows.
        """
        self.folder, self.columns, self.keys = folder, columns, keys

    def add(self, rows: Mapping[str, Iterable[Row]]) -> None:
        """Append rows to several files in this order; the file that says what is finished comes last."""
        for name, of in rows.items():
            self._append(name, of)

    def read(self, name: str) -> Read:
        """Rows of a file; of two rows with the same key, which a killed run can leave, the later one."""
        path = self.folder / name
        if not path.exists():
            return []
        with path.open(newline="") as stream:
            rows = list(csv.DictReader(stream))
        if name not in self.keys:
            return rows
        return list({tuple(row[column] for column in self.keys[name]): row for row in rows}.values())

    def done(self, name: str) -> set[tuple[str, ...]]:
        """Keys of the rows of a file."""
        return {tuple(row[column] for column in self.keys[name]) for row in self.read(name)}

    def _append(self, name: str, rows: Iterable[Row]) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.folder / name
        new = not path.exists()
        with path.open("a", newline="") as stream:
            writer = csv.DictWriter(stream, self.columns[name], lineterminator="\n")
            if new:
                writer.writeheader()
            writer.writerows(rows)
