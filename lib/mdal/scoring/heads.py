"""Heads that compute the pointwise mutual information of held-out cases from features at positions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from lib.mdal.representation.contrastive import negatives_or_self
from lib.mdal.representation.encoder import Encoders, foreground_positions
from lib.mdal.representation.views import PoolViews
from lib.mdal.scoring.difference import pool_patches
from lib.mdal.scoring.gaussian_copula import GaussianPmi, gaussian_pmi
from lib.mdal.scoring.pmi import Array, Rows, critic_pmi

Pair = tuple[int, int]


@dataclass(frozen=True, eq=False)
class Dense:
    """Features of some cases at P positions.

    Attributes:
        features: Unit vectors along K, shape (n, M, K, P).
        inside: Foreground positions of the modalities that a case has, shape (n, M, P), bool.
    """

    features: Tensor
    inside: Tensor

    def pairs(self) -> list[Pair]:
        """All pairs of modalities."""
        return list(combinations(range(self.features.shape[1]), 2))

    def both(self, pair: Pair) -> Tensor:
        """Positions at which both modalities of the pair are known, shape (n, P), bool."""
        return self.inside[:, pair].all(dim=1)

    def of_rows(self, rows: Rows) -> Dense:
        """Some of the cases."""
        return Dense(self.features[rows], self.inside[rows])

    def global_embedding(self) -> Tensor:
        """Renormalised mean over the foreground positions, shape (n, M, K); zero for an absent modality."""
        return functional.normalize((self.features * self.inside[:, :, None]).sum(dim=3), dim=2)

    def with_modality(self, modality: int, other: Dense, rows: Rows | None = None) -> Dense:
        """These cases with one modality taken from `rows` of `other`; from the same rows if None."""
        rows = np.arange(len(other.features)) if rows is None else rows
        features, inside = self.features.clone(), self.inside.clone()
        features[:, modality], inside[:, modality] = (
            other.features[rows, modality],
            other.inside[rows, modality],
        )
        return replace(self, features=features, inside=inside)


def embed(encoders: Encoders, views: PoolViews, rows: Rows, device: torch.device) -> Dense:
    """Features of some cases of a pool, on the CPU; the encoders stay frozen."""
    batch, foreground = (
        torch.from_numpy(np.asarray(part[rows], np.float32)) for part in (views.views, views.foreground)
    )
    return embed_views(encoders, batch, foreground, torch.from_numpy(views.present[rows]), device)


def embed_views(
    encoders: Encoders, batch: Tensor, foreground: Tensor, present: Tensor, device: torch.device
) -> Dense:
    """Features of views (n, M, D, H, W), given their foreground (n, D, H, W) and present (n, M)."""
    with torch.inference_mode():
        features = encoders((batch * foreground[:, None]).to(device), present.to(device)).cpu()
    inside = foreground_positions(foreground, encoders.settings.stride)
    return Dense(features.clone(), inside[:, None] & present[:, :, None])


class GaussianHead:
    """Closed-form PMI at each position, from features minus their mean at that position.

    All positions share one covariance. A dozen patients have enough positions to estimate it.
    """

    def __init__(self, centre: Tensor, scorers: Mapping[Pair, GaussianPmi]) -> None:
        """Make a fitted head.

        Args:
            centre: Mean features, shape (M, K, P); 0 where no training case has foreground.
            scorers: Fitted estimator of each pair of modalities.
        """
        self.centre, self.scorers = centre, dict(scorers)

    @classmethod
    def fit(cls, training: Dense) -> GaussianHead:
        """Fit a head on training cases; pairs that fewer than 3 cases have are left out."""
        count = training.inside.sum(dim=0)[:, None]  # (M, 1, P)
        summed = (training.features * training.inside[:, :, None]).sum(dim=0)
        head = cls(summed / count.clamp(min=1), {})
        for pair in training.pairs():
            if training.both(pair).any(dim=1).sum() >= 3:
                head.scorers[pair] = gaussian_pmi(*head._patches(training, pair))
        return head

    def pmi(self, dense: Dense) -> Tensor:
        """PMI in nats at every position of held-out cases, shape (n, pairs, P); NaN where unknown."""
        shape = (len(dense.features), len(dense.pairs()), dense.features.shape[3])
        result = torch.full(shape, torch.nan, dtype=torch.float64)
        for column, pair in enumerate(dense.pairs()):
            both = dense.both(pair)
            if pair in self.scorers and both.any():
                nats = self.scorers[pair](*self._patches(dense, pair))
                result[:, column][both] = torch.from_numpy(nats)
        return result

    def state(self) -> dict[str, Any]:
        """Tensors of the head, from which `from_state` rebuilds it."""
        return {
            "centre": self.centre,
            "scorers": {
                f"{a}-{b}": {
                    name: torch.from_numpy(np.array(value)) for name, value in scorer.state().items()
                }
                for (a, b), scorer in self.scorers.items()
            },
        }

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> GaussianHead:
        """Head rebuilt from its saved `state`."""
        scorers = {}
        for name, tensors in state["scorers"].items():
            first, second = name.split("-")
            arrays = {key: tensor.numpy() for key, tensor in tensors.items()}
            scorers[int(first), int(second)] = GaussianPmi.from_state(arrays)
        return cls(state["centre"], scorers)

    def _patches(self, dense: Dense, pair: Pair) -> tuple[Array, Array]:
        """Centred features of both modalities at the positions that both have, shape (patches, K) each."""
        both = dense.both(pair)
        first, second = (
            (dense.features[:, m] - self.centre[m]).transpose(1, 2)[both].double().numpy() for m in pair
        )
        return first, second


def pool_positions(values: Tensor, *, share: float = 1.0) -> NDArray[np.float64]:
    """Mean of the smallest values of each case and pair, shape (n, pairs); NaN if there is no value.

    Args:
        values: Value at each position, shape (n, pairs, P); NaN where unknown.
        share: Share of the positions to average: 1 for the whole foreground, 0.1 for the 10 % that differ
            most.
    """
    flat = values.flatten(0, 1)
    pooled = -pool_patches(-flat.nan_to_num(), flat.isfinite(), share=share)
    return pooled.view(values.shape[:2]).numpy()


def critic_head(dense: Dense, temperature: float, groups: Tensor) -> tuple[NDArray[np.float64], ...]:
    """PMI of held-out cases by the raw critic, and how well the critic matches their modalities.

    Args:
        dense: Features of the held-out cases.
        temperature: Temperature tau of the training.
        groups: Patient of each case, shape (n,).

    Returns:
        PMI in nats, the share of positions at which the critic prefers the case's own counterpart to those
        of other patients, and this share by chance; shape (n, pairs) each, NaN where missing.
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
