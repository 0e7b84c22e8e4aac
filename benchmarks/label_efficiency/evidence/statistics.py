"""Intervals, paired differences and the direct test, from Dice by seed and patient."""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from scipy.integrate import trapezoid
from scipy.stats import t as student
from statsmodels.api import OLS, add_constant
from statsmodels.stats.multitest import multipletests

from benchmarks.common.paired import DRAWS, LEVEL, Interval, Values

__all__ = [
    "Difference",
    "Slope",
    "area",
    "difference",
    "holm",
    "labels_needed",
    "over_splits",
    "probability",
    "slope",
]

Name = TypeVar("Name", bound=Hashable)


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


@dataclass(frozen=True)
class Slope:
    """Change of Dice per standard deviation of a predictor, with its 95 % interval and p."""

    value: float
    low: float
    high: float
    p: float

    def __str__(self) -> str:
        """Signed slope and its interval with four decimals, and p."""
        return f"{self.value:+.4f} [{self.low:+.4f}, {self.high:+.4f}], {probability(self.p)}"


def area(curve: Values, budgets: Sequence[int]) -> Values:
    """Mean height of the curve over the logarithm of the budget, by the trapezoidal rule.

    Args:
        curve: Height of the curve for each seed, budget and patient, shape (S, B, P).
        budgets: The B budgets; each doubling has the same weight.

    Returns:
        Mean height of each seed and patient, in the unit of the curve, shape (S, P).
    """
    place = np.log2(np.array(budgets, dtype=float))
    return np.asarray(trapezoid(curve, place, axis=1) / (place[-1] - place[0]))


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


def _spread(values: Values) -> Values:
    """Values (S, P) with their variance between seeds times S / (S - 1); one seed is not changed."""
    centre = values.mean(axis=0)
    return np.asarray(centre + (values - centre) * math.sqrt(len(values) / max(1, len(values) - 1)))


def holm(p: Mapping[Name, float]) -> dict[Name, float]:
    """Holm's adjusted p of each comparison.

    Source: Holm 1979.
    """
    if not p:
        return {}
    adjusted = multipletests(list(p.values()), method="holm")[1]
    return {name: float(value) for name, value in zip(p, adjusted, strict=True)}


def labels_needed(budgets: Sequence[int], means: Sequence[float], level: float) -> float:
    """Fewest labels with which a curve reaches a level, with straight lines between its points.

    Returns:
        Number of labels; the first budget if the curve starts at or above the level, infinite if the curve
        never reaches it.
    """
    if means[0] >= level:
        return float(budgets[0])
    for place in range(1, len(budgets)):
        before, after = means[place - 1], means[place]
        if after >= level:
            share = (level - before) / (after - before)
            return budgets[place - 1] + share * (budgets[place] - budgets[place - 1])
    return math.inf


def slope(outcome: Values, predictor: Values, *controls: Values) -> Slope | None:
    """Least squares of an outcome on a predictor and controls, all standardised, and a constant.

    Args:
        outcome: Outcome of each run, shape (R,).
        predictor: Predictor whose slope is returned, shape (R,).
        controls: Further predictors, which are only controlled for, shape (R,) each; one that does not vary
            is left out.

    Returns:
        Slope with Student's interval; None with fewer than three runs more than columns, or if the predictor
        does not vary.
    """
    used = [each for each in controls if each.std() > 0]
    if predictor.std() == 0 or len(outcome) < len(used) + 4:
        return None
    columns = np.stack([(each - each.mean()) / each.std() for each in (predictor, *used)], axis=1)
    fitted = OLS(outcome, add_constant(columns)).fit()
    low, high = fitted.conf_int(1 - LEVEL)[1]
    return Slope(float(fitted.params[1]), float(low), float(high), float(fitted.pvalues[1]))
