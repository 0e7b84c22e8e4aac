"""Features of the cases for clustering: embeddings by the encoders of every fold, reduced by PCA."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.decomposition import PCA

from lib.mdal.representation.encoder import Encoders
from lib.mdal.representation.views import PoolViews
from lib.mdal.scoring.heads import embed
from lib.runtime.files import replacing

FEATURES = 32  # dimensions in which cases are clustered
_BLOCK = 256  # cases in memory at a time
_FIT_CASES = 20_000  # cases to which the PCA is fitted

Embedding = NDArray[np.float32]


def embed_pool(encoders: Encoders, views: PoolViews, path: Path, device: torch.device) -> None:
    """Write the global embeddings of all cases, shape (N, M, K), to a .npy file, one block at a time."""
    count, modalities = views.present.shape
    with replacing(path) as part:
        shape = (count, modalities, encoders.settings.features)
        written = np.lib.format.open_memmap(part, "w+", np.float32, shape)
        for first in range(0, count, _BLOCK):
            rows = np.arange(first, min(first + _BLOCK, count))
            written[rows] = embed(encoders, views, rows, device).global_embedding().numpy()
        written.flush()


def pool_features(embeddings: list[Embedding]) -> Embedding:
    """Embeddings of several trainings, shape (N, M, K) each, concatenated and reduced to (N, F) by PCA.

    Each training has its own feature axes, so the embeddings are concatenated rather than averaged. An absent
    modality gets the mean embedding of the cases that have it, so absence alone does not form a cluster.
    """
    count = len(embeddings[0])
    step = -(-count // _FIT_CASES)
    sample = _side_by_side(embeddings, slice(None, None, step))
    here = _here(sample)
    mean = (sample * here).sum(axis=0) / np.maximum(here.sum(axis=0), 1)

    def flat(stacked: Embedding) -> Embedding:
        return np.asarray(np.where(_here(stacked), stacked - mean, 0.0).reshape(len(stacked), -1), np.float32)

    sample = flat(sample)
    reduce = PCA(min(FEATURES, *sample.shape), svd_solver="full").fit(sample)
    blocks = (slice(first, first + _BLOCK) for first in range(0, count, _BLOCK))
    return np.concatenate(
        [reduce.transform(flat(_side_by_side(embeddings, block))).astype(np.float32) for block in blocks]
    )


def _side_by_side(embeddings: list[Embedding], rows: slice) -> Embedding:
    """Embeddings of all trainings for these rows, shape (n, M, trainings * K)."""
    return np.concatenate([embedding[rows] for embedding in embeddings], axis=2)


def _here(stacked: Embedding) -> NDArray[np.bool_]:
    return np.asarray(np.abs(stacked).sum(axis=2, keepdims=True) > 0)
