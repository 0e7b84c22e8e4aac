"""How well the first cases of an order stand for the pool, and how many are enough."""

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

MOST_MEASURED = 2_000  # cases that stand for the pool; bounds time and memory
WORTH = 1.0  # itself: past the plateau a label tells of no case but its own


def prefixes(count: int, most: int = 100) -> list[int]:
    """At most `most` prefixes of an order of `count` cases, from 1 to `count`, in even ratios."""
    return [int(k) for k in np.unique(np.geomspace(1, count, min(count, most)).round())]


def coverage(
    features: NDArray[np.float32],
    order_rows: Rows,
    *,
    at: Sequence[int],
    generator: Generator | None = None,
) -> NDArray[np.float64]:
    """How near the pool's cases are to the first k cases of an order.

    coverage(k) = 1 - mean_i min_{j <= k} |x_i - x_j| / mean_ij |x_i - x_j|

    0 is what one case drawn at random gives on average, below 0 is worse; 1 when every case is chosen or
    has a chosen duplicate. It never falls as k grows. Of a pool above 2,000 cases the means are over a
    sample of that many; the chosen cases are always all there. Time grows with 2,000 F k.

    Args:
        features: (N, F).
        order_rows: The N rows of the features or the first of them, best first.
        at: Prefixes k, rising.
        generator: Draws the sample; the same sample every time where it is None, so orders compare.

    Returns:
        Shape (len(at),).

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
    """The prefix after which a further case covers less than `worth` cases on average, itself among them.

    k* = argmax_k coverage(k) - worth k / N, the smallest of equals

    This is the knee of the curve (Kneedle, Satopaa et al. 2011, whose slope is 1): all N cases together
    raise the coverage to 1, so a case worth no more than its share of 1 / N stands for itself only.

    Args:
        curve: `coverage` at the prefixes, shape (len(at),).
        at: Prefixes k.
        cases: N, cases in the pool.
        worth: How many cases a further case must cover to be worth its label; more ends the plan earlier.

    Returns:
        One of `at`.

    Raises:
        ValueError: If there is no prefix, or not one value for each.
    """
    if not len(curve) == len(at) > 0:
        raise ValueError(f"curve must have a value for each prefix; got {len(curve)} for {len(at)}.")
    return int(at[int(np.argmax(curve - worth * np.asarray(at) / cases))])
