"""Coverage: how well the first cases of an order represent the pool, and how many are enough."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from scipy.spatial.distance import cdist
from sklearn.metrics import pairwise_distances_argmin

from lib.mdal.selection.candidates import Rows
from lib.mdal.selection.clusters import blocks, sample

MOST_MEASURED = 2_000  # cases on which coverage is measured; bounds time and memory
WORTH = 1.0  # past the plateau a labelled case covers only itself


def prefixes(count: int, most: int = 100) -> list[int]:
    """At most `most` prefix lengths from 1 to `count`, in even ratios."""
    return [int(k) for k in np.unique(np.geomspace(1, count, min(count, most)).round())]


def coverage(
    features: NDArray[np.float32],
    order_rows: Rows,
    *,
    at: Sequence[int],
    generator: Generator | None = None,
) -> NDArray[np.float64]:
    """Closeness of the cases of a pool to the first k cases of an order.

    coverage(k) = 1 - mean_i min_{j <= k} |x_i - x_j| / mean_ij |x_i - x_j|

    Coverage is 0 on average for one random case, and 1 when every case is chosen or has a chosen duplicate.
    It never falls as k grows. In a pool of more than 2,000 cases the means are over a sample of 2,000 cases;
    all chosen cases are used. Time grows with 2,000 F k.

    Args:
        features: Features of each case, shape (N, F).
        order_rows: All rows or the first rows of the order, best first.
        at: Prefix lengths k, rising.
        generator: Generator that draws the sample; None always draws the same one, so orders compare.

    Returns:
        Coverage at each prefix, shape (len(at),).

    Raises:
        ValueError: If `at` does not rise from 1 or more to the length of the order or less.
    """
    at = list(at)
    if not at or at[0] < 1 or at[-1] > len(order_rows) or any(a >= b for a, b in pairwise(at)):
        raise ValueError(
            f"at must be rising prefixes from 1 to the {len(order_rows)} cases of the order; got {at[:10]}."
        )
    rows = sample(len(features), MOST_MEASURED, generator or np.random.default_rng(0))
    measured = features[rows].astype(np.float64)
    apart = sum(cdist(measured[block], measured).mean(axis=1).sum() for block in blocks(len(rows), 256))
    nearest = np.full(len(measured), np.inf)
    curve = np.empty(len(at))
    for place, (start, stop) in enumerate(pairwise([0, *at])):
        for block in blocks(stop - start):
            chosen = features[order_rows[start:stop][block]].astype(np.float64)
            closest = chosen[pairwise_distances_argmin(measured, chosen)]
            np.minimum(nearest, np.linalg.norm(measured - closest, axis=1), out=nearest)
        curve[place] = nearest.mean()
    return 1.0 - curve / apart * len(rows) if apart > 0 else np.ones(len(at))


def plateau(curve: NDArray[np.float64], at: Sequence[int], *, cases: int, worth: float = WORTH) -> int:
    """Prefix length after which a further case covers less than `worth` cases on average, itself included.

    k* = argmax_k coverage(k) - worth k / N, the smallest of equals

    This is the knee of the curve (Kneedle, Satopaa et al. 2011, with slope 1). All N cases together raise the
    coverage to 1, so a case that adds no more than 1 / N represents only itself.

    Args:
        curve: `coverage` at the prefixes, shape (len(at),).
        at: Prefix lengths k.
        cases: Number of cases N in the pool.
        worth: Cases that a further case must cover to be worth its label; a larger value ends the plan
            earlier.

    Returns:
        One of `at`.

    Raises:
        ValueError: If there is no prefix, or the curve does not have one value for each prefix.
    """
    if not len(curve) == len(at) > 0:
        raise ValueError(f"curve must have a value for each prefix; got {len(curve)} for {len(at)}.")
    return int(at[int(np.argmax(curve - worth * np.asarray(at) / cases))])
