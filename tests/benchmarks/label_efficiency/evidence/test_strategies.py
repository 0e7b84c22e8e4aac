"""What each strategy chooses."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from benchmarks.common.rival_orders import ORDERS
from benchmarks.label_efficiency.evidence.strategies import CONTROLS, choose
from lib.mdal.selection.strategies import cluster_of
from tests.support.made_up_study import knowledge


@pytest.mark.parametrize("name", [*ORDERS, *CONTROLS])
def test_a_strategy_chooses_the_same_with_the_same_seed_whatever_the_order_of_the_pool(name: str) -> None:
    known = knowledge()
    rows = np.random.default_rng(3).permutation(40)
    other = known.take(rows)
    chosen = choose(name, known, budget=6, seed=4)
    assert len(set(chosen)) == 6
    assert chosen == choose(name, other, budget=6, seed=4)


def test_a_seed_may_choose_from_a_share_of_the_candidates_whatever_their_order() -> None:
    known = knowledge()
    rows = np.random.default_rng(3).permutation(40)
    other = known.take(rows)
    first, again, second = (
        set(of.sample(0.9, seed=seed).candidates.ids) for of, seed in ((known, 0), (other, 0), (known, 1))
    )
    assert len(first) == 36
    assert first == again != second
    part = known.sample(0.5, seed=0)
    of = dict(zip(known.candidates.ids, known.differences["in_sample"], strict=True))
    assert part.differences["in_sample"].tolist() == [of[id] for id in part.candidates.ids]


def test_the_controls_differ_from_diverse_md_in_the_member_alone() -> None:
    known = knowledge()
    group = dict(
        zip(known.candidates.ids, cluster_of(known.candidates, 6, np.random.default_rng(4)), strict=True)
    )
    chosen = {
        name: choose(name, known, budget=6, seed=4)
        for name in ("diversemd", "diversemd_random", "diversemd_min")
    }
    for ids in chosen.values():
        assert sorted(group[id] for id in ids) == list(range(6))
    assert len({frozenset(ids) for ids in chosen.values()}) == 3


def test_controls_of_the_scores_rank_by_the_other_difference() -> None:
    known = knowledge()
    best = int(np.argmax(known.differences["in_sample"]))
    assert choose("in_sample", known, budget=3, seed=0)[0] == known.candidates.ids[best]
    assert choose("in_sample", known, budget=3, seed=0) != choose("mdal", known, budget=3, seed=0)


@pytest.mark.parametrize("name", ["mdal", "diversemd", "stratified", "kmeans_look", "representative"])
def test_likely_damaged_cases_are_chosen_last_but_by_the_unguarded_order(name: str) -> None:
    known = knowledge()
    damage = np.random.default_rng(5).standard_normal(len(known.candidates))
    damage[[5, 9]] = known.candidates.difference[[5, 9]] = 50.0, 60.0
    known = replace(known, candidates=replace(known.candidates, damage=damage))
    suspect = set(known.candidates.named(known.candidates.suspects()))
    left = len(known.candidates) - len(suspect)
    planted = {known.candidates.ids[row] for row in (5, 9)}
    assert planted <= suspect
    assert not suspect & set(choose(name, known, budget=left, seed=0))
    assert planted == set(choose("mdal_unguarded", known, budget=2, seed=0))


def test_the_oracle_takes_the_kinds_in_turn_and_nothing_damaged() -> None:
    known = knowledge()
    order = choose("oracle", known, budget=40, seed=0)
    assert [known.sound_kinds[id] for id in order[:8]].count("rare") == 4
    assert set(order) == set(known.sound_kinds)
    with pytest.raises(ValueError, match=r"truth\.csv says none"):
        choose("oracle", replace(known, sound_kinds={}), budget=3, seed=0)
