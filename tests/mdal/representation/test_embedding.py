"""Where each case lies in the pool."""

from __future__ import annotations

import numpy as np
import torch

from lib.mdal.representation.embedding import FEATURES, embed_pool, pool_features
from lib.mdal.representation.encoder import Encoders, EncoderSettings
from lib.mdal.representation.views import PoolViews
from lib.mdal.scoring.heads import embed


def test_every_case_is_embedded_block_by_block_as_at_once(tmp_path):
    count = 300  # more than the 256 of a block
    array = np.random.default_rng(0).standard_normal((count, 3, 8, 16, 16)).astype(np.float16)
    array[:, -1] = 1
    np.save(tmp_path / "views.npy", array)
    views = PoolViews(tmp_path / "views.npy", np.ones((count, 2), dtype=bool), np.ones((count, 3)))
    encoders = Encoders(2, EncoderSettings(width=2, features=5)).eval()
    embed_pool(encoders, views, tmp_path / "embedding.npy", torch.device("cpu"))
    found = np.load(tmp_path / "embedding.npy")
    at_once = embed(encoders, views, np.arange(count), torch.device("cpu")).global_embedding().numpy()
    assert found.shape == (count, 2, 5)
    np.testing.assert_allclose(found, at_once, atol=1e-5)


def test_cases_that_are_alike_stay_close_and_the_reduction_is_bounded():
    generator = np.random.default_rng(0)
    centres = generator.standard_normal((2, 3, 40))
    group = np.arange(60) % 2
    embeddings = [
        (centres[group] + 0.1 * generator.standard_normal((60, 3, 40))).astype(np.float32) for _ in range(2)
    ]
    features = pool_features(embeddings)
    assert features.shape == (60, FEATURES)
    assert features.dtype == np.float32
    means = [features[group == number].mean(axis=0) for number in (0, 1)]
    assert np.linalg.norm(means[0] - means[1]) > 5 * features[group == 0].std()


def test_an_absent_modality_does_not_make_a_cluster_of_its_own():
    embeddings = np.random.default_rng(0).standard_normal((40, 2, 8)).astype(np.float32) + 5
    embeddings[:10, 1] = 0
    features = pool_features([embeddings])
    apart = np.linalg.norm(features[:10].mean(axis=0) - features[10:].mean(axis=0))
    assert apart < np.linalg.norm(features, axis=1).mean()
