"""The plan of the runs: which strategy chose which cases, and which trainings that takes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from benchmarks.common.rival_orders import WITHDRAWN
from benchmarks.label_efficiency.evidence.protocol import Protocol, digest_of
from benchmarks.label_efficiency.evidence.scores import Knowledge
from benchmarks.label_efficiency.evidence.strategies import FULL, choose

UNCHECKED = " without check"


@dataclass(frozen=True)
class Cell:
    """One place of the table: a strategy's choice at a budget with a seed.

    Attributes:
        check: Whether the pool check took damaged scans out before.
        strategy: Who chose, or `FULL`.
        budget: Cases.
        seed: Of the choice and of the training.
        chosen: Ids, best first.
    """

    check: bool
    strategy: str
    budget: int
    seed: int
    chosen: tuple[str, ...]

    @property
    def subset(self) -> str:
        """Hash of the chosen cases, whatever their order."""
        return digest_of(sorted(self.chosen))

    @property
    def training(self) -> Training:
        """What it takes; cells that chose the same cases share it."""
        return Training(self.subset, self.seed, tuple(sorted(self.chosen)))


@dataclass(frozen=True)
class Training:
    """One network: these cases, by id, and this seed."""

    subset: str
    seed: int
    cases: tuple[str, ...]

    @property
    def key(self) -> tuple[str, str]:
        """As the rows have it."""
        return self.subset, str(self.seed)


def title(strategy: str, *, check: bool) -> str:
    """How the tables call a strategy of an arm."""
    return strategy if check else strategy + UNCHECKED


def cells_of(protocol: Protocol, known: Mapping[bool, Knowledge]) -> list[Cell]:
    """Every cell of the table; all candidates, as the pool check leaves them, last.

    Cells of withdrawn orders are left out: their published rows stay, and no new ones are added.

    Args:
        protocol: Arms, budgets, seeds.
        known: Of the candidates with (True) and without the check.

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
                f"{protocol.budgets[-1]}. Lower them: all candidates are trained on besides."
            )
        cells += [
            Cell(arm.check, name, budget, seed, tuple(choose(name, pools[seed], budget=budget, seed=seed)))
            for name, seeds in arm.seeds.items()
            if name not in WITHDRAWN
            for budget in protocol.budgets
            for seed in range(seeds)
        ]
    everyone = tuple(sorted(known[True].candidates.ids))
    return cells + [Cell(True, FULL, len(everyone), seed, everyone) for seed in range(protocol.full_seeds)]


def trainings_of(cells: Sequence[Cell], *, order_seed: int) -> list[Training]:
    """What the cells take, each once, in an order in which a cut is fair to all.

    In rounds, as many as the fewest seeds of a strategy: each round has the same share of every strategy's
    seeds, at every budget, shuffled.
    """
    seeds: dict[tuple[bool, str], int] = {}
    for cell in cells:
        seeds[cell.check, cell.strategy] = max(seeds.get((cell.check, cell.strategy), 0), cell.seed + 1)
    rounds, turn = min(seeds.values()), dict[Training, int]()
    for cell in cells:
        own = cell.seed * rounds // seeds[cell.check, cell.strategy]
        turn[cell.training] = min(own, turn.get(cell.training, rounds))
    drawn = np.random.default_rng(order_seed).permutation(len(turn)).tolist()
    by_key = sorted(turn, key=lambda training: training.key)
    place = dict(zip(by_key, drawn, strict=True))
    return sorted(turn, key=lambda training: (turn[training], place[training]))
