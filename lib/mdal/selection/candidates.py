"""The cases of a pool with all that a selector may look at, and what every selector keeps to."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

WHOLE_POOL_SHARE = 0.2  # the largest share of labels that the MDAL abstract reports
MOST_PLANNED = 2_000  # bounds the time of any selector; a plan this long is spread as far as it need be

Rows = NDArray[np.intp]
_MATRICES = ("features", "saliency_features")


@dataclass(frozen=True, eq=False)
class Candidates:
    """N cases that could be labelled; no attribute knows a label.

    Attributes:
        ids: Of the N cases.
        features: PCA-reduced embeddings, shape (N, F).
        difference: Modality difference, shape (N,).
        lesion_proxy: Larger for a larger or more conspicuous region, found without labels, shape (N,).
        salient: How many places are the most conspicuous ones of the pool, shape (N,).
        saliency_features: How these places look, shape (N, L).
        aligned: Whether the same place is the same part of the body in every case; else the three before
            say little.

    Raises:
        ValueError: If the lengths differ, a value is not finite or an id comes twice.
    """

    ids: Sequence[str]
    features: NDArray[np.float32]
    difference: NDArray[np.float64]
    lesion_proxy: NDArray[np.float64] | None = None
    salient: NDArray[np.float64] | None = None
    saliency_features: NDArray[np.float32] | None = None
    aligned: bool = True

    def __post_init__(self) -> None:
        """Refuse what can't be ordered."""
        count = len(self.ids)
        if count == 0:
            raise ValueError("there must be one or more cases; got none. Check where the pool is read from.")
        again = count - len(set(self.ids))
        if again:
            raise ValueError(f"ids must be unique; {again} of {count} come again. Name each case once.")
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
        """Cases."""
        return len(self.ids)

    def columns(self) -> dict[str, NDArray[np.float64]]:
        """What is known of each case as one number, by name; each of shape (N,)."""
        names = (field.name for field in fields(self) if field.name not in ("ids", "aligned", *_MATRICES))
        return {name: getattr(self, name) for name in names if getattr(self, name) is not None}

    def matrices(self) -> dict[str, NDArray[np.float32]]:
        """Where each case lies, by name; each of shape (N, F)."""
        return {name: getattr(self, name) for name in _MATRICES if getattr(self, name) is not None}

    def column(self, name: str) -> NDArray[np.float64]:
        """One of `columns`.

        Raises:
            ValueError: If it was not given.
        """
        known = self.columns()
        if name not in known:
            raise ValueError(
                f"this selector needs the column {name}; the candidates have {', '.join(known)}. "
                f"Compute {name} for the pool or choose another selector."
            )
        return known[name]

    def take(self, rows: Rows) -> Candidates:
        """The cases of these rows, in their order."""
        known: dict[str, Any] = {**self.matrices(), **self.columns()}
        return replace(self, ids=self.named(rows), **{name: values[rows] for name, values in known.items()})

    def by_id(self) -> Candidates:
        """The same cases in order of id, so that the order of the pool can't matter and ties go by row."""
        rows = sorted(range(len(self)), key=self.ids.__getitem__)
        return self if rows == list(range(len(self))) else self.take(np.array(rows, dtype=np.intp))

    def falling(self, values: NDArray[np.float64]) -> Rows:
        """Rows by falling value, ties by id; only those that tie are compared by id."""
        order = largest_first(values)
        same = np.diff(values[order]) == 0
        tied = np.flatnonzero(np.append(same, False) | np.append(False, same))
        by_id = np.array(sorted(order[tied].tolist(), key=self.ids.__getitem__), dtype=np.intp)
        order[tied] = by_id[largest_first(values[by_id])]
        return order

    def named(self, rows: Rows) -> list[str]:
        """The ids of rows."""
        return [self.ids[row] for row in rows.tolist()]


Selector = Callable[[Candidates, int, Generator], list[str]]
"""(candidates, budget, generator) -> every id, best first, so that any prefix is a good budget.

The order of the candidates does not matter and ties go by id. Raises ValueError if the budget is below 1
or a column that the selector needs is None.
"""


def planned(candidates: Candidates, budget: int) -> int:
    """How many cases are chosen with one another in mind.

    A budget of the whole pool asks for an order only; it is ordered as for a fifth of the pool.

    Raises:
        ValueError: If budget < 1.
    """
    if budget < 1:
        raise ValueError(f"budget must be at least 1 case; got {budget}. Ask for one or more.")
    count = len(candidates)
    return min(budget if budget < count else math.ceil(WHOLE_POOL_SHARE * count), MOST_PLANNED)


def largest_first(values: NDArray[np.floating[Any]]) -> Rows:
    """Rows by falling value; ties by row."""
    return np.argsort(-values, kind="stable")


def remaining(rows: Rows, order: Rows) -> Rows:
    """What of an order is not among the rows."""
    return order[~np.isin(order, rows)]


def turns(group: Rows, order: Rows) -> Rows:
    """How many of a case's group stand before it.

    Args:
        group: Of each of the N cases.
        order: All N rows, best first.

    Returns:
        Shape (N,), at each row: 0 for the best of each group, 1 for its second, and so on.
    """
    sizes = np.bincount(group)
    grouped = order[np.argsort(group[order], kind="stable")]
    turn = np.empty(len(group), dtype=np.intp)
    turn[grouped] = np.arange(len(group)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    return turn
