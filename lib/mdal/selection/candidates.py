"""Candidates for labelling, with the scores that selectors use, and the rules for every selector."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from functools import wraps
from typing import Any

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from lib.mdal.scoring.difference import extreme
from lib.mdal.scoring.pmi import Rows as Rows

WHOLE_POOL_SHARE = 0.2  # largest share of labelled cases in the MDAL abstract
MOST_PLANNED = 2_000  # bounds the time of any selector; a plan this long covers any pool

_MATRICES = ("features", "saliency_features")


@dataclass(frozen=True, eq=False)
class Candidates:
    """N cases that could be labelled; no attribute depends on a label.

    Attributes:
        ids: Names of the N cases.
        features: PCA-reduced embeddings, shape (N, F).
        difference: Modality difference, by which cases are ranked, shape (N,).
        lesion_proxy: Label-free proxy of the size and conspicuity of lesions, shape (N,).
        salient: Number of places that are among the most conspicuous of the pool, shape (N,).
        saliency_features: Appearance of the salient places, shape (N, L).
        damage: Difference of the case as a whole, which damaged scans raise, shape (N,); None if not known.
        aligned: Whether a place is the same part of the body in every case; if not, `lesion_proxy`, `salient`
            and `saliency_features` mean little.

    Raises:
        ValueError: If the lengths differ, a value is not finite or an id is repeated.
    """

    ids: Sequence[str]
    features: NDArray[np.float32]
    difference: NDArray[np.float64]
    lesion_proxy: NDArray[np.float64] | None = None
    salient: NDArray[np.float64] | None = None
    saliency_features: NDArray[np.float32] | None = None
    damage: NDArray[np.float64] | None = None
    aligned: bool = True

    def __post_init__(self) -> None:
        """Refuse candidates that cannot be ordered."""
        count = len(self.ids)
        if count == 0:
            raise ValueError("there must be one or more cases; got none. Check where the pool is read from.")
        again = count - len(set(self.ids))
        if again:
            raise ValueError(f"ids must be unique; {again} of {count} are repeated. Name each case once.")
        for name, rows in self.matrices().items():
            if rows.ndim != 2 or len(rows) != count or rows.shape[1] == 0:
                raise ValueError(
                    f"{name} must be (N, F) for the {count} ids; got shape {rows.shape}. Give one row a case."
                )
        for name, values in self.columns().items():
            if values.shape != (count,):
                raise ValueError(
                    f"{name} must have one value for each of the {count} ids; got shape {values.shape}."
                )
        known: dict[str, NDArray[Any]] = {**self.matrices(), **self.columns()}
        for name, values in known.items():
            if not (np.isfinite(values.min()) and np.isfinite(values.max())):  # NaN passes through both
                raise ValueError(f"{name} must be finite; got NaN or infinity. Score the pool again.")

    def __len__(self) -> int:
        """Number of cases."""
        return len(self.ids)

    def columns(self) -> dict[str, NDArray[np.float64]]:
        """Known attributes with one number per case, by name; shape (N,) each."""
        names = (field.name for field in fields(self) if field.name not in ("ids", "aligned", *_MATRICES))
        return {name: getattr(self, name) for name in names if getattr(self, name) is not None}

    def matrices(self) -> dict[str, NDArray[np.float32]]:
        """Known feature matrices, by name; shape (N, F) each."""
        return {name: getattr(self, name) for name in _MATRICES if getattr(self, name) is not None}

    def column(self, name: str) -> NDArray[np.float64]:
        """Column of this name.

        Raises:
            ValueError: If the candidates have no such column.
        """
        known = self.columns()
        if name not in known:
            raise ValueError(
                f"this selector needs the column {name}; the candidates have {', '.join(known)}. "
                f"Compute {name} for the pool or choose another selector."
            )
        return known[name]

    def take(self, rows: Rows) -> Candidates:
        """Candidates in these rows, in the order of the rows."""
        known: dict[str, Any] = {**self.matrices(), **self.columns()}
        return replace(self, ids=self.named(rows), **{name: values[rows] for name, values in known.items()})

    def suspects(self) -> Rows:
        """Rows of the cases whose scans are likelier damaged than informative, the least extreme first."""
        if self.damage is None:
            return np.empty(0, dtype=np.intp)
        rising = self.falling(self.damage)[::-1]
        return np.asarray(rising[extreme(self.damage)[rising]])

    def by_id(self) -> Candidates:
        """Same candidates sorted by id, so that pool order does not matter and ties break by row."""
        rows = sorted(range(len(self)), key=self.ids.__getitem__)
        return self if rows == list(range(len(self))) else self.take(np.array(rows, dtype=np.intp))

    def falling(self, values: NDArray[np.float64]) -> Rows:
        """Rows by falling value; ties break by id."""
        order = largest_first(values)
        same = np.diff(values[order]) == 0
        tied = np.flatnonzero(np.append(same, False) | np.append(False, same))
        by_id = np.array(sorted(order[tied].tolist(), key=self.ids.__getitem__), dtype=np.intp)
        order[tied] = by_id[largest_first(values[by_id])]
        return order

    def named(self, rows: Rows) -> list[str]:
        """Ids of the cases in these rows."""
        return [self.ids[row] for row in rows.tolist()]


Selector = Callable[[Candidates, int, Generator], list[str]]
"""(candidates, budget, generator) -> every id, best first, so that any prefix is a good choice.

The order of the candidates does not matter, and ties break by id. A selector raises ValueError if the budget
is below 1 or a column that it needs is None.
"""


def damage_last(select: Selector) -> Selector:
    """The same order of the other cases, followed by the likely damaged ones, the most extreme at the end."""

    @wraps(select)
    def ordered(candidates: Candidates, budget: int, generator: Generator) -> list[str]:
        suspects = candidates.suspects()
        usual = np.setdiff1d(np.arange(len(candidates)), suspects)
        return select(candidates.take(usual), budget, generator) + candidates.named(suspects)

    return ordered


def planned(candidates: Candidates, budget: int) -> int:
    """Number of cases that are chosen jointly, so that they complement one another.

    A budget of the whole pool only asks for an order; the pool is then ordered as for a fifth of it.

    Raises:
        ValueError: If budget < 1.
    """
    if budget < 1:
        raise ValueError(f"budget must be at least 1 case; got {budget}. Ask for one or more.")
    count = len(candidates)
    return min(budget if budget < count else math.ceil(WHOLE_POOL_SHARE * count), MOST_PLANNED)


def largest_first(values: NDArray[np.floating[Any]]) -> Rows:
    """Rows by falling value; ties break by row."""
    return np.argsort(-values, kind="stable")


def remaining(rows: Rows, order: Rows) -> Rows:
    """Part of an order that is not among the rows."""
    return order[~np.isin(order, rows)]


def turns(group: Rows, order: Rows) -> Rows:
    """Number of cases of the same group that precede each case.

    Args:
        group: Group of each of the N cases.
        order: All N rows, best first.

    Returns:
        Turn of each case, shape (N,): 0 for the best case of each group, 1 for the second, and so on.
    """
    sizes = np.bincount(group)
    grouped = order[np.argsort(group[order], kind="stable")]
    turn = np.empty(len(group), dtype=np.intp)
    turn[grouped] = np.arange(len(group)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    return turn
