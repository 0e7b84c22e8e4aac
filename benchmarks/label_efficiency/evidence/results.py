"""Results in the rows: Dice by strategy, budget, seed and patient."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from benchmarks.common.paired import Values
from benchmarks.label_efficiency.evidence.cells import title
from benchmarks.label_efficiency.evidence.protocol import Protocol
from benchmarks.label_efficiency.evidence.rows import CASES, CELLS, PATIENTS, RUNS, Read, Rows
from benchmarks.label_efficiency.evidence.strategies import FULL


@dataclass(frozen=True, eq=False)
class Results:
    """The planned cells, and the runs under the same settings.

    Attributes:
        protocol: Protocol of the runs.
        cases: Rows of the candidates.
        cells: Rows of the plan.
        runs: Row of each finished training, by subset and seed.
        patients: Row of each test patient, by subset, seed and patient.
    """

    protocol: Protocol
    cases: Read
    cells: Read
    runs: dict[tuple[str, str], dict[str, str]]
    patients: dict[tuple[str, str], dict[str, dict[str, str]]]

    @classmethod
    def read(cls, rows: Rows, protocol: Protocol) -> Results:
        """Read the files.

        Raises:
            ValueError: If nothing was planned.
        """
        cells = rows.read(CELLS)
        if not cells:
            raise ValueError(f"{rows.folder} must hold {CELLS}; it does not. Run the comparison first.")
        digest = cells[0]["digest"]
        patients: dict[tuple[str, str], dict[str, dict[str, str]]] = defaultdict(dict)
        for row in rows.read(PATIENTS):
            if row["digest"] == digest:
                patients[row["subset"], row["seed"]][row["patient"]] = row
        runs = {(row["subset"], row["seed"]): row for row in rows.read(RUNS) if row["digest"] == digest}
        return cls(protocol, rows.read(CASES), cells, runs, dict(patients))

    @cached_property
    def by_place(self) -> dict[tuple[str, int], Read]:
        """Cells by title of the strategy and budget."""
        found: dict[tuple[str, int], Read] = defaultdict(list)
        for cell in self.cells:
            found[title(cell["strategy"], check=cell["check"] == "1"), int(cell["budget"])].append(cell)
        return found

    @cached_property
    def strategies(self) -> list[str]:
        """Titles of the strategies with a finished run, without `FULL`."""
        names = dict.fromkeys(name for name, budget in self.by_place if name != FULL)
        return [name for name in names if any(len(self.dice(name, each)) for each in self.protocol.budgets)]

    @cached_property
    def everyone(self) -> int:
        """Number of cases in a training on all candidates."""
        return next(budget for name, budget in self.by_place if name == FULL)

    def finished(self, name: str, budget: int) -> Read:
        """Cells of a strategy and budget whose training has finished."""
        return [cell for cell in self.by_place.get((name, budget), []) if _key(cell) in self.runs]

    def dice(self, name: str, budget: int) -> Values:
        """Dice of each finished seed and test patient, patients by id, shape (S, P)."""
        return self.measured("dice", name, budget)

    def measured(self, measure: str, name: str, budget: int) -> Values:
        """Another measure of each finished seed and test patient, shape (S, P)."""
        found = [self._patient_values(_key(cell), measure) for cell in self.finished(name, budget)]
        return np.array(found) if found else np.empty((0, 0))

    def curve(self, name: str) -> Values:
        """Dice of the seeds that finished every budget, shape (S, B, P); (0, B, 0) if none did."""
        by_budget = [
            {cell["seed"]: _key(cell) for cell in self.finished(name, budget)}
            for budget in self.protocol.budgets
        ]
        whole = [seed for seed in by_budget[0] if all(seed in keys for keys in by_budget)]
        found = [[self._patient_values(keys[seed], "dice") for keys in by_budget] for seed in whole]
        return np.array(found) if found else np.empty((0, len(by_budget), 0))

    def column(self, name: str, budget: int, column: str) -> Values:
        """Column of the plan for each finished seed, shape (S,)."""
        return np.array([float(cell[column]) for cell in self.finished(name, budget)])

    def planned(self, name: str, budget: int, column: str) -> Values:
        """Column of the plan for each planned seed, finished or not, shape (S,)."""
        return np.array([float(cell[column]) for cell in self.by_place.get((name, budget), [])])

    def _patient_values(self, key: tuple[str, str], measure: str) -> list[float]:
        of = self.patients[key]
        return [float(of[patient][measure]) for patient in sorted(of)]


def _key(cell: dict[str, str]) -> tuple[str, str]:
    return cell["subset"], cell["seed"]
