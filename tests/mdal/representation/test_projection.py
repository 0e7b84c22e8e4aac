import numpy as np
import pytest

from lib.mdal.representation.projection import projected


def test_the_map_keeps_apart_what_the_features_keep_apart() -> None:
    generator = np.random.default_rng(0)
    groups = np.repeat([0, 1], 20)
    features = generator.normal(size=(40, 6)) + 12.0 * np.eye(6)[3] * groups[:, None]
    points, share = projected(features)
    assert (points[groups == 0, 0].max() < points[groups == 1, 0].min()) or (
        points[groups == 0, 0].min() > points[groups == 1, 0].max()
    )
    assert share[0] > share[1] > 0
    assert share.sum() <= 1


def test_the_map_does_not_turn_when_cases_come_in_another_order() -> None:
    features = np.random.default_rng(1).normal(size=(12, 4))
    order = np.random.default_rng(2).permutation(12)
    assert np.allclose(projected(features)[0][order], projected(features[order])[0])


@pytest.mark.parametrize("features", [np.zeros((3, 4)), np.ones((1, 4)), np.arange(3.0)[:, None]])
def test_a_map_of_what_hardly_differs_is_finite(features: np.ndarray) -> None:
    points, share = projected(features)
    assert points.shape == (len(features), 2)
    assert np.isfinite(points).all()
    assert np.isfinite(share).all()
