"""Orders that a modality difference must beat."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from lib.mdal.selection.baselines import (
    farthest_point,
    k_means_centres,
    k_means_then_farthest,
    largest_surprise,
    smallest_mutual_information,
    stratified,
    uniform,
)
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


def test_one_column_alone_decides():
    candidates = pool()
    assert rows(largest_surprise(candidates, 3, generator())) == np.argsort(-candidates.surprise).tolist()
    by_information = np.argsort(candidates.mutual_information).tolist()
    assert rows(smallest_mutual_information(candidates, 3, generator())) == by_information


def test_k_means_takes_the_middle_of_each_group_from_the_largest_on():
    candidates = of("abcdefgh", [8, 9, 10, 0, 1, 1.9, 3, 30], np.zeros(8))
    assert k_means_centres(candidates, 3, generator())[:3] == ["f", "b", "h"]


@pytest.mark.parametrize("seed", range(5))
def test_farthest_point_is_greedy_k_centre_from_the_most_central_case(seed):
    candidates = pool(40, seed=seed)
    points = candidates.features.astype(np.float64)

    def apart(i, j):
        return np.linalg.norm(points[i] - points[j])

    chosen = [int(np.argmin([np.linalg.norm(x - points.mean(axis=0)) for x in points]))]
    while len(chosen) < 9:
        left = [i for i in range(40) if i not in chosen]
        chosen.append(max(left, key=lambda i: min(apart(i, j) for j in chosen)))
    left = [i for i in range(40) if i not in chosen]
    left.sort(key=lambda i: -min(apart(i, j) for j in chosen))
    assert rows(farthest_point(candidates, 9, generator())) == chosen + left


def test_contrastive_annotation_spends_half_on_centres_and_half_on_the_farthest():
    features = [0, 0.1, 0.2, 10, 10.1, 10.2, 10.3, 5, -4]
    candidates = of("abcdefghi", features, np.zeros(9))
    order = k_means_then_farthest(candidates, 4, generator())
    assert set(order[:2]) <= set("abcdefg")
    assert set(order[2:4]) == {"h", "i"}
    half = k_means_centres(candidates, 2, generator())[:2]
    assert order[:2] == half
