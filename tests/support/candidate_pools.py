"""Made-up pools for the tests of the selectors."""

from __future__ import annotations

import numpy as np
from hypothesis import strategies as st

from lib.mdal.selection.candidates import Candidates

DRAWN = st.integers(1, 40).flatmap(
    lambda n: st.tuples(
        st.lists(st.lists(st.integers(-3, 3), min_size=2, max_size=2), min_size=n, max_size=n),
        st.lists(st.integers(-3, 3), min_size=n, max_size=n),
        st.permutations(range(n)),
    )
)
"""Features, a column and another order of a pool, with many ties."""


def pool(n=30, *, seed=0, width=4):
    """Cases c00000, c00001 … with every column, all unrelated."""
    random = np.random.default_rng(seed)
    return Candidates(
        [f"c{i:05d}" for i in range(n)],
        random.standard_normal((n, width)).astype(np.float32),
        *(random.standard_normal(n) for _ in range(2)),
    )


def of(ids, features, difference):
    """Cases of given features and difference, without the other columns."""
    return Candidates(list(ids), np.array(features, np.float32).reshape(len(ids), -1), np.array(difference))


def generator():
    return np.random.default_rng(7)


def rows(order):
    """Of ids as `pool` gives them."""
    return [int(id[1:]) for id in order]


def five_groups(each=20, *, spread=0.05):
    """Features (5 each, 5) of five tight groups far apart, which take turns."""
    random = np.random.default_rng(0)
    truth = np.arange(5 * each) % 5
    return (10.0 * np.eye(5)[truth] + spread * random.standard_normal((5 * each, 5))).astype(np.float32)
