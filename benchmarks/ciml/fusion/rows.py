"""The rows of the comparison: its runs, their outlines of the test patients, and the trials of the tuning."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from benchmarks.common.growing_rows import GrowingRows, Row

RUNS, OUTLINES, TRIALS = "runs.csv", "outlines.csv", "trials.csv"
RUN = ("digest", "method", "labels", "seed")
COLUMNS = {
    RUNS: (
        *RUN, "learning_rate", "steps", "candidates", "parameters", "gmac", "step_s", "loss", "seconds",
        "finished", "revision", "software",
    ),
    OUTLINES: (*RUN, "modalities", "dice", "surface_distance"),
    TRIALS: (
        "digest", "method", "learning_rate", "steps", "dice", "dice_without_one", "seconds", "revision",
    ),
}  # fmt: skip
KEYS = {
    RUNS: RUN,
    OUTLINES: (*RUN, "modalities"),
    TRIALS: ("digest", "method", "learning_rate", "steps"),
}


class Rows(GrowingRows):
    """The three files in a folder; only one process may write."""

    def __init__(self, folder: Path) -> None:
        """Use a folder that may not exist yet."""
        super().__init__(folder, COLUMNS, KEYS)


@dataclass(frozen=True)
class Outlined:
    """Scores of the outlines that a run made with some modalities.

    Attributes:
        method: Method of the run.
        labels: Number of labels of the run.
        seed: Seed of the run.
        modalities: Modalities that were present.
        dice: Dice of each region, by patient.
        surface_distance: Mean surface distance over the regions in mm, by patient; empty if some were absent.
    """

    method: str
    labels: int
    seed: int
    modalities: tuple[str, ...]
    dice: dict[str, list[float]]
    surface_distance: dict[str, float]

    def row(self, identity: Row) -> Row:
        """The row of a file; numbers by patient are JSON in a cell."""
        return {
            **identity,
            "modalities": "+".join(self.modalities),
            "dice": json.dumps(self.dice),
            "surface_distance": json.dumps(self.surface_distance),
        }


def outlined(rows: Rows) -> Iterator[Outlined]:
    """The outlines of all finished runs."""
    finished = rows.done(RUNS)
    for row in rows.read(OUTLINES):
        if tuple(row[column] for column in RUN) in finished:
            yield Outlined(
                row["method"],
                int(row["labels"]),
                int(row["seed"]),
                tuple(row["modalities"].split("+")),
                json.loads(row["dice"]),
                json.loads(row["surface_distance"]),
            )
