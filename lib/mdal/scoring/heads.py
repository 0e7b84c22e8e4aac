"""Pointwise mutual information of held-out cases from features at matched positions."""

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
        features: (n, M, K, P), unit vectors along K.
        inside: (n, M, P) bool; the position is foreground and the modality is there.
    """

    features: Tensor
    inside: Tensor

    def pairs(self) -> list[Pair]:
        """Every two modalities."""
        return list(combinations(range(self.features.shape[1]), 2))

    def both(self, pair: Pair) -> Tensor:
        """(n, P) bool: both modalities of the pair are there."""
        return self.inside[:, pair].all(dim=1)

    def global_embedding(self) -> Tensor:
        """Mean over the foreground positions, renormalised: (n, M, K), zero where a modality is absent."""
        return functional.normalize((self.features * self.inside[:, :, None]).sum(dim=3), dim=2)

    def with_modality(self, modality: int, other: Dense, rows: Rows | None = None) -> Dense:
        """These cases with one modality of others: `rows` of `other`, or its same rows."""
        rows = np.arange(len(other.features)) if rows is None else rows
        features, inside = self.features.clone(), self.inside.clone()
        features[:, modality], inside[:, modality] = (
            other.features[rows, modality],
            other.inside[rows, modality],
        )
        return replace(self, features=features, inside=inside)


def embed(encoders: Encoders, views: PoolViews, rows: Rows, device: torch.device) -> Dense:
    """Features of these rows of a pool, on the CPU; the encoders stay frozen."""
    batch, foreground = (
        torch.from_numpy(np.asarray(part[rows], np.float32)) for part in (views.views, views.foreground)
    )
    return embed_views(encoders, batch, foreground, torch.from_numpy(views.present[rows]), device)


def embed_views(
    encoders: Encoders, batch: Tensor, foreground: Tensor, present: Tensor, device: torch.device
) -> Dense:
    """Features of views (n, M, D, H, W) with their foreground (n, D, H, W) and present (n, M)."""
    with torch.inference_mode():
        features = encoders((batch * foreground[:, None]).to(device), present.to(device)).cpu()
    return Dense(features.clone(), foreground_positions(foreground)[:, None] & present[:, :, None])


class GaussianHead:
    """Closed-form PMI at a position, given the position: features less their mean there, one covariance.

    Few cases give many positions, so a covariance can be estimated from a dozen patients.
    """

    def __init__(self, centre: Tensor, scorers: Mapping[Pair, GaussianPmi]) -> None:
        """A fitted head.

        Args:
            centre: (M, K, P) mean features; 0 where no training case has foreground.
            scorers: By pair of modalities.
        """
        self.centre, self.scorers = centre, dict(scorers)

    @classmethod
    def fit(cls, training: Dense) -> GaussianHead:
        """Fit on training cases; a pair that fewer than 3 of them have is left out."""
        count = training.inside.sum(dim=0)[:, None]  # (M, 1, P)
        summed = (training.features * training.inside[:, :, None]).sum(dim=0)
        head = cls(summed / count.clamp(min=1), {})
        for pair in training.pairs():
            if training.both(pair).any(dim=1).sum() >= 3:
                head.scorers[pair] = gaussian_pmi(*head._patches(training, pair))
        return head

    def pmi(self, dense: Dense) -> Tensor:
        """PMI (n, pairs, P) in nats at every position of held-out cases; NaN where there is none."""
        shape = (len(dense.features), len(dense.pairs()), dense.features.shape[3])
        result = torch.full(shape, torch.nan, dtype=torch.float64)
        for column, pair in enumerate(dense.pairs()):
            both = dense.both(pair)
            if pair in self.scorers and both.any():
                nats = self.scorers[pair](*self._patches(dense, pair))
                result[:, column][both] = torch.from_numpy(nats)
        return result

    def state(self) -> dict[str, Any]:
        """Tensors that `from_state` makes the same head of."""
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
        """The head whose `state` it was."""
        scorers = {}
        for name, tensors in state["scorers"].items():
            first, second = name.split("-")
            arrays = {key: tensor.numpy() for key, tensor in tensors.items()}
            scorers[int(first), int(second)] = GaussianPmi.from_state(arrays)
        return cls(state["centre"], scorers)

    def _patches(self, dense: Dense, pair: Pair) -> tuple[Array, Array]:
        """Centred features (patches, K) of both modalities where both are."""
        both = dense.both(pair)
        first, second = (
            (dense.features[:, m] - self.centre[m]).transpose(1, 2)[both].double().numpy() for m in pair
        )
        return first, second


def pool_positions(values: Tensor, *, share: float = 1.0) -> NDArray[np.float64]:
    """Mean (n, pairs) over the `share` of a case's positions with the smallest values; NaN if it has none.

    Args:
        values: (n, pairs, P); NaN where there is none.
        share: 1 for the mean over the foreground, 0.1 for the 10 % that differ most.
    """
    flat = values.flatten(0, 1)
    pooled = -pool_patches(-flat.nan_to_num(), flat.isfinite(), share=share)
    return pooled.view(values.shape[:2]).numpy()


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
