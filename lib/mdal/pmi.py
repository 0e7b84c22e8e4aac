"""Pointwise mutual information, estimated only for patients that the estimator never saw."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import ndtr, ndtri
from sklearn.covariance import LedoitWolf
from sklearn.decomposition import PCA
from sklearn.model_selection import KFold
from torch import Tensor

from lib.mdal.contrastive import negatives_or_self

Array = NDArray[np.float64]
Rows = NDArray[np.intp]
PairScore = Callable[[NDArray[Any], NDArray[Any]], Array]
Fit = Callable[[Rows], Callable[[Rows], Array]]  # rows to train on -> a scorer of other rows

_QUANTILES = 512  # of each marginal that are kept; bounds what is saved, whatever the rows
_TRIAL_ROWS = 2000  # on which numbers of components are compared


@dataclass(frozen=True, eq=False)
class GaussianPmi:
    """A fitted Gaussian copula of two modalities' embeddings: (m, K), (m, K) of other cases to (m,) nats.

    PMI(x, y) = log N([u, v]; S) - log N(u; S_uu) - log N(v; S_vv)

    u and v are the principal components of the normal scores of x and y. Monotone maps of single
    features change nothing, and a value beyond the training range counts as its end.

    Attributes:
        quantile_scores: Normal score of each quantile, (Q,); Q is 0 if values are taken as they are.
        first_quantiles: Order statistics (Q, K) of each feature's training values.
        second_quantiles: The other side's.
        first_directions: Principal directions (K, C).
        second_directions: The other side's.
        mean: Of [u, v], (2C,).
        covariance: S, (2C, 2C).
    """

    quantile_scores: Array
    first_quantiles: Array
    second_quantiles: Array
    first_directions: Array
    second_directions: Array
    mean: Array
    covariance: Array

    def __call__(self, x: NDArray[Any], y: NDArray[Any]) -> Array:
        """PMI (m,) in nats of cases that were not fitted on, (m, K) each.

        Raises:
            ValueError: If the shapes do not fit or a value is not finite.
        """
        joint, first, second = self._log_densities(x, y)
        return joint - first - second

    def surprise(self, x: NDArray[Any], y: NDArray[Any]) -> Array:
        """How unexpected each modality is given the other, (m,) in nats.

        -1/2 [log p(v | u) + log p(u | v)], densities of the components, not of the embeddings.

        Raises:
            ValueError: If the shapes do not fit or a value is not finite.
        """
        joint, first, second = self._log_densities(x, y)
        return 0.5 * (first + second) - joint

    def state(self) -> dict[str, Array]:
        """Arrays to save, by name."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> GaussianPmi:
        """The estimator whose `state` was saved; arrays or CPU tensors.

        Raises:
            ValueError: If the names are not those of a state.
        """
        names = {field.name for field in fields(cls)}
        if set(state) != names:
            raise ValueError(
                f"a state must hold {', '.join(sorted(names))}; got {', '.join(sorted(state)) or 'nothing'}. "
                "Score the pool again."
            )
        return cls(**{name: np.asarray(value, dtype=np.float64) for name, value in state.items()})

    def _log_densities(self, x: NDArray[Any], y: NDArray[Any]) -> tuple[Array, Array, Array]:
        """Of both modalities together, of the first and of the second."""
        kept = self.first_directions.shape[1]
        _check(x, y, widths=(len(self.first_directions), len(self.second_directions)))
        u = _normal_scores(x, self.first_quantiles, self.quantile_scores) @ self.first_directions
        v = _normal_scores(y, self.second_quantiles, self.quantile_scores) @ self.second_directions
        both = np.hstack([u, v]) - self.mean
        return (
            _log_density(both, self.covariance),
            _log_density(both[:, :kept], self.covariance[:kept, :kept]),
            _log_density(both[:, kept:], self.covariance[kept:, kept:]),
        )


def gaussian_pmi(
    first: NDArray[Any], second: NDArray[Any], *, components: int | None = None, normal_scores: bool = True
) -> GaussianPmi:
    """Fit a Gaussian copula to two modalities' embeddings; the result scores other cases, in nats.

    Each feature is replaced by the normal score of its rank, each side reduced by PCA, and the
    covariance of what is left is Ledoit and Wolf's, so it holds for few cases.

    Args:
        first: Training embeddings of one modality, (n, K); rows of one patient stand together.
        second: The other modality of the same cases, (n, K).
        components: Kept by PCA on each side, at most K and n - 1; None takes the number whose PMI is
            largest on thirds of the rows that were not fitted on.
        normal_scores: False takes the values as they are, for marginals known to be Gaussian.

    Returns:
        A function of held-out embeddings (m, K), (m, K) that gives (m,) nats.

    Raises:
        ValueError: If the shapes differ, there are fewer than 3 rows, or values are not finite or alike.

    Source: Liu, Lafferty & Wasserman 2009 for the copula, with ranks over n + 1 in place of their
    stronger Winsorising; Ledoit & Wolf 2004 for the covariance.
    """
    if len(first) != len(second) or len(first) < 3:
        raise ValueError(
            "first and second must be the same 3 or more cases; "
            f"got {len(first)} and {len(second)} rows. Add cases that have both modalities."
        )
    if components is not None and components < 1:
        raise ValueError(f"components must be at least 1; got {components}.")
    _check(first, second, widths=(first.shape[1], second.shape[1]))
    known = _known_ranks(len(first)) if normal_scores else np.empty(0, dtype=np.intp)
    levels = np.asarray(ndtri((known + 1) / (len(first) + 1)))
    tables = _quantiles(first, known), _quantiles(second, known)
    scores = _normal_scores(first, tables[0], levels), _normal_scores(second, tables[1], levels)
    if components is None:
        components = _best_components(*scores)
    kept = min(components, len(first) - 1, first.shape[1], second.shape[1])
    return GaussianPmi(levels, *tables, *_fit_joint(*scores, kept))


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
    def train(cls, fit: Fit, rows: Rows, groups: NDArray[Any]) -> HeldOut:
        """Fit on rows of a pool whose patients are `groups`."""
        return cls(fit(rows), groups[rows].tolist())

    def __call__(self, rows: Rows, groups: NDArray[Any]) -> Array:
        """Score rows of a pool whose patients are `groups`.

        Raises:
            ValueError: If a patient among the rows was trained on.
        """
        seen = sorted(self.trained_on.intersection(map(str, groups[rows].tolist())))
        if seen:
            raise ValueError(
                "a scored patient must be unknown to the estimator; it was trained on "
                f"{', '.join(seen[:5])}. "
                "Score held-out patients only."
            )
        return self._score(rows)


def assign_folds(groups: NDArray[Any], *, folds: int, seed: int) -> Rows:
    """Deal patients out to folds, of as equal a number of patients, then of cases, as can be.

    Only the order in which patients first appear counts, not their names.

    Args:
        groups: (N,) patient of each case; a patient is never split.
        folds: Parts of the pool, at least 2.
        seed: Of the deal.

    Returns:
        The fold of each case, (N,), from 0.

    Raises:
        ValueError: If there are fewer patients than folds.
    """
    _, first, inverse, cases = np.unique(groups, return_index=True, return_inverse=True, return_counts=True)
    patients = len(first)
    if not 2 <= folds <= patients:
        raise ValueError(
            f"folds must be from 2 to the number of patients ({patients}); got {folds}. Set --conf folds."
        )
    dealt = np.argsort(first)[np.random.default_rng(seed).permutation(patients)]
    fold, size = np.empty(patients, dtype=np.intp), np.zeros(folds, dtype=np.intp)
    for start in range(0, patients, folds):  # each round gives a fold one patient, the smallest the largest
        hand = dealt[start : start + folds]
        hand = hand[np.argsort(-cases[hand], kind="stable")]
        places = np.argsort(size, kind="stable")[: len(hand)]
        fold[hand] = places
        size[places] += cases[hand]
    return np.asarray(fold[inverse])


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
    fold, parts = assign_folds(groups, folds=folds, seed=seed), []
    for number in range(folds):
        held_out = HeldOut.train(fit, np.flatnonzero(fold != number), groups)
        parts.append(held_out(np.flatnonzero(fold == number), groups))
    scores = np.full((len(groups), *parts[0].shape[1:]), np.nan)
    for number, part in enumerate(parts):
        scores[fold == number] = part
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


def _check(first: NDArray[Any], second: NDArray[Any], *, widths: tuple[int, int]) -> None:
    if first.shape != (len(second), widths[0]) or second.shape != (len(first), widths[1]):
        raise ValueError(
            f"embeddings must be (m, {widths[0]}) and (m, {widths[1]}), as fitted; "
            f"got {first.shape} and {second.shape}."
        )
    if not (np.isfinite(first).all() and np.isfinite(second).all()):
        raise ValueError("embeddings must be finite; got NaN or infinity. Leave out cases that lack one.")


def _known_ranks(count: int) -> Rows:
    """Which of `count` sorted values are kept: all, or some that are evenly spaced in normal score."""
    if count <= _QUANTILES:
        return np.arange(count)
    end = ndtri(count / (count + 1))
    ranks = ndtr(np.linspace(-end, end, _QUANTILES)) * (count + 1) - 1
    return np.unique(np.asarray(ranks.round(), dtype=np.intp))


def _quantiles(values: NDArray[Any], known: Rows) -> Array:
    return np.asarray(np.sort(values.T, axis=1)[:, known].T, dtype=np.float64)


def _normal_scores(values: NDArray[Any], quantiles: Array, levels: Array) -> Array:
    """Normal score of each value's rank among the quantiles; ties and gaps take the middle."""
    if not len(levels):
        return np.asarray(values, dtype=np.float64)
    halves = np.arange(2 * len(levels) + 1) / 2
    score_of_rank = np.interp(halves, halves[1::2], levels)
    scores = np.empty(values.shape)
    for feature in range(values.shape[1]):
        column = np.ascontiguousarray(values[:, feature], dtype=np.float64)
        known = np.ascontiguousarray(quantiles[:, feature])
        rank = np.searchsorted(known, column) + np.searchsorted(known, column, side="right")
        scores[:, feature] = score_of_rank[rank]
    return scores


def _fit_joint(first: Array, second: Array, kept: int) -> tuple[Array, Array, Array, Array]:
    """Principal directions of both sides, and the mean and covariance of what they give."""
    directions = [PCA(kept, svd_solver="covariance_eigh").fit(side).components_.T for side in (first, second)]
    density = LedoitWolf().fit(np.hstack([first @ directions[0], second @ directions[1]]))
    if np.linalg.eigvalsh(density.covariance_)[0] <= 0:
        raise ValueError("embeddings must vary between cases; got rows that are alike. Check the encoder.")
    return directions[0], directions[1], density.location_, density.covariance_


def _best_components(first: Array, second: Array) -> int:
    """The number of components whose PMI is largest, on average, for rows that were not fitted on."""
    largest = max(1, min(len(first) // 2, first.shape[1], second.shape[1]))
    candidates = [*(2**power for power in range(1, 16) if 2**power < largest), largest]
    if len(candidates) == 1:
        return largest
    step = math.ceil(len(first) / _TRIAL_ROWS)
    first, second = first[::step], second[::step]
    as_they_are = np.empty(0), np.empty((0, first.shape[1])), np.empty((0, second.shape[1]))
    found = np.zeros(len(candidates))
    for train, test in KFold(3).split(first):  # in one piece each: a patient's rows are neighbours
        for number, kept in enumerate(candidates):
            pmi = GaussianPmi(*as_they_are, *_fit_joint(first[train], second[train], kept))
            found[number] += pmi(first[test], second[test]).sum()
    return int(candidates[found.argmax()])


def _moments(values: Array) -> tuple[Array, Array, Array]:
    """Mean, variance and number of the finite values along the first axis; 0 where there is none."""
    known = np.isfinite(values)
    count = known.sum(axis=0).astype(float)
    mean = np.where(known, values, 0.0).sum(axis=0) / np.maximum(count, 1)
    variance = np.where(known, (values - mean) ** 2, 0.0).sum(axis=0) / np.maximum(count, 1)
    return mean, variance, count


def _log_density(centred: Array, covariance: Array) -> Array:
    """Log density of a Gaussian at what is left after its mean is taken off, in nats."""
    distance = np.einsum("ni,ni->n", centred @ np.linalg.inv(covariance), centred)
    constant = len(covariance) * math.log(2 * math.pi) + np.linalg.slogdet(covariance)[1]
    return np.asarray(-0.5 * (distance + constant))
