"""Results in the rows: Dice by strategy, budget, seed and patient."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from benchmarks.common.paired import Difference, Interval, Values, difference, mean_interval, over_splits
from benchmarks.label_efficiency.evidence.cells import title
from benchmarks.label_efficiency.evidence.protocol import Protocol
from benchmarks.label_efficiency.evidence.rows import CASES, CELLS, PATIENTS, RUNS, Read, Rows
from benchmarks.label_efficiency.evidence.strategies import FULL

Key = tuple[str, str, str]


@dataclass(frozen=True, eq=False)
class Results:
    """The planned cells, and the runs under the same settings.

    Attributes:
        protocol: Protocol of the runs.
        cases: Rows of the candidates.
        cells: Rows of the plan.
        runs: Row of each finished training, by digest, subset and seed.
        patients: Row of each test patient, by the same and patient.

    A value belongs to a *unit*: a test patient, or a division of the pool where the protocol has several. The
    value of a division is the mean over its test patients.
    """

    protocol: Protocol
    cases: Read
    cells: Read
    runs: dict[Key, dict[str, str]]
    patients: dict[Key, dict[str, dict[str, str]]]

    @classmethod
    def read(cls, rows: Rows, protocol: Protocol) -> Results:
        """Read the files.

        Raises:
            ValueError: If nothing was planned.
        """
        cells = rows.read(CELLS)
        if not cells:
            raise ValueError(f"{rows.folder} must hold {CELLS}; it does not. Run the comparison first.")
        digests = {cell["digest"] for cell in cells}
        patients: dict[Key, dict[str, dict[str, str]]] = defaultdict(dict)
        for row in rows.read(PATIENTS):
            if row["digest"] in digests:
                patients[key_of(row)][row["patient"]] = row
        runs = {key_of(row): row for row in rows.read(RUNS) if row["digest"] in digests}
        return cls(protocol, rows.read(CASES), cells, runs, dict(patients))

    @cached_property
    def by_place(self) -> dict[tuple[str, int], Read]:
        """Cells by title of the strategy and budget."""
        found: dict[tuple[str, int], Read] = defaultdict(list)
        for cell in self.cells:
            budget = self.everyone if cell["strategy"] == FULL else int(cell["budget"])
            found[title(cell["strategy"], check=cell["check"] == "1"), budget].append(cell)
        return found

    @cached_property
    def strategies(self) -> list[str]:
        """Titles of the strategies with a finished run, without `FULL`."""
        names = dict.fromkeys(name for name, budget in self.by_place if name != FULL)
        return [name for name in names if any(len(self.dice(name, each)) for each in self.protocol.budgets)]

    @cached_property
    def everyone(self) -> int:
        """Number of cases in a training on all candidates; of several divisions, the largest."""
        return max(int(cell["budget"]) for cell in self.cells if cell["strategy"] == FULL)

    def finished(self, name: str, budget: int) -> Read:
        """Cells of a strategy and budget whose training has finished."""
        return [cell for cell in self.by_place.get((name, budget), []) if key_of(cell) in self.runs]

    def dice(self, name: str, budget: int) -> Values:
        """Dice of each finished seed and unit, shape (S, U)."""
        return self.measured("dice", name, budget)

    def measured(self, measure: str, name: str, budget: int) -> Values:
        """Another measure of each finished seed and unit, shape (S, U)."""
        found = list(self._by_seed(measure, name, budget).values())
        return np.array(found) if found else np.empty((0, 0))

    def curve(self, name: str) -> Values:
        """Dice of the seeds that finished every budget, shape (S, B, U); (0, B, 0) if none did."""
        by_budget = [self._by_seed("dice", name, budget) for budget in self.protocol.budgets]
        whole = [seed for seed in by_budget[0] if all(seed in of for of in by_budget)]
        found = [[of[seed] for of in by_budget] for seed in whole]
        return np.array(found) if found else np.empty((0, len(by_budget), 0))

    def outcomes(self, name: str, budget: int) -> Values:
        """Mean Dice of each finished cell, shape (C,)."""
        cells = self.finished(name, budget)
        return np.array([np.mean(self._patient_values(key_of(cell), "dice")) for cell in cells])

    def interval(self, values: Values) -> Interval:
        """Mean of values (S, U) with its 95 % interval."""
        if self.protocol.splits == 1:
            return mean_interval(values)
        return over_splits(values.mean(axis=0), overlap=self._overlap).interval

    def difference(self, first: Values, second: Values) -> Difference:
        """Difference of two strategies' values, (S, U) and (R, U), paired by unit."""
        if self.protocol.splits == 1:
            return difference(first, second)
        return over_splits(first.mean(axis=0) - second.mean(axis=0), overlap=self._overlap)

    def column(self, name: str, budget: int, column: str) -> Values:
        """Column of the plan for each finished cell, shape (C,)."""
        return np.array([float(cell[column]) for cell in self.finished(name, budget)])

    def planned(self, name: str, budget: int, column: str) -> Values:
        """Column of the plan for each planned cell, finished or not, shape (C,)."""
        return np.array([float(cell[column]) for cell in self.by_place.get((name, budget), [])])

    @cached_property
    def _overlap(self) -> float:
        tested = len(next(iter(self.patients.values()))) if self.patients else 0
        return tested / max(1, len(self.cases) / self.protocol.splits)

    def _by_seed(self, measure: str, name: str, budget: int) -> dict[str, list[float]]:
        """Values of the units, by seed; a seed is there once it is finished in every division."""
        if self.protocol.splits == 1:
            cells = self.finished(name, budget)
            return {cell["seed"]: self._patient_values(key_of(cell), measure) for cell in cells}
        found: dict[str, dict[int, float]] = defaultdict(dict)
        for cell in self.finished(name, budget):
            found[cell["seed"]][split_of(cell)] = float(np.mean(self._patient_values(key_of(cell), measure)))
        whole = {seed: of for seed, of in found.items() if len(of) == self.protocol.splits}
        return {seed: [of[split] for split in sorted(of)] for seed, of in whole.items()}

    def _patient_values(self, key: Key, measure: str) -> list[float]:
        of = self.patients[key]
        return [float(of[patient][measure]) for patient in sorted(of)]


def key_of(row: Mapping[str, str]) -> Key:
    """Key of the training of a row."""
    return row["digest"], row["subset"], row["seed"]


def split_of(row: Mapping[str, str]) -> int:
    """Division of a row of cases or of the plan; rows of earlier studies know only one."""
    return int(row.get("split") or 0)
