"""The rows of the evidence: the plan, the finished runs, and the result of each test patient."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from benchmarks.common.growing_rows import GrowingRows, Read, Row
from lib.runtime.files import replacing

__all__ = ["CASES", "CELLS", "PATIENTS", "RUNS", "Read", "Row", "Rows"]
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


class Rows(GrowingRows):
    """The four files in a folder; only one process may write."""

    def __init__(self, folder: Path) -> None:
        """Use a folder that may not exist yet."""
        super().__init__(folder, COLUMNS, KEYS)

    def plan(self, name: str, rows: Iterable[Mapping[str, Any]]) -> None:
        """Write the cases or the cells of the plan; an earlier plan is replaced."""
        with replacing(self.folder / name) as part, part.open("w", newline="") as stream:
            writer = csv.DictWriter(stream, COLUMNS[name], lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)

    def finish(self, run: Row, patients: Iterable[Row]) -> None:
        """Add a finished run, its patients first, so that every run in the file of runs is complete."""
        self.add({PATIENTS: patients, RUNS: [run]})

    def finished(self) -> set[tuple[str, ...]]:
        """Digest of the settings, subset and seed of every finished run."""
        return self.done(RUNS)
