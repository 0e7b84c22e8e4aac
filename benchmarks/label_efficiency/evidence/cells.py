"""The plan of the runs: the cases that each strategy chose, and the trainings that this takes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from benchmarks.common.protocols import digest_of
from benchmarks.common.rival_orders import WITHDRAWN
from benchmarks.label_efficiency.evidence.protocol import Protocol
from benchmarks.label_efficiency.evidence.scores import Knowledge
from benchmarks.label_efficiency.evidence.strategies import EQUAL, FULL, choose

UNCHECKED = " without check"
_DRAW_AT_EQUAL = 7  # keeps the draw of equal foreground apart from the other draws of a seed


@dataclass(frozen=True)
class Cell:
    """One cell of the plan: a strategy's choice at a budget with a seed.

    Attributes:
        check: Whether the pool check took damaged scans out beforehand.
        strategy: Name of the strategy, or `FULL`.
        budget: Number of cases to label.
        seed: Seed of the choice and of the training.
        chosen: Ids of the chosen cases, best first.
        split: Number of the division into candidates and test patients.
    """

    check: bool
    strategy: str
    budget: int
    seed: int
    chosen: tuple[str, ...]
    split: int = 0

    @property
    def subset(self) -> str:
        """Hash of the chosen cases, whatever their order."""
        return digest_of(sorted(self.chosen))

    @property
    def training(self) -> Training:
        """Training of the cell; cells that chose the same cases with the same seed share it."""
        return Training(self.subset, self.seed, tuple(sorted(self.chosen)), self.split)


@dataclass(frozen=True)
class Training:
    """Training of one network: a hash and the ids of its cases, its seed, and the division of the pool."""

    subset: str
    seed: int
    cases: tuple[str, ...]
    split: int = 0


def title(strategy: str, *, check: bool) -> str:
    """Name of a strategy of an arm in the tables."""
    return strategy if check else strategy + UNCHECKED


def cells_of(
    protocol: Protocol,
    known: Mapping[bool, Knowledge],
    voxels: Mapping[str, int] | None = None,
    split: int = 0,
) -> list[Cell]:
    """Every cell of a division; the cells of all candidates that pass the pool check come last.

    Cells of withdrawn orders are left out: their published rows stay, and no new rows are added.

    Args:
        protocol: Protocol with the arms, budgets and seeds.
        known: Knowledge of the candidates with the check (True) and without it (False).
        voxels: Foreground voxels of each candidate, for `equal_foreground` alone.
        split: Number of the division.

    Raises:
        ValueError: If a budget is not below the number of candidates.
    """
    cells = []
    for arm in protocol.arms:
        pools = [
            known[arm.check].sample(protocol.pool_share, seed=seed) for seed in range(max(arm.seeds.values()))
        ]
        if protocol.budgets[-1] >= len(pools[0].candidates):
            raise ValueError(
                f"budgets must be below the {len(pools[0].candidates)} candidates of a seed; got "
                f"{protocol.budgets[-1]}. Lower them: training on all candidates is a cell of its own."
            )
        cells += [
            Cell(
                arm.check, name, budget, seed,
                tuple(choose(name, pools[seed], budget=budget, seed=seed)), split,
            )
            for name, seeds in arm.seeds.items()
            if name not in WITHDRAWN
            for budget in protocol.budgets
            for seed in range(seeds)
        ]  # fmt: skip
        matched = [cell for cell in cells if cell.strategy in protocol.equal_foreground]
        cells += _at_equal_foreground(matched, [pool.candidates.ids for pool in pools], voxels or {})
    everyone = tuple(sorted(known[True].candidates.ids))
    full = [Cell(True, FULL, len(everyone), seed, everyone, split) for seed in range(protocol.full_seeds)]
    return cells + full


def _at_equal_foreground(
    cells: Sequence[Cell], ids: Sequence[Sequence[str]], voxels: Mapping[str, int]
) -> Iterator[Cell]:
    """For each cell the random cases of its seed's candidates that come nearest to its foreground voxels."""
    for cell in cells:
        generator = np.random.default_rng([cell.seed, _DRAW_AT_EQUAL])
        order = generator.permutation(sorted(ids[cell.seed])).tolist()
        wanted = sum(voxels[id] for id in cell.chosen)
        count = int(np.abs(np.cumsum([voxels[id] for id in order]) - wanted).argmin()) + 1
        yield replace(cell, strategy=f"{EQUAL}{cell.strategy}", chosen=tuple(order[:count]))


def trainings_of(cells: Sequence[Cell], *, order_seed: int) -> list[Training]:
    """Trainings of the cells, each once, in an order that treats all strategies alike when it is interrupted.

    The trainings come in rounds, as many as the smallest number of seeds of a strategy. Each round has the
    same share of every strategy's seeds at every budget, shuffled.
    """
    seeds: dict[tuple[bool, str], int] = {}
    for cell in cells:
        seeds[cell.check, cell.strategy] = max(seeds.get((cell.check, cell.strategy), 0), cell.seed + 1)
    rounds, turn = min(seeds.values()), dict[Training, int]()
    for cell in cells:
        own = cell.seed * rounds // seeds[cell.check, cell.strategy]
        turn[cell.training] = min(own, turn.get(cell.training, rounds))
    drawn = np.random.default_rng(order_seed).permutation(len(turn)).tolist()
    by_key = sorted(turn, key=lambda training: (training.split, training.subset, training.seed))
    place = dict(zip(by_key, drawn, strict=True))
    return sorted(turn, key=lambda training: (turn[training], place[training]))
