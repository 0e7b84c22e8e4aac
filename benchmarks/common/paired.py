"""Intervals of means and of rank correlations, by resampling seeds and patients."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

DRAWS = 10_000
RANK_DRAWS = 2_000
LEVEL = 0.95
Values = NDArray[np.float64]


@dataclass(frozen=True)
class Interval:
    """A mean and the interval with the middle 95 % of its resampled values."""

    mean: float
    low: float
    high: float

    def __str__(self) -> str:
        """Mean and interval with three decimals."""
        return f"{self.mean:.3f} [{self.low:.3f}, {self.high:.3f}]"


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
