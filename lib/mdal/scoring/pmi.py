"""Pointwise mutual information of patients that the estimator was not trained on."""

from __future__ import annotations

import math
from collections.abc import Iterable, Set
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lib.mdal.representation.info_nce import negatives_or_self

Array = NDArray[np.float64]
Rows = NDArray[np.intp]


def critic_pmi(critic: Tensor, *, groups: Tensor | None = None, valid: Tensor | None = None) -> Tensor:
    """PMI of held-out cases by the contrastive critic, which is the critic minus a constant of the position.

    PMI_i = f(x_i, y_i) - log mean over pairs of different patients of exp f(x_i, y_j)

    The positive pair stays out of the normaliser; otherwise the score could not exceed log N. InfoNCE fixes
    the critic up to a constant at each position, so each position has its own normaliser.

    Args:
        critic: Critic f = x . y / tau of every pair of held-out cases in nats, shape (N, N), or (P, N, N) by
            position.
        groups: Patient of each case, shape (N,).
        valid: Cases that have both modalities, shape (N,) or (P, N), bool.

    Returns:
        PMI in nats, shape (N,) or (P, N); NaN for invalid cases, and where only one patient is valid.

    Source: Poole et al. 2019 (arXiv 1905.06922); Uesaka et al. 2024 (arXiv 2404.19228).
    """
    if valid is None:
        valid = torch.ones(critic.shape[:-1], dtype=torch.bool, device=critic.device)
    count = critic.shape[-1]
    apart = negatives_or_self(count, groups, device=critic.device)
    apart = apart & ~torch.eye(count, dtype=torch.bool, device=critic.device)
    pairs = apart & valid[..., :, None] & valid[..., None, :]
    count_of = pairs.sum(dim=(-2, -1))
    constant = critic.masked_fill(~pairs, -torch.inf).logsumexp(dim=(-2, -1)) - count_of.log()
    known = valid & (count_of > 0)[..., None]
    return (critic.diagonal(dim1=-2, dim2=-1) - constant[..., None]).where(known, torch.nan)


def refuse_seen(trained_on: Set[str], patients: Iterable[str]) -> None:
    """Refuse to score patients that were trained on.

    Raises:
        ValueError: If a patient was trained on.
    """
    seen = sorted(trained_on & set(patients))
    if seen:
        raise ValueError(
            "a scored patient must be unknown to the estimator; it was trained on "
            f"{', '.join(seen[:5])}. Score held-out patients only."
        )


def assign_folds(groups: NDArray[Any], *, folds: int, seed: int) -> Rows:
    """Assign patients to folds with numbers of patients, then of cases, as equal as possible.

    The assignment depends on the order in which patients first appear, not on their names.

    Args:
        groups: Patient of each case, shape (N,); a patient is never split.
        folds: Number of folds, at least 2.
        seed: Seed of the assignment.

    Returns:
        Fold of each case from 0, shape (N,).

    Raises:
        ValueError: If there are fewer patients than folds.
    """
    _, first, inverse, cases = np.unique(groups, return_index=True, return_inverse=True, return_counts=True)
    patients = len(first)
    if not 2 <= folds <= patients:
        raise ValueError(f"folds must be from 2 to the number of patients ({patients}); got {folds}.")
    dealt = np.argsort(first)[np.random.default_rng(seed).permutation(patients)]
    fold, size = np.empty(patients, dtype=np.intp), np.zeros(folds, dtype=np.intp)
    for start in range(0, patients, folds):  # one patient per fold; the largest joins the smallest
        hand = dealt[start : start + folds]
        hand = hand[np.argsort(-cases[hand], kind="stable")]
        places = np.argsort(size, kind="stable")[: len(hand)]
        fold[hand] = places
        size[places] += cases[hand]
    return np.asarray(fold[inverse])


def standardise_folds(pmi: Array, fold: Rows, *, prior: float = 10.0) -> Array:
    """Standardise the PMI within each fold, because critics and covariances differ between folds.

    The mean and variance of each fold are shrunk toward those of the pool by a weight of `prior` cases.
    Otherwise a fold of three cases would always have one high, one middle and one low score.

    Args:
        pmi: PMI in nats, shape (N, ...); NaN where missing.
        fold: Fold of each case, shape (N,).
        prior: Weight of the pool's mean and variance, in cases.

    Returns:
        Standardised PMI without a unit, shape (N, ...); NaN stays NaN.
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


def finite_mean(values: Array, axis: int | tuple[int, ...] | None = None) -> Array:
    """Mean of the finite values; NaN where there is none."""
    known = np.isfinite(values)
    count = known.sum(axis=axis)
    total = np.where(known, values, 0.0).sum(axis=axis)
    return np.asarray(np.where(count > 0, total / np.maximum(count, 1), math.nan))


def _moments(values: Array) -> tuple[Array, Array, Array]:
    """Mean, variance and number of the finite values along the first axis; 0 where there is none."""
    known = np.isfinite(values)
    count = known.sum(axis=0).astype(float)
    mean = np.where(known, values, 0.0).sum(axis=0) / np.maximum(count, 1)
    variance = np.where(known, (values - mean) ** 2, 0.0).sum(axis=0) / np.maximum(count, 1)
    return mean, variance, count
