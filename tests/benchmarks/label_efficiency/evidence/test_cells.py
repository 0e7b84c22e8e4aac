"""Which trainings there are, and in which order."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.label_efficiency.evidence.cells import FULL, Cell, cells_of, trainings_of
from tests.support.made_up_study import knowledge, protocol


def test_cells_that_chose_the_same_cases_with_one_seed_share_a_training() -> None:
    cells = [
        Cell(True, "one", 2, 0, ("a", "b")),
        Cell(True, "other", 2, 0, ("b", "a")),
        Cell(True, "other", 2, 1, ("b", "a")),
        Cell(True, "one", 2, 1, ("a", "c")),
    ]
    found = trainings_of(cells, order_seed=0)
    assert len(found) == 3
    assert {training.cases for training in found} == {("a", "b"), ("a", "c")}


def test_wherever_the_runs_are_cut_every_strategy_has_had_about_the_same_share() -> None:
    settings = protocol(
        budgets=[2, 4, 8], arms=[{"check": True, "seeds": {"uniform": 9, "kmeans": 3, "farthest": 3}}]
    )
    cells = cells_of(settings, {True: knowledge()})
    order = trainings_of(cells, order_seed=1)
    assert order == trainings_of(list(reversed(cells)), order_seed=1) != trainings_of(cells, order_seed=2)
    third = {training for training in order[: len(order) // 3]}
    by_strategy = {
        name: np.mean([cell.training in third for cell in cells if cell.strategy == name])
        for name in ("uniform", "kmeans", "farthest")
    }
    assert all(0.2 < share < 0.5 for share in by_strategy.values()), by_strategy
    assert sum(cell.strategy == FULL for cell in cells) == 1


def test_random_is_given_as_many_foreground_voxels_as_a_strategy_bought() -> None:
    known = knowledge()
    voxels = {id: 10 + 10 * number for number, id in enumerate(known.candidates.ids)}
    settings = protocol(equal_foreground=["mdal"])
    cells = cells_of(settings, {True: known}, voxels, split=1)
    bought = {
        (cell.strategy, cell.budget, cell.seed): sum(voxels[id] for id in cell.chosen) for cell in cells
    }
    for budget in settings.budgets:
        for seed in range(2):
            wanted = bought["mdal", budget, seed]
            assert abs(bought["uniform_as_mdal", budget, seed] - wanted) <= max(voxels.values()) / 2
    matched = [cell for cell in cells if cell.strategy == "uniform_as_mdal"]
    assert len(matched) == 4
    assert {cell.split for cell in cells} == {1}
    assert matched[0].chosen != next(cell for cell in cells if cell.strategy == "mdal").chosen


def test_a_budget_of_every_candidate_is_refused() -> None:
    with pytest.raises(ValueError, match="below the 4 candidates"):
        cells_of(protocol(), {True: knowledge(4)})
