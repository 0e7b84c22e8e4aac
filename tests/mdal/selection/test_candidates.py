"""What a selector may look at."""

from __future__ import annotations

import numpy as np
import pytest

from lib.mdal.selection.candidates import MOST_PLANNED, Candidates, largest_first, planned, remaining, turns


def candidates(ids="abc", features=None, difference=None, **columns):
    n = len(ids)
    return Candidates(
        list(ids),
        np.zeros((n, 2), np.float32) if features is None else features,
        np.arange(float(n)) if difference is None else difference,
        **columns,
    )


def test_what_cannot_be_ordered_is_refused():
    with pytest.raises(ValueError, match="one or more cases; got none"):
        candidates("")
    with pytest.raises(ValueError, match="ids must be unique; 1 of 3 are repeated"):
        candidates("aab")
    for features in (np.zeros((2, 2)), np.zeros(3), np.zeros((3, 0))):
        with pytest.raises(ValueError, match=r"features must be \(N, F\) for the 3 ids; got shape"):
            candidates(features=features)
    with pytest.raises(
        ValueError, match=r"difference must have one value for each of the 3 ids; got shape \(2,\)"
    ):
        candidates(difference=np.zeros(2))
    with pytest.raises(
        ValueError, match=r"lesion_proxy must have one value for each of the 3 ids; got shape \(3, 1\)"
    ):
        candidates(lesion_proxy=np.zeros((3, 1)))


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_is_refused_by_name(bad):
    with pytest.raises(ValueError, match="features must be finite; got NaN or infinity"):
        candidates(features=np.array([[0, 1], [bad, 1], [0, 0]], np.float32))
    for name in ("lesion_proxy", "salient"):
        with pytest.raises(ValueError, match=f"{name} must be finite"):
            candidates(**{name: np.array([0.0, bad, 1.0])})


def test_every_column_goes_with_its_case():
    turned = candidates(
        "cab",
        features=np.array([[3, 3], [1, 1], [2, 2]], np.float32),
        difference=np.array([3.0, 1.0, 2.0]),
        lesion_proxy=np.array([30.0, 10.0, 20.0]),
    ).by_id()
    assert turned.ids == ["a", "b", "c"]
    assert turned.features[:, 0].tolist() == turned.difference.tolist() == [1, 2, 3]
    assert turned.column("lesion_proxy").tolist() == [10, 20, 30]
    assert turned.salient is None


def test_values_fall_and_ties_go_by_id():
    values = np.array([1.0, 2.0, 0.0, 2.0, 1.0, -0.0])
    assert candidates("dbfaec").falling(values).tolist() == [3, 1, 0, 4, 5, 2]
    assert candidates("cba").falling(np.array([1.0, 2.0, 3.0])).tolist() == [2, 1, 0]


def test_a_pool_in_order_of_id_is_not_copied():
    pool = candidates()
    assert pool.by_id() is pool


@pytest.mark.parametrize(
    ("cases", "budget", "expected"),
    [(10, 1, 1), (10, 9, 9), (10, 10, 2), (10, 50, 2), (11, 11, 3), (1, 1, 1)],
)
def test_a_budget_of_the_whole_pool_is_planned_as_a_fifth(cases, budget, expected):
    assert planned(candidates([f"{i}" for i in range(cases)]), budget) == expected


def test_a_long_plan_is_bounded():
    pool = candidates([f"{i}" for i in range(MOST_PLANNED + 100)])
    assert planned(pool, MOST_PLANNED + 50) == MOST_PLANNED


def test_ties_go_by_row():
    assert largest_first(np.array([1.0, 2.0, 2.0, 1.0])).tolist() == [1, 2, 0, 3]


def test_turns_count_how_many_of_the_group_stand_before():
    group, order = np.array([0, 2, 0, 2, 0]), np.array([4, 3, 2, 1, 0])
    assert turns(group, order).tolist() == [2, 1, 1, 0, 0]


def test_what_remains_keeps_its_order():
    assert remaining(np.array([3, 0]), np.array([0, 4, 3, 1, 2])).tolist() == [4, 1, 2]
