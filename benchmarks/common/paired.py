"""Means, paired differences and rank correlations with intervals, by resampling seeds and patients."""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata
from scipy.stats import t as student
from statsmodels.stats.multitest import multipletests

DRAWS = 10_000
RANK_DRAWS = 2_000
LEVEL = 0.95
Values = NDArray[np.float64]
Name = TypeVar("Name", bound=Hashable)


@dataclass(frozen=True)
class Interval:
    """A mean and the interval with the middle 95 % of its resampled values."""

    mean: float
    low: float
    high: float

    def __str__(self) -> str:
        """Mean and interval with three decimals."""
        return f"{self.mean:.3f} [{self.low:.3f}, {self.high:.3f}]"


@dataclass(frozen=True)
class Difference:
    """A difference of two means, its interval, and the two-sided p of no difference."""

    interval: Interval
    p: float

    def __str__(self) -> str:
        """Signed difference and its interval with three decimals."""
        return f"{self.interval.mean:+.3f} [{self.interval.low:+.3f}, {self.interval.high:+.3f}]"


def probability(p: float) -> str:
    """A p value as a table shows it."""
    return f"p {p:.3f}" if p >= 0.001 else "p < 0.001"


def mean_interval(values: Values, *, draws: int = DRAWS, seed: int = 0) -> Interval:
    """Mean of values, with seeds and patients resampled.

    Args:
        values: Value of each seed and patient, shape (S, P); differences for a paired comparison.
        draws: Number of resamplings.
        seed: Seed of the resampling.
    """
    seeds, patients = _draws(values.shape[0], values.shape[1], draws, seed)
    means = values[seeds[:, :, None], patients[:, None, :]].mean(axis=(1, 2))
    return _interval(float(values.mean()), means)


def difference(first: Values, second: Values, *, draws: int = DRAWS, seed: int = 0) -> Difference:
    """Mean of the first minus mean of the second, paired by patient.

    Patients are resampled together, because both sides were tested on the same patients. Seeds are resampled
    separately, because the seeds of the two sides are independent. Resampling S of S seeds gives only
    (S - 1) / S of their variance, a third less for three seeds; the seeds are therefore first spread about
    their mean by the square root of S / (S - 1). p is twice the share of resamplings on the far side of zero.

    Args:
        first: Value of each seed and patient, shape (S, P).
        second: Value of each seed and patient of the other side, shape (R, P).
        draws: Number of resamplings.
        seed: Seed of the resampling.
    """
    random = np.random.default_rng(seed)
    weights = random.multinomial(first.shape[1], np.full(first.shape[1], 1 / first.shape[1]), size=draws)
    means = []
    for values in map(_spread, (first, second)):
        times = random.multinomial(len(values), np.full(len(values), 1 / len(values)), size=draws)
        means.append(np.einsum("ds,sp,dp->d", times, values, weights, optimize=True) / values.size)
    resampled = means[0] - means[1]
    low, high = np.quantile(resampled, ((1 - LEVEL) / 2, (1 + LEVEL) / 2))
    side = min((resampled <= 0).sum(), (resampled >= 0).sum())
    p = min(1.0, 2 * (int(side) + 1) / (draws + 1))
    return Difference(Interval(float(first.mean() - second.mean()), float(low), float(high)), p)


def over_splits(values: Values, *, overlap: float) -> Difference:
    """Mean of one value for each random division of a pool, by the corrected resampled t-test.

    The divisions share patients, so their values vary less than those of new pools would. The variance of
    the mean is therefore taken as (1 / K + overlap) times that of the values, instead of 1 / K times.

    Args:
        values: Value of each division, shape (K,), such as the difference of two strategies.
        overlap: Test patients of a division per candidate.

    Returns:
        Mean, interval and p, by Student's distribution of K - 1 degrees of freedom.

    Source: Nadeau & Bengio 2003.
    """
    mean, freedom = float(values.mean()), len(values) - 1
    error = float(values.std(ddof=1)) * math.sqrt(1 / len(values) + overlap)
    if error == 0:
        return Difference(Interval(mean, mean, mean), 1.0 if mean == 0 else 0.0)
    low, high = student.interval(LEVEL, freedom, mean, error)
    return Difference(
        Interval(mean, float(low), float(high)), float(2 * student.sf(abs(mean) / error, freedom))
    )


def holm(p: Mapping[Name, float]) -> dict[Name, float]:
    """Holm's adjusted p of each comparison.

    Source: Holm 1979.
    """
    if not p:
        return {}
    adjusted = multipletests(list(p.values()), method="holm")[1]
    return {name: float(value) for name, value in zip(p, adjusted, strict=True)}


def spearman_interval(first: Values, second: Values, *, draws: int = RANK_DRAWS, seed: int = 0) -> Interval:
    """Spearman's correlation over patients and links within each seed, mean of the seeds.

    Args:
        first: Value of each seed, patient and link, shape (S, P, L).
        second: Values to correlate with them, shape (S, P, L).
        draws: Number of resamplings of seeds and patients; a patient's links stay together.
        seed: Seed of the resampling.

    Returns:
        Mean correlation and its interval; NaN where a seed's values are all equal.
    """
    seeds, patients = _draws(first.shape[0], first.shape[1], draws, seed)
    picked = [values[seeds[:, :, None], patients[:, None, :]] for values in (first, second)]
    return _interval(float(_spearman(first, second).mean()), _spearman(*picked).mean(axis=-1))


def _spearman(first: Values, second: Values) -> Values:
    """Spearman's correlation of two arrays (..., P, L) over their last two axes."""
    ranks = [rankdata(values.reshape(*values.shape[:-2], -1), axis=-1) for values in (first, second)]
    centred = [values - values.mean(axis=-1, keepdims=True) for values in ranks]
    product = (centred[0] * centred[1]).sum(axis=-1)
    size = np.sqrt((centred[0] ** 2).sum(axis=-1) * (centred[1] ** 2).sum(axis=-1))
    return np.asarray(np.divide(product, size, out=np.full_like(product, np.nan), where=size > 0))


def _draws(seeds: int, patients: int, draws: int, seed: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Indices of the resampled seeds, shape (draws, S), and patients, shape (draws, P)."""
    random = np.random.default_rng(seed)
    return random.integers(seeds, size=(draws, seeds)), random.integers(patients, size=(draws, patients))


def _interval(mean: float, resampled: Values) -> Interval:
    outside = (1.0 - LEVEL) / 2
    finite = resampled[np.isfinite(resampled)]
    low, high = np.quantile(finite, (outside, 1.0 - outside)) if len(finite) else (np.nan, np.nan)
    return Interval(mean, float(low), float(high))


def _spread(values: Values) -> Values:
    """Values (S, P) with their variance between seeds times S / (S - 1); one seed is not changed."""
    centre = values.mean(axis=0)
    return np.asarray(centre + (values - centre) * math.sqrt(len(values) / max(1, len(values) - 1)))
