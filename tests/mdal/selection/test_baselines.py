"""Orders that a modality difference must beat."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from lib.mdal.selection.baselines import k_means_centres, stratified, uniform
from tests.support.candidate_pools import generator, of, pool, rows


def test_uniform_pays_no_heed_to_the_pool():
    candidates = pool(200)
    order = uniform(candidates, 10, generator())
    assert order != candidates.ids
    assert order == uniform(replace(candidates, difference=-candidates.difference), 10, generator())
    assert order != uniform(candidates, 10, np.random.default_rng(8))


def test_every_case_is_equally_likely_to_be_first():
    candidates = pool(5)
    random = np.random.default_rng(0)
    first = [uniform(candidates, 1, random)[0] for _ in range(2_000)]
    assert all(330 < first.count(id) < 470 for id in candidates.ids)  # 400 and four standard deviations


def test_stratified_takes_one_of_each_fifth_of_the_lesion_proxy_each_turn():
    candidates = pool(50)
    fifth = np.empty(50, dtype=int)
    fifth[np.argsort(candidates.lesion_proxy)] = np.repeat(np.arange(5), 10)
    random = np.random.default_rng(0)
    orders = [rows(stratified(candidates, 5, random)) for _ in range(300)]
    for order in orders:
        assert [sorted(fifth[order[turn : turn + 5]]) for turn in range(0, 50, 5)] == [[0, 1, 2, 3, 4]] * 10
    assert {fifth[order[0]] for order in orders} == set(range(5))  # no fifth is favoured
    assert {order[0] for order in orders} == set(range(50))  # nor a case of it


def test_k_means_takes_the_middle_of_each_group_from_the_largest_on():
    candidates = of("abcdefgh", [8, 9, 10, 0, 1, 1.9, 3, 30], np.zeros(8))
    assert k_means_centres(candidates, 3, generator())[:3] == ["f", "b", "h"]
