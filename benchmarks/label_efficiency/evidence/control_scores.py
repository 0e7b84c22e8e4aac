"""Scores of the controls: differences by other models, and how hard a case is to reconstruct."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import combinations

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.decomposition import PCA
from torch import Tensor
from torch.nn import functional

from lib.mdal.representation.augmentation import Jitter, augment_views
from lib.mdal.representation.encoder import (
    Encoders,
    EncoderSettings,
    foreground_positions,
    place_counts,
)
from lib.mdal.representation.info_nce import info_nce
from lib.mdal.representation.views import PoolViews
from lib.mdal.scoring.fold_model import FIT_CASES, train_fold
from lib.mdal.scoring.heads import GaussianHead, embed
from lib.mdal.scoring.place_difference import standardise_places
from lib.mdal.scoring.pmi import Rows, assign_folds, finite_mean
from lib.mdal.scoring.pool_places import CaseDifferences
from lib.mdal.scoring.pool_scores import lowest_if_unknown
from lib.mdal.scoring.score_pool import ScoringSettings

Values = NDArray[np.float64]
_CPU = torch.device("cpu")
_BLOCK = 64  # cases that are embedded at a time
CMC_STEPS, CMC_BATCH = 150, 64
_COMPONENTS = 16  # of the reconstruction


def in_sample_difference(
    views: PoolViews, patients: NDArray[np.str_], settings: ScoringSettings, *, seed: int
) -> Values:
    """Modality difference by models that were trained on every case, mean of the repeats, shape (N,)."""
    rows = np.arange(len(patients))
    contrastive = replace(settings.contrastive, steps=settings.steps_for(len(rows), _CPU), checks=0)
    found = []
    for repeat in range(settings.seeds):
        model = train_fold(
            views, patients, rows, rows, contrastive,
            seed=_number(seed, 0, repeat), device=_CPU, on_progress=lambda done: None,
        )  # fmt: skip
        found.append(
            _lesion_focused(_nats(model.head, model.encoders, views, rows), np.zeros_like(rows), views)
        )
    return np.asarray(np.mean(found, axis=0))


def random_encoder_difference(
    views: PoolViews, patients: NDArray[np.str_], settings: ScoringSettings, *, seed: int
) -> Values:
    """Modality difference out of fold by the head on untrained encoders, mean of the repeats, shape (N,)."""
    groups = np.unique(patients, return_inverse=True)[1]
    found = []
    for repeat in range(settings.seeds):
        number = _number(seed, 1, repeat)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(number)
            encoders = Encoders(views.present.shape[1], settings.contrastive.encoder).eval()
        parts = min(settings.folds, len(set(groups.tolist())) // 2)
        fold, nats = assign_folds(groups, folds=parts, seed=number), np.empty(0)
        for part in range(parts):
            training, held_out = np.flatnonzero(fold != part), np.flatnonzero(fold == part)
            fitted = training[:: -(-len(training) // FIT_CASES)]
            head = GaussianHead.fit(embed(encoders, views, fitted, _CPU))
            scored = _nats(head, encoders, views, held_out)
            nats = nats if nats.size else np.full((len(patients), *scored.shape[1:]), np.nan)
            nats[held_out] = scored
        found.append(_lesion_focused(nats, fold, views))
    return np.asarray(np.mean(found, axis=0))


def cmc_difference(
    views: PoolViews, patients: NDArray[np.str_], settings: ScoringSettings, *, seed: int
) -> Values:
    """Modality difference by one vector a modality and case, shape (N,): -(mean cosine of the pairs).

    The vectors of the modalities of a case are matched against those of all other cases, and the case is
    scored by the encoders that were trained on it: no folds, no places, no density.

    Source: Contrastive Multiview Coding (Tian, Krishnan & Isola 2020), the other reading of MDAL's abstract.
    """
    rows, groups = np.arange(len(patients)), np.unique(patients, return_inverse=True)[1]
    volumes, present = torch.from_numpy(views.coarse(rows)), torch.from_numpy(views.present)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(_number(seed, 3, 0))
        encoders = Encoders(present.shape[1], EncoderSettings())
    generator = torch.Generator().manual_seed(_number(seed, 3, 1))
    optimiser = torch.optim.AdamW(encoders.parameters(), lr=3e-3, weight_decay=1e-2)
    for _ in range(CMC_STEPS):
        drawn = torch.randperm(len(rows), generator=generator)[:CMC_BATCH]
        inside = volumes[drawn, -1]
        changed = augment_views(volumes[drawn, :-1], inside, Jitter(), generator)
        vectors, here = _case_vectors(encoders, changed, inside, present[drawn]), present[drawn]
        losses = [
            info_nce(
                vectors[:, a], vectors[:, b], encoders.temperature,
                groups=torch.from_numpy(groups[drawn.numpy()]), valid=here[:, a] & here[:, b],
            )
            for a, b in combinations(range(present.shape[1]), 2)
        ]  # fmt: skip
        optimiser.zero_grad()
        torch.stack(losses).mean().backward()
        optimiser.step()
    encoders.eval()
    with torch.no_grad():
        vectors = torch.cat(
            [
                _case_vectors(encoders, volumes[block, :-1], volumes[block, -1], present[block])
                for block in torch.arange(len(rows)).split(_BLOCK)
            ]
        )
    cosines = [
        torch.where(present[:, a] & present[:, b], (vectors[:, a] * vectors[:, b]).sum(dim=1), torch.nan)
        for a, b in combinations(range(present.shape[1]), 2)
    ]
    return lowest_if_unknown(-finite_mean(torch.stack(cosines, dim=1).numpy().astype(np.float64), axis=1))


def _case_vectors(encoders: Encoders, volumes: Tensor, inside: Tensor, present: Tensor) -> Tensor:
    """Unit vector of each case and modality, shape (B, M, K): the mean over the foreground's positions."""
    usable = foreground_positions(inside, encoders.settings.stride)[:, None, None].float()
    found = (encoders(volumes, present) * usable).sum(dim=-1) / usable.sum(dim=-1)
    return functional.normalize(found, dim=-1)


def reconstruction_error(
    views: PoolViews, patients: NDArray[np.str_], settings: ScoringSettings, *, seed: int
) -> Values:
    """How badly a case is reconstructed from what other patients look like, shape (N,).

    Root mean square error of the coarse view after its projection on 16 principal components, which are
    fitted to the other folds; only the modalities of a case count.
    """
    rows, groups = np.arange(len(patients)), np.unique(patients, return_inverse=True)[1]
    volumes = views.coarse(rows)[:, :-1].astype(np.float32)
    flat, error = volumes.reshape(len(rows), -1), np.empty(len(rows))
    weight = np.repeat(views.present, flat.shape[1] // views.present.shape[1], axis=1)
    parts = min(settings.folds, len(set(groups.tolist())) // 2)
    fold = assign_folds(groups, folds=parts, seed=_number(seed, 4, 0))
    for part in range(parts):
        others, held_out = flat[fold != part], flat[fold == part]
        components = PCA(min(_COMPONENTS, len(others) - 1), random_state=0).fit(others)
        missed = np.square(held_out - components.inverse_transform(components.transform(held_out)))
        error[fold == part] = np.sqrt(np.average(missed, axis=1, weights=weight[fold == part]))
    return error


def _nats(head: GaussianHead, encoders: Encoders, views: PoolViews, rows: Rows) -> Values:
    """PMI of some cases at each place, shape (n, P, places), computed in blocks."""
    blocks = np.array_split(rows, -(-len(rows) // _BLOCK))
    return np.concatenate([head.pmi(embed(encoders, views, block, _CPU)).numpy() for block in blocks])


def _lesion_focused(nats: Values, fold: Rows, views: PoolViews) -> Values:
    """Lesion-focused difference of each case, as in `PoolScores.md` before it is standardised."""
    counts = place_counts(views.shape, EncoderSettings().stride)
    places = standardise_places(nats, fold).astype(np.float16)
    return lowest_if_unknown(CaseDifferences.of(places, counts).lesion)


def _number(seed: int, control: int, repeat: int) -> int:
    """Seed of a control's training, different from every seed of the scores themselves."""
    return int(np.random.SeedSequence([seed, 2, control, repeat]).generate_state(1)[0])


CONTROL_SCORES: dict[str, Callable[..., Values]] = {
    "in_sample": in_sample_difference,
    "random_encoder": random_encoder_difference,
    "cmc": cmc_difference,
    "reconstruction": reconstruction_error,
}
"""Scores by name: of the views, the patient of each case, the settings and the seed."""
