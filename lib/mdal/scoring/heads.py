"""Heads that compute the pointwise mutual information of held-out cases from features at positions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from lib.mdal.representation.encoder import Encoders, foreground_positions
from lib.mdal.representation.views import PoolViews
from lib.mdal.scoring.difference import pool_patches
from lib.mdal.scoring.gaussian_copula import GaussianPmi, gaussian_pmi
from lib.mdal.scoring.pmi import Array, Rows, assign_folds, critic_pmi

Pair = tuple[int, int]
_BATCH = 16  # cases that are read and embedded at a time
_PLACES = 256  # positions that are compared at a time
_FIT_PATCHES = 40_000  # far more than a covariance of 64 dimensions needs
_HEADS = 4  # parts of the held-out cases, each scored by a head that was fitted to the others
_FIT_PATIENTS = 8  # held-out patients, of which three quarters can then estimate a covariance


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

    def of_rows(self, rows: Rows | NDArray[np.bool_]) -> Dense:
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

    @classmethod
    def joined(cls, parts: Sequence[Dense]) -> Dense:
        """The cases of several parts, one part after the other."""
        return cls(torch.cat([part.features for part in parts]), torch.cat([part.inside for part in parts]))


def embed(encoders: Encoders, views: PoolViews, rows: Rows, device: torch.device) -> Dense:
    """Features of some cases of a pool, on the CPU, read in batches; the encoders stay frozen."""
    parts = []
    for block in np.array_split(rows, max(1, -(-len(rows) // _BATCH))):
        batch, foreground = (
            torch.from_numpy(np.asarray(part[block], np.float32)) for part in (views.views, views.foreground)
        )
        present = torch.from_numpy(views.present[block])
        parts.append(embed_views(encoders, batch, foreground, present, device))
    return Dense.joined(parts)


def embed_views(
    encoders: Encoders, batch: Tensor, foreground: Tensor, present: Tensor, device: torch.device
) -> Dense:
    """Features of views (n, M, D, H, W), given their foreground (n, D, H, W) and present (n, M)."""
    seen = batch * foreground[:, None]
    parts = zip(seen.split(_BATCH), present.split(_BATCH), strict=True)
    with torch.inference_mode():
        features = torch.cat([encoders(part.to(device), here.to(device)).cpu() for part, here in parts])
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
                patches = head._patches(training, pair)
                step = -(-len(patches[0]) // _FIT_PATCHES)
                head.scorers[pair] = gaussian_pmi(*(each[::step] for each in patches))
        return head

    def pmi(self, dense: Dense, columns: Sequence[int] | None = None) -> Tensor:
        """PMI in nats at every position of held-out cases, shape (n, pairs, P); NaN where unknown.

        Args:
            dense: Features of the cases.
            columns: Pairs to compute, by their number; None for all. The others are NaN.
        """
        shape = (len(dense.features), len(dense.pairs()), dense.features.shape[3])
        result = torch.full(shape, torch.nan, dtype=torch.float64)
        for column, pair in enumerate(dense.pairs()):
            both = dense.both(pair)
            if pair in self.scorers and both.any() and (columns is None or column in columns):
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


class CrossFittedHead:
    """Heads for cases that the encoders were not trained on, each fitted to other such cases.

    The features of training cases match better than those of unseen ones, so a head that was fitted to
    them would not fit unseen cases.
    """

    def __init__(self, heads: Sequence[GaussianHead], part: Rows) -> None:
        """Make a fitted head.

        Args:
            heads: Head of each part.
            part: Part of each case, shape (n,).
        """
        self.heads, self.part = list(heads), part

    @classmethod
    def fit(cls, cases: Dense, fitted: Rows, groups: Rows, *, otherwise: GaussianHead) -> CrossFittedHead:
        """Fit a head for each part of some held-out cases to those of the other parts.

        Args:
            cases: Features of the m cases to fit to.
            fitted: Rows of these cases among the n held-out cases, shape (m,).
            groups: Patient of each held-out case, shape (n,).
            otherwise: Head for all cases if there are too few patients to fit to.
        """
        if len(np.unique(groups[fitted])) < _FIT_PATIENTS:
            return cls([otherwise], np.zeros(len(groups), dtype=np.intp))
        part = assign_folds(groups, folds=_HEADS, seed=0)
        return cls(
            [GaussianHead.fit(cases.of_rows(part[fitted] != number)) for number in range(_HEADS)], part
        )

    def pmi(self, dense: Dense, rows: Rows, columns: Sequence[int] | None = None) -> Tensor:
        """PMI in nats of some of the held-out cases, shape (len(rows), pairs, P); NaN where unknown."""
        part = self.part[rows]
        result = torch.empty(len(rows), len(dense.pairs()), dense.features.shape[3], dtype=torch.float64)
        for number in np.unique(part):
            here = np.flatnonzero(part == number)
            result[here] = self.heads[number].pmi(dense.of_rows(here), columns)
        return result


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


def critic_nats(dense: Dense, temperature: float, groups: Tensor) -> NDArray[np.float64]:
    """PMI of held-out cases by the raw critic, mean over the positions.

    Args:
        dense: Features of the held-out cases.
        temperature: Temperature tau of the training.
        groups: Patient of each case, shape (n,).

    Returns:
        PMI in nats, shape (n, pairs); NaN where missing.
    """
    columns = []
    for a, b in dense.pairs():
        valid = (dense.inside[:, a] & dense.inside[:, b]).T  # (P, n)
        found = []
        for places in torch.arange(len(valid)).split(_PLACES):
            first, second = (dense.features[:, m][..., places] for m in (a, b))
            critic = torch.einsum("ikp,jkp->pij", first, second) / temperature
            found.append(critic_pmi(critic, groups=groups, valid=valid[places]))
        nats = torch.cat(found).T.double()
        columns.append(pool_patches(nats.nan_to_num(), nats.isfinite()))
    return torch.stack(columns, dim=1).numpy()
