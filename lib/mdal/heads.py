"""Pointwise mutual information of held-out cases from features at matched positions."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from lib.mdal.contrastive import negatives_or_self
from lib.mdal.difference import pool_patches
from lib.mdal.encoder import Encoders, foreground_positions
from lib.mdal.pmi import PairScore, Rows, critic_pmi, gaussian_pmi
from lib.mdal.views import PoolViews


@dataclass(frozen=True, eq=False)
class Dense:
    """Features of some cases at P positions.

    Attributes:
        features: (n, M, K, P), unit vectors along K.
        inside: (n, M, P) bool; the position is foreground and the modality is there.
    """

    features: Tensor
    inside: Tensor

    def pairs(self) -> list[tuple[int, int]]:
        """Every two modalities."""
        return list(combinations(range(self.features.shape[1]), 2))

    def global_embedding(self) -> Tensor:
        """Mean over the foreground positions, renormalised: (n, M, K), zero where a modality is absent."""
        return functional.normalize((self.features * self.inside[:, :, None]).sum(dim=3), dim=2)


def embed(encoders: Encoders, views: PoolViews, rows: Rows, device: torch.device) -> Dense:
    """Features of these rows of a pool, on the CPU; the encoders stay frozen."""
    batch, foreground = (
        torch.from_numpy(np.asarray(part[rows], np.float32)) for part in (views.views, views.foreground)
    )
    present = torch.from_numpy(views.present[rows])
    with torch.inference_mode():
        features = encoders((batch * foreground[:, None]).to(device), present.to(device)).cpu()
    return Dense(features, foreground_positions(foreground)[:, None] & present[:, :, None])


class GaussianHead:
    """Closed-form PMI at a position, given the position: features less their mean there, one covariance.

    Few cases give many positions, so a covariance can be estimated from a dozen patients.
    """

    def __init__(self, training: Dense, *, components: int) -> None:
        """Fit on training cases; a pair that fewer than 3 of them have is left out."""
        count = training.inside.sum(dim=0)[:, None]  # (M, 1, P)
        summed = (training.features * training.inside[:, :, None]).sum(dim=0)
        self.centre = summed / count.clamp(min=1)  # (M, K, P); 0 where no case has foreground
        self.scorers: dict[tuple[int, int], PairScore] = {}
        for pair in training.pairs():
            first, second, both = self._patches(training, pair)
            if both.any(dim=1).sum() < 3:
                continue
            self.scorers[pair] = gaussian_pmi(first, second, components=components)

    def score(self, dense: Dense, *, share: float) -> NDArray[np.float64]:
        """PMI (n, pairs) in nats of held-out cases: mean over the `share` of positions that differ most."""
        result = np.full((len(dense.features), len(dense.pairs())), np.nan)
        for column, pair in enumerate(dense.pairs()):
            first, second, both = self._patches(dense, pair)
            if pair in self.scorers and both.any():
                difference = torch.zeros(both.shape, dtype=torch.float64)
                difference[both] = torch.from_numpy(-self.scorers[pair](first, second))
                result[:, column] = -pool_patches(difference, both, share=share).numpy()
        return result

    def _patches(
        self, dense: Dense, pair: tuple[int, int]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64], Tensor]:
        """Centred features (patches, K) of both modalities, and where (n, P) they come from."""
        both = dense.inside[:, pair].all(dim=1)
        first, second = (
            (dense.features[:, m] - self.centre[m]).transpose(1, 2)[both].double().numpy() for m in pair
        )
        return first, second, both


def critic_head(dense: Dense, temperature: float, groups: Tensor) -> tuple[NDArray[np.float64], ...]:
    """The raw critic's PMI of held-out cases, and how well it matches their modalities.

    Args:
        dense: Held-out cases.
        temperature: tau of the training.
        groups: (n,) patient of each.

    Returns:
        PMI (n, pairs) in nats; the share of positions (n, pairs) at which the own counterpart wins over
        the other patients'; what chance gives (n, pairs). NaN where missing.
    """
    columns = []
    for a, b in dense.pairs():
        valid = (dense.inside[:, a] & dense.inside[:, b]).T  # (P, n)
        critic = torch.einsum("ikp,jkp->pij", dense.features[:, a], dense.features[:, b]) / temperature
        candidates = negatives_or_self(len(groups), groups, device=critic.device) & valid[:, None, :]
        best = critic.masked_fill(~candidates, -torch.inf).argmax(dim=2)
        hit = (best == torch.arange(len(groups))).double()
        chance = 1.0 / candidates.sum(dim=2).clamp(min=1).double()
        pmi = critic_pmi(critic, groups=groups, valid=valid)
        columns.append([pool_patches(value.double().nan_to_num().T, valid.T) for value in (pmi, hit, chance)])
        if pmi.isfinite().sum() == 0:
            columns[-1][0][:] = torch.nan
    return tuple(torch.stack(part, dim=1).numpy() for part in zip(*columns, strict=True))
