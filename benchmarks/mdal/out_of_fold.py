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
    """A fitted estimator that refuses to score the patients it was trained on.

    Attributes:
        trained_on: Patients as text, so that 7 and "7" are the same patient.
    """

    def __init__(self, score: Callable[[Rows], Array], trained_on: Iterable[Any]) -> None:
        """Wrap a scorer of rows that was trained on these patients."""
        self._score, self.trained_on = score, frozenset(str(patient) for patient in trained_on)
        if not self.trained_on:
            raise ValueError("an estimator must name the patients it was trained on; got none.")

    @classmethod
    def train(cls, fit: FitScorer, rows: Rows, groups: NDArray[Any]) -> HeldOut:
        """Fit on rows of a pool; `groups` has the patient of each row."""
        return cls(fit(rows), groups[rows].tolist())

    def __call__(self, rows: Rows, groups: NDArray[Any]) -> Array:
        """Score rows of a pool; `groups` has the patient of each row.

        Raises:
            ValueError: If the estimator was trained on a patient among the rows.
        """
        refuse_seen(self.trained_on, map(str, groups[rows].tolist()))
        return self._score(rows)


def out_of_fold_pmi(fit: FitScorer, groups: NDArray[Any], *, folds: int, seed: int) -> tuple[Array, Rows]:
    """Score every case by an estimator that never saw its patient.

    Args:
        fit: Function that trains encoder and head on the rows it gets, and returns the scorer of other rows.
        groups: Patient of each case, shape (N,); a patient's cases are never in two folds.
        folds: Number of parts of the pool, at least 2.
        seed: Seed of the assignment to folds.

    Returns:
        Scores as the scorer gives them, not standardised, shape (N, ...), and fold of each case, shape (N,).

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
