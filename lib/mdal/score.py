"""Every case's modality difference, by models that never saw the case."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from itertools import combinations

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.stats import rankdata, spearmanr
from sklearn.decomposition import PCA

from lib.mdal.contrastive import ContrastiveSettings, train_encoders
from lib.mdal.difference import modality_difference, pair_differences
from lib.mdal.heads import GaussianHead, critic_head, embed
from lib.mdal.pmi import Array, Rows, out_of_fold_pmi, standardise_folds
from lib.mdal.views import PoolViews

MIN_PATIENTS = 6  # 3 folds of 2; below, a training has too few negatives and a fold no pair to compare
_FIT_CASES = 256  # 50,000 positions: more than a covariance of 16 dimensions needs
_BLOCK = 128  # held-out cases compared with one another at a time; bounds memory at any size of pool
_FEATURES = 32  # dimensions that clusters are sought in

Progress = Callable[[float, str], None]


class PoolTooSmall(ValueError):
    """Too few patients or modalities for models that never saw a case to say anything of it."""


@dataclass(frozen=True)
class ScoringSettings:
    """How a pool is scored.

    Attributes:
        folds: Parts of the pool; fewer where a fold would have less than two patients.
        seeds: Repeats with other folds and weights, averaged; one alone is a noisy ranking.
        steps: Contrastive steps of one training; None: by the size of the pool and the device.
        components: PCA dimensions on each side of the Gaussian head; more need more patients.
        share: Of a case's positions that its score is the mean of, the most different first; 1 is the
            mean over the foreground, 0.1 the mean of the top 10 %.
        contrastive: Schedule and networks; its steps are replaced by `steps`.
    """

    folds: int = 5
    seeds: int = 3
    steps: int | None = None
    components: int = 8
    share: float = 1.0
    contrastive: ContrastiveSettings = field(default_factory=ContrastiveSettings)

    def __post_init__(self) -> None:
        """Refuse what leaves nothing held out."""
        if self.folds < 2 or self.seeds < 1 or self.components < 1:
            raise ValueError(
                "folds must be at least 2, seeds and components at least 1; "
                f"got {self.folds}, {self.seeds} and {self.components}."
            )

    def steps_for(self, cases: int, device: torch.device) -> int:
        """Steps of one training: as set, or two for each case within what the device does in minutes."""
        least, most = (150, 2000) if device.type == "cuda" else (30, 400)
        return min(most, max(least, 2 * cases)) if self.steps is None else self.steps


@dataclass(frozen=True, eq=False)
class PoolScores:
    """What is known of a pool before any label; rows are in the order of `ids`.

    Attributes:
        ids: Of the N cases.
        pairs: Of modalities, as `CT/PET`.
        gaussian_nats: (N, P, seeds), out-of-fold PMI by the Gaussian head; NaN where missing.
        critic_nats: (N, P, seeds), the same by the raw critic.
        pair_md: (N, P) standardised modality difference of each pair; NaN where missing.
        md: (N,) modality difference; larger is labelled first. A case without a pair has the pool's
            smallest: nothing in it can differ.
        md_percentile: (N,) share of the pool with a smaller one, 0 to 100.
        features: (N, F) float32, for clustering.
        gates: Figures to judge the scoring by; NaN where one cannot be computed.
    """

    ids: tuple[str, ...]
    pairs: tuple[str, ...]
    gaussian_nats: Array
    critic_nats: Array
    pair_md: Array
    md: Array
    md_percentile: Array
    features: NDArray[np.float32]
    gates: dict[str, float]


def score_pool(
    ids: Sequence[str],
    patients: Sequence[str],
    views: PoolViews,
    modalities: Sequence[str],
    settings: ScoringSettings,
    *,
    seed: int,
    device: torch.device | str = "cpu",
    on_progress: Progress = lambda done, message: None,
) -> PoolScores:
    """Score a pool in one shot, with no label.

    Args:
        ids: Of the N cases, in the order of the views.
        patients: Of each case; a patient is never split between training and scoring.
        views: Of the N cases.
        modalities: Names of the M channels.
        settings: Folds, seeds and networks.
        seed: The same pool, settings and seed give the same scores.
        device: Where to train.
        on_progress: Told the share done, 0 to 1, and what is being done.

    Returns:
        The scores.

    Raises:
        PoolTooSmall: If there are too few patients or modalities.
        ValueError: If the arguments do not fit one another.

    Source: Wang et al. 2025, as reconstructed from its abstract.
    """
    _check(ids, patients, views, modalities)
    device, groups = torch.device(device), np.unique(patients, return_inverse=True)[1]
    pool = _Pool(views, groups, settings, device)
    folds = min(settings.folds, int(groups.max() + 1) // 2)  # two patients a fold: one is no comparison
    runs, standardised, total = [], [], settings.seeds * folds
    for repeat in range(settings.seeds):

        def tell(fold: int, share: float, first: int = repeat * folds) -> None:
            message = f"training {first + fold + 1} of {total}"
            on_progress((first + fold + share) / total, message)

        numbers = np.random.SeedSequence([seed, repeat]).generate_state(folds + 1).tolist()
        run = _Run(pool, numbers[1:], tell, keep_features=repeat == 0)
        scores, fold = out_of_fold_pmi(run.fit, groups, folds=folds, seed=numbers[0])
        standardised.append(standardise_folds(scores[..., 0], fold))
        runs.append((run, scores))
    return _collect(ids, modalities, runs, standardised)


@dataclass(frozen=True, eq=False)
class _Pool:
    views: PoolViews
    groups: NDArray[np.intp]
    settings: ScoringSettings
    device: torch.device


class _Run:
    """One seed: a training for every fold."""

    def __init__(
        self, pool: _Pool, seeds: list[int], tell: Callable[[int, float], None], *, keep_features: bool
    ) -> None:
        self.pool, self.seeds, self.tell, self.keep_features = pool, seeds, tell, keep_features
        self.features: list[NDArray[np.float32]] = []
        self.in_sample_nats: list[float] = []

    def fit(self, train: Rows) -> Callable[[Rows], Array]:
        """Train encoders and head on these rows; the scorer gives (n, pairs, 4).

        The four are the Gaussian head's PMI, the critic's, the share of matched positions, and chance.
        """
        pool, number = self.pool, len(self.in_sample_nats)
        generator = torch.Generator().manual_seed(self.seeds[number])
        steps = pool.settings.steps_for(len(train), pool.device)
        encoders = train_encoders(
            pool.views.views,
            pool.views.present,
            pool.views.foreground,
            pool.groups,
            replace(pool.settings.contrastive, steps=steps),
            generator,
            lambda share: self.tell(number, share),
            rows=train,
            device=pool.device,
        )
        drawn = torch.randperm(len(train), generator=generator)[:_FIT_CASES].sort().values.numpy()
        training = embed(encoders, pool.views, train[drawn], pool.device)
        head = GaussianHead(training, components=pool.settings.components)
        in_sample = head.score(training, share=pool.settings.share)  # a gate, never a rank
        self.in_sample_nats.append(_mean(in_sample))
        if self.keep_features:
            everyone = np.arange(len(pool.groups))
            parts = [embed(encoders, pool.views, rows, pool.device) for rows in _blocks(everyone)]
            self.features.append(np.concatenate([part.global_embedding().numpy() for part in parts]))

        def score(rows: Rows) -> Array:
            scored = []
            for block in _blocks(rows):
                dense = embed(encoders, pool.views, block, pool.device)
                groups = torch.from_numpy(pool.groups[block])
                critic = critic_head(dense, float(encoders.temperature.detach()), groups)
                scored.append(np.stack([head.score(dense, share=pool.settings.share), *critic], axis=2))
            return np.concatenate(scored)

        return score


def _blocks(rows: Rows) -> list[Rows]:
    return np.array_split(rows, math.ceil(len(rows) / _BLOCK))


def _collect(
    ids: Sequence[str], modalities: Sequence[str], runs: list[tuple[_Run, Array]], standardised: list[Array]
) -> PoolScores:
    """Average the seeds, rank the cases, measure the gates."""
    scores = np.stack([scores for _, scores in runs], axis=-1)  # (N, P, 4, seeds)
    by_seed = [_difference(pmi)[0] for pmi in standardised]
    md, pair_md = _difference(np.mean(standardised, axis=0))
    pairs = tuple(f"{first}/{second}" for first, second in combinations(modalities, 2))
    agreement = [
        float(spearmanr(a, b).statistic) for a, b in combinations(by_seed, 2) if np.ptp(a) and np.ptp(b)
    ]
    in_sample = _mean(np.array([run.in_sample_nats for run, _ in runs]))
    gaussian, critic, hit, chance = (scores[:, :, part] for part in range(4))
    gates = {
        "retrieval_top1": _mean(hit),
        "retrieval_chance": _mean(chance),
        "seed_spearman": float(np.mean(agreement)) if agreement else math.nan,
        "in_sample_gap_nats": in_sample - _mean(gaussian),
        "cases_without_a_pair": float(np.isnan(pair_md).all(axis=1).sum()),
    }
    return PoolScores(
        tuple(ids), pairs, gaussian, critic, pair_md, md,
        100.0 * (rankdata(md, method="min") - 1) / max(1, len(md) - 1),
        _reduce(runs[0][0].features), gates,
    )  # fmt: skip


def _mean(values: Array) -> float:
    """Mean of the finite values; NaN if there is none."""
    known = values[np.isfinite(values)]
    return float(known.mean()) if known.size else math.nan


def _difference(pmi: Array) -> tuple[Array, Array]:
    """MD (N,) and MD by pair (N, P); a case without a pair comes last."""
    paired = np.isfinite(pmi).any(axis=1)
    if not paired.any():
        raise ValueError(
            "no case could be scored: too few have the same two modalities. Add complete studies."
        )
    md = np.empty(len(pmi))
    md[paired] = modality_difference(torch.from_numpy(pmi[paired])).numpy()
    md[~paired] = md[paired].min()
    return md, pair_differences(torch.from_numpy(pmi)).numpy()


def _reduce(embeddings: list[NDArray[np.float32]]) -> NDArray[np.float32]:
    """Global embeddings (N, M, K) of every fold's encoders, side by side, reduced by PCA.

    An absent modality takes the mean of the others' there, so that absence does not make a cluster.
    """
    stacked = np.concatenate(embeddings, axis=2)  # (N, M, folds * K)
    here = np.abs(stacked).sum(axis=2, keepdims=True) > 0
    mean = (stacked * here).sum(axis=0) / np.maximum(here.sum(axis=0), 1)
    flat = np.where(here, stacked - mean, 0.0).reshape(len(stacked), -1)
    kept = min(_FEATURES, *flat.shape)
    return np.asarray(PCA(kept, svd_solver="full").fit_transform(flat), dtype=np.float32)


def _check(ids: Sequence[str], patients: Sequence[str], views: PoolViews, modalities: Sequence[str]) -> None:
    if not len(ids) == len(patients) == len(views.array) == len(views.present):
        raise ValueError(
            "ids, patients and views must be of the same cases; "
            f"got {len(ids)}, {len(patients)} and {len(views.array)}."
        )
    if len(modalities) != views.present.shape[1]:
        raise ValueError(
            f"views must have one channel for each of {', '.join(modalities)}; got {views.present.shape[1]}."
        )
    if len(modalities) < 2:
        raise PoolTooSmall(
            f"a modality difference needs at least 2 modalities; got {', '.join(modalities) or 'none'}. "
            "Add the other series of each study."
        )
    if len(set(patients)) < MIN_PATIENTS:
        raise PoolTooSmall(
            f"a pool must have at least {MIN_PATIENTS} patients to be scored by models that never saw them; "
            f"got {len(set(patients))}. Add studies, or label these in any order."
        )
