"""Pointwise mutual information, estimated only for patients that the estimator never saw."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.covariance import LedoitWolf
from sklearn.decomposition import PCA
from sklearn.model_selection import GroupKFold
from torch import Tensor

from lib.mdal.contrastive import negatives_or_self

Array = NDArray[np.float64]
Rows = NDArray[np.intp]
PairScore = Callable[[NDArray[Any], NDArray[Any]], Array]
Fit = Callable[[Rows], Callable[[Rows], Array]]  # rows to train on -> a scorer of other rows


def gaussian_pmi(first: NDArray[Any], second: NDArray[Any], *, components: int = 8) -> PairScore:
    """Fit a joint Gaussian to two modalities' embeddings; the result scores other cases, in nats.

    PMI(x, y) = log N([x, y]; m, S) - log N(x; m_x, S_x) - log N(y; m_y, S_y)

    Each side is reduced by PCA, and S is the Ledoit-Wolf covariance, so it holds for few cases.

    Args:
        first: Training embeddings of one modality, (n, K).
        second: The other modality of the same cases, (n, K).
        components: Kept by PCA on each side, at most K and n - 1.

    Returns:
        A function of held-out embeddings (m, K), (m, K) that gives (m,) nats.

    Raises:
        ValueError: If the shapes differ or there are fewer than 3 rows.

    Source: Ledoit & Wolf 2004 for the covariance; the closed form is the Gaussian log density ratio.
    """
    if len(first) != len(second) or len(first) < 3:
        raise ValueError(
            "first and second must be the same 3 or more cases; "
            f"got {len(first)} and {len(second)} rows. Add cases that have both modalities."
        )
    kept = min(components, len(first) - 1, first.shape[1], second.shape[1])
    reduce = [PCA(kept, random_state=0).fit(side) for side in (first, second)]
    density = LedoitWolf().fit(np.hstack([reduce[0].transform(first), reduce[1].transform(second)]))
    mean, joint = density.location_, density.covariance_
    left, right = joint[:kept, :kept], joint[kept:, kept:]

    def score(x: NDArray[Any], y: NDArray[Any]) -> Array:
        both = np.hstack([reduce[0].transform(x), reduce[1].transform(y)]) - mean
        return (
            _log_density(both, joint)
            - _log_density(both[:, :kept], left)
            - _log_density(both[:, kept:], right)
        )

    return score


def critic_pmi(critic: Tensor, *, groups: Tensor | None = None, valid: Tensor | None = None) -> Tensor:
    """The contrastive critic of held-out cases, less the one constant that makes it PMI.

    PMI_i = f(x_i, y_i) - log mean over pairs of different patients of exp f(x_i, y_j)

    The positive stays out of the normaliser: with it the score could not exceed log N.

    Args:
        critic: f in nats, x . y / tau of every pair of held-out cases, (N, N) or (P, N, N) by position.
        groups: (N,) patient of each case.
        valid: (N,) or (P, N) bool, both modalities are there.

    Returns:
        Shape (N,) or (P, N), in nats; NaN where invalid, or where there is no pair of different patients.

    Source: Poole et al. 2019 (arXiv 1905.06922); Uesaka et al. 2024 (arXiv 2404.19228).
    """
    if valid is None:
        valid = torch.ones(critic.shape[:-1], dtype=torch.bool, device=critic.device)
    count = critic.shape[-1]
    apart = negatives_or_self(count, groups, device=critic.device)
    apart = apart & ~torch.eye(count, dtype=torch.bool, device=critic.device)
    pairs = apart & valid[..., :, None] & valid[..., None, :]
    found = critic[pairs]
    constant = found.logsumexp(dim=0) - math.log(found.numel()) if found.numel() else torch.nan
    return (critic.diagonal(dim1=-2, dim2=-1) - constant).where(valid, torch.nan)


@dataclass(frozen=True, eq=False)
class HeldOut:
    """A fitted estimator that refuses the patients it was trained on.

    Attributes:
        score: Of rows that are not from those patients.
        trained_on: Patients.
    """

    score: Callable[[Rows], Array]
    trained_on: frozenset[Any]

    def __call__(self, rows: Rows, groups: NDArray[Any]) -> Array:
        """Score rows of a pool whose patients are `groups`.

        Raises:
            ValueError: If a patient among the rows was trained on.
        """
        seen = sorted(str(patient) for patient in self.trained_on.intersection(groups[rows].tolist()))
        if seen:
            raise ValueError(
                "a scored patient must be unknown to the estimator; it was trained on "
                f"{', '.join(seen[:5])}. "
                "Score held-out patients only."
            )
        return self.score(rows)


def out_of_fold_pmi(fit: Fit, groups: NDArray[Any], *, folds: int, seed: int) -> tuple[Array, Rows]:
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
    patients = np.unique(groups).size
    if not 2 <= folds <= patients:
        raise ValueError(
            f"folds must be from 2 to the number of patients ({patients}); got {folds}. Set --conf folds."
        )
    fold, parts = np.zeros(len(groups), dtype=np.intp), []
    for number, (train, test) in enumerate(_folds(groups, folds, seed)):
        fold[test] = number
        parts.append((test, HeldOut(fit(train), frozenset(groups[train].tolist()))(test, groups)))
    scores = np.full((len(groups), *parts[0][1].shape[1:]), np.nan)
    for test, part in parts:
        scores[test] = part
    return scores, fold


def standardise_folds(pmi: Array, fold: Rows, *, prior: float = 10.0) -> Array:
    """Put folds on one scale, as critics and covariances of different folds differ by constants.

    Each fold's mean and deviation are drawn toward the pool's by `prior` cases: three cases would
    otherwise always come out as one high, one middle and one low.

    Args:
        pmi: (N, ...) in nats; NaN where missing.
        fold: (N,).
        prior: Weight of the pool's mean and variance, in cases.

    Returns:
        (N, ...) without a unit; NaN stays NaN.
    """
    mean, variance, _ = _moments(pmi)
    result = np.empty_like(pmi)
    for number in np.unique(fold):
        rows = fold == number
        own_mean, own_variance, count = _moments(pmi[rows])
        weight = count / (count + prior)
        centre = weight * own_mean + (1 - weight) * mean
        spread = np.sqrt(weight * own_variance + (1 - weight) * variance)
        result[rows] = (pmi[rows] - centre) / np.where(spread > 0, spread, 1.0)
    return result


def _folds(groups: NDArray[Any], folds: int, seed: int) -> Iterator[tuple[Rows, Rows]]:
    yield from GroupKFold(folds, shuffle=True, random_state=seed).split(groups, groups=groups)


def _moments(values: Array) -> tuple[Array, Array, Array]:
    """Mean, variance and number of the finite values along the first axis; 0 where there is none."""
    known = np.isfinite(values)
    count = known.sum(axis=0).astype(float)
    mean = np.where(known, values, 0.0).sum(axis=0) / np.maximum(count, 1)
    variance = np.where(known, (values - mean) ** 2, 0.0).sum(axis=0) / np.maximum(count, 1)
    return mean, variance, count


def _log_density(centred: Array, covariance: Array) -> Array:
    """Log density of a Gaussian without its 2 pi term, which cancels in the ratio."""
    distance = np.einsum("ni,ni->n", centred @ np.linalg.inv(covariance), centred)
    return np.asarray(-0.5 * (distance + np.linalg.slogdet(covariance)[1]))
