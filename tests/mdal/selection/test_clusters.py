"""Groups of alike cases, and cases far from one another."""

from __future__ import annotations

import numpy as np
import pytest

from lib.mdal.selection.clusters import blocks, cluster_tree, farthest_first, find_clusters, sample


def generator():
    return np.random.default_rng(3)


def planted(sizes, *, spread=0.01):
    random, count = np.random.default_rng(0), len(sizes)
    truth = random.permutation(np.repeat(np.arange(count), sizes))
    centres = 10.0 * np.eye(count)
    features = centres[truth] + spread * random.standard_normal((len(truth), count))
    return features.astype(np.float32), truth


def test_planted_groups_are_found_and_numbered_from_the_largest():
    features, truth = planted([5, 40, 20])
    found = find_clusters(features, 3, generator())
    assert np.array_equal(found.group, np.array([2, 0, 1])[truth])
    assert np.allclose(found.centres, 10.0 * np.eye(3)[[1, 2, 0]], atol=0.02)
    assert [len(rows) for rows in found.members()] == [40, 20, 5]
    assert all((found.group[rows] == number).all() for number, rows in enumerate(found.members()))
    naive = [np.linalg.norm(x - found.centres[g]) for x, g in zip(features, found.group, strict=True)]
    assert np.allclose(found.distances(features), naive)


def test_there_are_no_more_groups_than_cases_that_differ():
    features = np.repeat(np.eye(3, dtype=np.float32), 4, axis=0)
    features[0, 1] = -0.0
    assert len(find_clusters(features, 8, generator()).centres) == 3


def test_centres_found_on_a_sample_group_the_whole_pool():
    features, truth = planted([5_000, 40_000, 20_000])  # more than the 50,000 that centres are fitted on
    assert np.array_equal(find_clusters(features, 3, generator()).group, np.array([2, 0, 1])[truth])


def test_a_group_that_no_case_joins_gets_no_number():
    features, _ = planted([60_000, 3], spread=1e-7)  # centres so near that rounding takes all cases of some
    found = find_clusters(features, 9, generator())
    assert 1 < len(found.centres) < 9
    assert set(found.group) == set(range(len(found.centres)))


@pytest.mark.parametrize("seed", range(5))
def test_farthest_first_is_greedy_k_centre(seed):
    points = np.random.default_rng(seed).integers(0, 5, (40, 2)).astype(np.float64)  # ties and duplicates
    start = [7, 3]
    expected = list(start)
    while len(expected) < 12:
        reach = [
            -1.0 if i in expected else min(np.linalg.norm(points[i] - points[j]) for j in expected)
            for i in range(40)
        ]
        expected.append(int(np.argmax(reach)))
    rows, nearest = farthest_first(points, np.array(start), 12)
    assert rows.tolist() == expected
    naive = [min(np.linalg.norm(x - points[j]) for j in expected) for x in points]
    assert np.allclose(nearest, naive)


def test_farthest_first_of_more_than_the_pool_is_the_pool():
    rows, nearest = farthest_first(np.zeros((4, 2)), np.array([2]), 9)
    assert rows.tolist() == [2, 0, 1, 3]
    assert not nearest.any()


def test_a_sample_rises_and_repeats_nothing():
    assert sample(5, 5, generator()).tolist() == [0, 1, 2, 3, 4]
    drawn = sample(1000, 100, generator())
    assert len(drawn) == 100
    assert (np.diff(drawn) > 0).all()


def test_blocks_cover_every_row_once():
    assert [(b.start, b.stop) for b in blocks(10, 4)] == [(0, 4), (4, 8), (8, 10)]


def test_two_cases_that_look_alike_are_joined_though_their_features_could_be_distances():
    tree = cluster_tree(np.zeros((2, 2), dtype=np.float32), generator())
    assert tree.cut(2).tolist() == [0, 1]
    assert tree.cut(1).tolist() == [0, 0]
