"""The rows of the comparison with fusion: three files, written as each run finishes."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

RUNS = "ciml_vs_fusion.csv"
MISSING = "ciml_vs_fusion_missing.csv"
CONTRIBUTION = "ciml_contribution.csv"
KEY = ("split", "setting", "method", "seed", "settings")
COLUMNS = {
    RUNS: (
        "split", "setting", "method", "seed", "steps", "parameters", "gmac", "step_s", "seconds", "loss",
        "dice", "surface_distance", "hausdorff95", "finished", "revision", "versions", "settings",
    ),
    MISSING: ("split", "setting", "method", "seed", "modalities", "dice", "settings"),
    CONTRIBUTION: (
        "split", "setting", "method", "seed", "patient", "sender", "subtask", "loss", "subtask_loss",
        "contributions", "settings",
    ),
}  # fmt: skip
Row = dict[str, Any]


@dataclass(frozen=True, eq=False)
class Finished:
    """Rows of one run, by file name; numbers per patient or per measure are JSON in a cell."""

    rows: Mapping[str, list[Row]]


class Rows:
    """The three files in a folder; only one process may write."""

    def __init__(self, folder: Path) -> None:
        """Use a folder that may not exist yet."""
        self.folder = folder

    def read(self, name: str) -> list[Row]:
        """Rows of finished runs, with the JSON in their cells decoded.

        A run is finished when it has a row in the file of runs, which is written last. A run that was killed
        can leave rows in the other files; later rows of the same run replace them.
        """
        path = self.folder / name
        if not path.exists():
            return []
        with path.open(newline="") as stream:
            rows = {tuple(row[column] for column in _identity(name)): row for row in csv.DictReader(stream)}
        finished = self.done() if name != RUNS else None
        return [
            {column: _opened(value) if column not in KEY else value for column, value in row.items()}
            for row in rows.values()
            if finished is None or _key(row) in finished
        ]

    def done(self) -> set[tuple[str, ...]]:
        """Keys of the finished runs."""
        path = self.folder / RUNS
        if not path.exists():
            return set()
        with path.open(newline="") as stream:
            return {_key(row) for row in csv.DictReader(stream)}

    def write(self, finished: Finished) -> None:
        """Add the rows of a run; its row in the file of runs comes last."""
        self.folder.mkdir(parents=True, exist_ok=True)
        for name in (CONTRIBUTION, MISSING, RUNS):
            self._append(name, finished.rows.get(name, []))

    def _append(self, name: str, rows: Iterable[Row]) -> None:
        path, rows = self.folder / name, list(rows)
        if not rows:
            return
        new = not path.exists()
        with path.open("a", newline="") as stream:
            writer = csv.DictWriter(stream, COLUMNS[name], lineterminator="\n")
            if new:
                writer.writeheader()
            writer.writerows(
                {column: _closed(value) for column, value in row.items()} for row in rows
            )  # fmt: skip


def _identity(name: str) -> tuple[str, ...]:
    """Columns that tell one row of a file from another."""
    own = {RUNS: (), MISSING: ("modalities",), CONTRIBUTION: ("patient", "sender", "subtask")}
    return (*KEY, *own[name])


def _key(row: Mapping[str, str]) -> tuple[str, ...]:
    return tuple(row[column] for column in KEY)


def _closed(value: Any) -> Any:
    return json.dumps(value, sort_keys=True) if isinstance(value, dict) else value


def _opened(value: str) -> Any:
    return json.loads(value) if value.startswith("{") else value
