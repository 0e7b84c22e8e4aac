"""Salient places of a case, which look unlike the same place in other cases: their size and appearance.

Saliency is a label-free proxy of the lesion, not a segmentation: anything unusual for the pool is salient.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lib.mdal.representation.views import COARSE_SHAPE, PoolViews
from lib.mdal.scoring.perturbation import departure, saliency_map, typical_appearance

_TYPICAL_CASES = 256  # cases that define the typical appearance of a place
_BLOCK = 256
_CONSPICUOUS = 95.0  # percentile of the pool's places above which a place is conspicuous
_SALIENT_PERCENTILE = (
    98.0  # above which a place is salient; 95 to 99.5 separated kinds of generated gliomas equally well
)
_LEAST_SPREAD = 1e-6  # standard deviation of a column over the pool; a smaller one is rounding error


@dataclass(frozen=True, eq=False)
class Saliency:
    """Saliency of N cases.

    Attributes:
        volume_ml: Volume of the foreground that looks atypical in ml, shape (N,).
        salient: Number of places of the view that are among the most conspicuous of the pool, shape (N,).
        saliency_features: Appearance of the salient places, shape (N, 2 M + 1): mean and root mean square of
            the departure from the typical appearance by modality, and the logarithm of the number of salient
            places. Each column has mean 0 and standard deviation 1 over the pool, or is 0.
        explained: Share of an image's variance inside the body that the place explains, mean over modalities;
            NaN if it could not be computed. If it is near 0, a place is a different part of the body in each
            case, and the other attributes mean little.
    """

    volume_ml: NDArray[np.float64]
    salient: NDArray[np.float64]
    saliency_features: NDArray[np.float32]
    explained: float


def salient_places(views: PoolViews) -> Saliency:
    """Compare every case of a pool with its typical appearance, one block of cases at a time."""
    count = len(views.present)
    step = -(-count // _TYPICAL_CASES)
    sample = views.coarse(np.arange(0, count, step))
    typical = typical_appearance(sample, views.present[::step])
    found = _saliency(sample, typical).numpy()
    known = found[found > 0]
    limits = np.percentile(known, (_CONSPICUOUS, _SALIENT_PERCENTILE)) if len(known) else np.zeros(2)
    counts, counts_of_salient, looks = [], [], []
    for first in range(0, count, _BLOCK):
        block = views.coarse(np.arange(first, min(first + _BLOCK, count)))
        place = _saliency(block, typical)
        counts.append((place > limits[0]).sum(dim=(1, 2, 3)).numpy())
        salient = place > limits[1]
        counts_of_salient.append(salient.sum(dim=(1, 2, 3)).numpy().astype(np.float64))
        looks.append(_look(torch.from_numpy(block[:, :-1]), salient, typical).numpy())
    saliency_features = np.concatenate(looks)
    saliency_features = (saliency_features - saliency_features.mean(axis=0)) / np.where(
        (spread := saliency_features.std(axis=0)) > _LEAST_SPREAD, spread, 1.0
    )
    view_ml = views.voxel_mm.prod(axis=1) * math.prod(views.shape) / 1000.0
    volume_ml = np.concatenate(counts) * view_ml / math.prod(COARSE_SHAPE)
    return Saliency(
        volume_ml,
        np.concatenate(counts_of_salient),
        np.asarray(saliency_features, dtype=np.float32),
        _explained(sample, views.present[::step]),
    )


def _explained(array: NDArray[np.float32], present: NDArray[np.bool_]) -> float:
    """Share of the variance between places that lie inside the body in at least half of the cases."""
    shares = []
    for m in range(present.shape[1]):
        inside = (array[:, -1] > 0) & present[:, m, None, None, None]
        count = inside.sum(axis=0)
        inside &= count >= max(2, len(array) / 2)
        image = array[:, m]
        if not inside.any() or not (total := float(image[inside].var())):
            continue
        mean = image.sum(axis=0, where=inside) / np.maximum(count, 1)
        within = np.square(image - mean)[inside] * (count / np.maximum(count - 1, 1))[np.nonzero(inside)[1:]]
        shares.append(1.0 - float(within.mean()) / total)
    return float(np.mean(shares)) if shares else math.nan


def _saliency(array: NDArray[np.float32], typical: Tensor) -> Tensor:
    return saliency_map(torch.from_numpy(array[:, :-1]), torch.from_numpy(array[:, -1]), typical)


def _look(batch: Tensor, salient: Tensor, typical: Tensor) -> Tensor:
    """Saliency features (n, 2 M + 1) before standardisation; 0 for a case without a salient place."""
    count = salient.sum(dim=(1, 2, 3))
    share = (salient / count.clamp(min=1)[:, None, None, None])[:, None]
    far = departure(batch, typical)
    mean, square = (far * share).sum(dim=(2, 3, 4)), (far.square() * share).sum(dim=(2, 3, 4))
    return torch.cat([mean, square.sqrt(), torch.log1p(count)[:, None]], dim=1)
