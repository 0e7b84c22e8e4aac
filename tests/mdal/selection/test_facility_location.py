from dataclasses import replace

import numpy as np

from lib.mdal.selection.candidates import Candidates
from lib.mdal.selection.facility_location import representative


def pool(count: int = 200, seed: int = 0) -> Candidates:
    """Four groups, the last of a tenth of the size of the others; the difference knows nothing of them."""
    rng = np.random.default_rng(seed)
    group = np.arange(count) % 31 // 10
    features = np.eye(4, dtype=np.float32)[group] * 8 + rng.standard_normal((count, 4)).astype(np.float32)
    ids = [f"case_{row:03}" for row in range(count)]
    return Candidates(ids, features, rng.standard_normal(count))


def rows(order: list[str]) -> np.ndarray:
    return np.array([int(id.partition("_")[2]) for id in order])


def order_of(candidates: Candidates, budget: int = 20) -> list[str]:
    return representative(candidates, budget, np.random.default_rng(0))


def test_every_case_comes_once_and_the_budget_changes_nothing() -> None:
    candidates = pool()
    order = order_of(candidates)
    assert sorted(order) == sorted(candidates.ids)
    assert order == order_of(candidates, budget=150)


def test_the_first_cases_stand_for_every_group() -> None:
    candidates = pool()
    first = rows(order_of(candidates))[:6]
    assert len(set(candidates.features[first].argmax(axis=1))) == 4


def test_without_weights_the_first_case_is_the_one_nearest_to_all() -> None:
    candidates = pool()
    apart = np.linalg.norm(candidates.features[:, None] - candidates.features[None], axis=2)
    assert (
        rows(representative(candidates, 20, np.random.default_rng(0), atypical=0.0))[0]
        == apart.sum(axis=1).argmin()
    )


def test_unusual_cases_come_earlier_than_without_their_weight() -> None:
    candidates = pool(count=400)
    far = np.linalg.norm(candidates.features - candidates.features.mean(axis=0), axis=1)
    without = rows(representative(candidates, 20, np.random.default_rng(0), atypical=0.0))
    assert far[rows(order_of(candidates))[:40]].mean() > far[without[:40]].mean() + 0.3


def test_the_difference_counts_only_where_it_is_weighed() -> None:
    candidates = pool(count=400)
    other = replace(candidates, difference=candidates.difference[::-1])
    assert order_of(other) == order_of(candidates)
    order = rows(representative(candidates, 20, np.random.default_rng(0), difference=0.5))
    assert candidates.difference[order][:80].mean() > candidates.difference[order].mean() + 0.3


def test_of_cases_that_stand_for_as_much_the_one_with_more_to_see_comes_earlier() -> None:
    candidates = pool()
    salient = np.random.default_rng(5).standard_normal(len(candidates))
    first = rows(order_of(replace(candidates, salient=salient)))[:40]
    assert salient[first].mean() > salient.mean() + 0.4
    assert len(set(candidates.features[first[:8]].argmax(axis=1))) == 4


def test_how_a_case_looks_goes_before_where_its_features_put_it() -> None:
    candidates = pool()
    apart = replace(
        candidates, saliency_features=candidates.features, features=np.ones_like(candidates.features)
    )
    assert order_of(apart) == order_of(candidates)


def test_where_the_place_tells_nothing_the_order_is_random() -> None:
    rng = np.random.default_rng(5)
    saliency_features, salient = rng.standard_normal((200, 3)).astype(np.float32), rng.random(200)
    known = replace(pool(), saliency_features=saliency_features, salient=salient)
    unknown = replace(known, aligned=False)
    order = order_of(unknown)
    assert sorted(order) == sorted(unknown.ids)
    assert order == order_of(unknown.take(rng.permutation(200)))
    chosen = [rows(representative(unknown, 20, np.random.default_rng(seed)))[:20] for seed in range(200)]
    assert abs(salient[np.array(chosen)].mean() - salient.mean()) < 0.02
    assert salient[rows(order_of(known))[:20]].mean() > salient.mean() + 0.1


def test_the_order_of_the_pool_does_not_matter() -> None:
    candidates = pool()
    shuffled = candidates.take(np.random.default_rng(3).permutation(len(candidates)))
    assert order_of(candidates) == order_of(shuffled)


def test_cases_that_lie_on_each_other_are_ordered_too() -> None:
    candidates = Candidates(["a", "b", "c"], np.zeros((3, 2), np.float32), np.array([0.0, 1.0, -1.0]))
    assert sorted(order_of(candidates)) == ["a", "b", "c"]
