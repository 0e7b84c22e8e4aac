"""Scores of every case by an estimator that never saw its patient, for any estimator."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lib.mdal.scoring.pmi import Array, Rows, assign_folds, refuse_seen

PairScorer = Callable[[NDArray[Any], NDArray[Any]], Array]
FitScorer = Callable[[Rows], Callable[[Rows], Array]]  # rows to train on -> a scorer of other rows


class HeldOut:
    """A fitted estimator that refuses the patients it was trained on; there is no other way to its scores.

    Attributes:
        trained_on: Patients, as text, so that 7 and "7" are one.
    """

    def __init__(self, score: Callable[[Rows], Array], trained_on: Iterable[Any]) -> None:
        """Guard a scorer of rows that was trained on these patients."""
        self._score, self.trained_on = score, frozenset(str(patient) for patient in trained_on)
        if not self.trained_on:
            raise ValueError("an estimator must name the patients it was trained on; got none.")

    @classmethod
    def train(cls, fit: FitScorer, rows: Rows, groups: NDArray[Any]) -> HeldOut:
        """Fit on rows of a pool whose patients are `groups`."""
        return cls(fit(rows), groups[rows].tolist())

    def __call__(self, rows: Rows, groups: NDArray[Any]) -> Array:
        """Score rows of a pool whose patients are `groups`.

        Raises:
            ValueError: If a patient among the rows was trained on.
        """
        refuse_seen(self.trained_on, map(str, groups[rows].tolist()))
        return self._score(rows)


def out_of_fold_pmi(fit: FitScorer, groups: NDArray[Any], *, folds: int, seed: int) -> tuple[Array, Rows]:
    """Score every case by an estimator that never saw its patient.

    Args:
        fit: Trains on the rows it is given, encoder and head both, and returns the scorer of other rows.
        groups: (N,) patient of each case; a patient is never split.
        folds: Parts of the pool, at least 2.
        seed: Of the assignment to folds.

    Returns:
        Scores (N, ...) as the scorer gives them, not standardised, and the fold (N,) of each case.

    Raises:
        ValueError: If there are fewer patients than folds.
    """
    fold, parts = assign_folds(groups, folds=folds, seed=seed), []
    for number in range(folds):
        held_out = HeldOut.train(fit, np.flatnonzero(fold != number), groups)
        parts.append(held_out(np.flatnonzero(fold == number), groups))
    scores = np.full((len(groups), *parts[0].shape[1:]), np.nan)
    for number, part in enumerate(parts):
        scores[fold == number] = part
    return scores, fold
