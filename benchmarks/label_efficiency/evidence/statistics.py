"""Area under the curve, differences over divisions of a pool, and the direct test."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.integrate import trapezoid
from statsmodels.api import OLS, add_constant

from benchmarks.common.paired import LEVEL, Values, probability


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
