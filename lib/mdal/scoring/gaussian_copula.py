"""Pointwise mutual information of two modalities in closed form, by a Gaussian copula."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr, ndtri
from sklearn.covariance import LedoitWolf
from sklearn.decomposition import PCA
from sklearn.model_selection import KFold

from lib.mdal.scoring.pmi import Array, Rows

_QUANTILES = 512  # kept of each marginal; bounds the size of a saved estimator for any number of rows
_TRIAL_ROWS = 2000  # rows on which numbers of components are compared


@dataclass(frozen=True, eq=False)
class GaussianPmi:
    """Fitted Gaussian copula of the embeddings of two modalities, which scores other cases in nats.

    PMI(x, y) = log N([u, v]; S) - log N(u; S_uu) - log N(v; S_vv)

    u and v are the principal components of the normal scores of x and y. Monotone maps of single features
    do not change the PMI, and a value beyond the training range counts as the end of the range.

    Attributes:
        quantile_scores: Normal score of each quantile, shape (Q,); Q is 0 if values are used unchanged.
        first_quantiles: Order statistics of the training values of the first modality, shape (Q, K).
        second_quantiles: Order statistics of the second modality, shape (Q, K).
        first_directions: Principal directions of the first modality, shape (K, C).
        second_directions: Principal directions of the second modality, shape (K, C).
        mean: Mean of [u, v], shape (2C,).
        covariance: Covariance S of [u, v], shape (2C, 2C).
    """

    quantile_scores: Array
    first_quantiles: Array
    second_quantiles: Array
    first_directions: Array
    second_directions: Array
    mean: Array
    covariance: Array

    def __call__(self, x: NDArray[Any], y: NDArray[Any]) -> Array:
        """PMI in nats, shape (m,), of cases that were not fitted on; x and y have shape (m, K).

        Raises:
            ValueError: If the shapes do not fit or a value is not finite.
        """
        joint, first, second = self._log_densities(x, y)
        return joint - first - second

    def state(self) -> dict[str, Array]:
        """Arrays of the estimator by name, to be saved."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> GaussianPmi:
        """Estimator rebuilt from its saved `state`, as arrays or CPU tensors.

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
        """Log densities of both modalities together, of the first and of the second."""
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
    """Fit a Gaussian copula to the embeddings of two modalities; the result scores other cases, in nats.

    Each feature is replaced by the normal score of its rank, and each modality is reduced by PCA. The
    covariance of the components is estimated by Ledoit and Wolf's method, so a few cases are enough.

    Args:
        first: Training embeddings of one modality, shape (n, K); rows of one patient are adjacent.
        second: Training embeddings of the other modality of the same cases, shape (n, K).
        components: Principal components kept of each modality, at most K and n - 1; None chooses the number
            with the largest PMI in a three-fold cross-validation.
        normal_scores: Whether to use normal scores; False uses the values unchanged, for Gaussian marginals.

    Returns:
        Function of held-out embeddings (m, K), (m, K) that gives (m,) nats.

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


def _check(first: NDArray[Any], second: NDArray[Any], *, widths: tuple[int, int]) -> None:
    if first.shape != (len(second), widths[0]) or second.shape != (len(first), widths[1]):
        raise ValueError(
            f"embeddings must be (m, {widths[0]}) and (m, {widths[1]}), as fitted; "
            f"got {first.shape} and {second.shape}."
        )
    if not (np.isfinite(first).all() and np.isfinite(second).all()):
        raise ValueError("embeddings must be finite; got NaN or infinity. Leave out cases that lack one.")


def _known_ranks(count: int) -> Rows:
    """Ranks kept of `count` sorted values: all of them, or some that are evenly spaced in normal score."""
    if count <= _QUANTILES:
        return np.arange(count)
    end = ndtri(count / (count + 1))
    ranks = ndtr(np.linspace(-end, end, _QUANTILES)) * (count + 1) - 1
    return np.unique(np.asarray(ranks.round(), dtype=np.intp))


def _quantiles(values: NDArray[Any], known: Rows) -> Array:
    return np.asarray(np.sort(values.T, axis=1)[:, known].T, dtype=np.float64)


def _normal_scores(values: NDArray[Any], quantiles: Array, levels: Array) -> Array:
    """Normal score of the rank of each value among the quantiles; ties and gaps get the middle rank."""
    if not len(levels):
        return np.asarray(values, dtype=np.float64)
    halves = np.arange(2 * len(levels) + 1) / 2
    score_of_rank = np.interp(halves, halves[1::2], levels)
    scores = np.empty(values.shape)
    for feature in range(values.shape[1]):
        column = np.ascontiguousarray(values[:, feature], dtype=np.float64)
        known = np.ascontiguousarray(quantiles[:, feature])
        first = np.searchsorted(known, column)
        equal = np.append(np.searchsorted(known, known, side="right") - np.arange(len(known)), 0)
        tied = np.append(known, np.nan)[first] == column  # a second search would double the time
        scores[:, feature] = score_of_rank[2 * first + np.where(tied, equal[first], 0)]
    return scores


def _fit_joint(first: Array, second: Array, kept: int) -> tuple[Array, Array, Array, Array]:
    """Principal directions of both modalities, and the mean and covariance of the components."""
    directions = [PCA(kept, svd_solver="covariance_eigh").fit(side).components_.T for side in (first, second)]
    density = LedoitWolf().fit(np.hstack([first @ directions[0], second @ directions[1]]))
    if np.linalg.eigvalsh(density.covariance_)[0] <= 0:
        raise ValueError("embeddings must vary between cases; got rows that are alike. Check the encoder.")
    return directions[0], directions[1], density.location_, density.covariance_


def _best_components(first: Array, second: Array) -> int:
    """Number of components with the largest mean PMI of held-out rows."""
    largest = max(1, min(len(first) // 2, first.shape[1], second.shape[1]))
    candidates = [*(2**power for power in range(1, 16) if 2**power < largest), largest]
    if len(candidates) == 1:
        return largest
    step = math.ceil(len(first) / _TRIAL_ROWS)
    first, second = first[::step], second[::step]
    as_they_are = np.empty(0), np.empty((0, first.shape[1])), np.empty((0, second.shape[1]))
    found = np.zeros(len(candidates))
    for train, test in KFold(3).split(first):  # contiguous parts keep a patient's rows together
        for number, kept in enumerate(candidates):
            pmi = GaussianPmi(*as_they_are, *_fit_joint(first[train], second[train], kept))
            found[number] += pmi(first[test], second[test]).sum()
    return int(candidates[found.argmax()])


def _log_density(centred: Array, covariance: Array) -> Array:
    """Log density in nats of a Gaussian at values from which its mean has been subtracted."""
    distance = np.einsum("ni,ni->n", centred @ np.linalg.inv(covariance), centred)
    constant = len(covariance) * math.log(2 * math.pi) + np.linalg.slogdet(covariance)[1]
    return np.asarray(-0.5 * (distance + constant))
