"""The rows of the evidence: the plan, the finished runs, and the result of each test patient."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from lib.runtime.files import replacing

CASES, CELLS, RUNS, PATIENTS = "cases.csv", "cells.csv", "runs.csv", "patients.csv"
COLUMNS = {
    CASES: (
        "split", "case", "served", "difference", "suspect", "volume_ml", "voxels", "damage", "rare",
    ),
    CELLS: (
        "split", "digest", "check", "strategy", "budget", "seed", "subset", "mean_md", "volume_ml", "voxels",
        "damaged", "rare", "cases",
    ),
    RUNS: (
        "digest", "subset", "seed", "cases", "dice", "surface_distance", "empty", "loss", "seconds",
        "finished", "revision", "software", "segmenter",
    ),
    PATIENTS: ("digest", "subset", "seed", "patient", "dice", "surface_distance", "hausdorff95"),
}  # fmt: skip
KEYS = {RUNS: ("digest", "subset", "seed"), PATIENTS: ("digest", "subset", "seed", "patient")}
Row = dict[str, Any]
Read = list[dict[str, str]]


class Rows:
    """Four files in a folder; only one process may write."""

    def __init__(self, folder: Path) -> None:
        """Use a folder that may not exist yet."""
        self.folder = folder

    def plan(self, name: str, rows: Iterable[Mapping[str, Any]]) -> None:
        """Write the cases or the cells of the plan; an earlier plan is replaced."""
        with replacing(self.folder / name) as part, part.open("w", newline="") as stream:
            writer = csv.DictWriter(stream, COLUMNS[name], lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)

    def add(self, run: Row, patients: Iterable[Row]) -> None:
        """Add a finished run, its patients first, so that every run in the file of runs is complete."""
        self._append(PATIENTS, patients)
        self._append(RUNS, [run])

    def read(self, name: str) -> Read:
        """Rows of a file; of two rows with the same key, which a killed run can leave, the later one."""
        path = self.folder / name
        if not path.exists():
            return []
        with path.open(newline="") as stream:
            rows = list(csv.DictReader(stream))
        if name not in KEYS:
            return rows
        return list({tuple(row[column] for column in KEYS[name]): row for row in rows}.values())

    def done(self) -> set[tuple[str, str, str]]:
        """Digest of the settings, subset and seed of every finished run."""
        return {(row["digest"], row["subset"], row["seed"]) for row in self.read(RUNS)}

    def _append(self, name: str, rows: Iterable[Row]) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.folder / name
        new = not path.exists()
        with path.open("a", newline="") as stream:
            writer = csv.DictWriter(stream, COLUMNS[name], lineterminator="\n")
            if new:
                writer.writeheader()
            writer.writerows(rows)
