"""Scores of a pool, computed before any case is labelled."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from lib.mdal import pair_names
from lib.mdal.representation.properties import CaseProperties
from lib.mdal.representation.views import PoolViews, Shape
from lib.mdal.scoring.difference import modality_difference, standardised
from lib.mdal.scoring.fold_scores import FoldScores
from lib.mdal.scoring.gates import (
    Gate,
    follows_gates,
    memory_gate,
    nats_gate,
    place_gate,
    protocol_gate,
    retrieval_gate,
    rise_gate,
    seeds_gate,
)
from lib.mdal.scoring.perturbation import PERTURBATIONS
from lib.mdal.scoring.pmi import Array, finite_mean, standardise_folds
from lib.mdal.scoring.pool_places import CaseDifferences, FoldPlaces
from lib.mdal.scoring.saliency import salient_places


@dataclass(frozen=True, eq=False)
class PoolScores:
    """Scores of N cases, P pairs of modalities and S seeds; NaN where a modality is absent.

    Attributes:
        pairs: Names of the pairs of modalities, such as `CT/PET`.
        gaussian_nats: Out-of-fold PMI in nats by the Gaussian head, shape (N, P, S).
        top_nats: PMI by the Gaussian head over the tenth of the positions that differ most, shape (N, P, S).
        critic_nats: Out-of-fold PMI in nats by the raw critic, shape (N, P, S).
        places: Modality difference of each place in deviations from what is usual there, mean over the seeds,
            shape (N, P, places), float16.
        counts: Number of places along D, H, W.
        pair_md: Lesion-focused difference of each pair, standardised over the pool, shape (N, P).
        md: Lesion-focused modality difference, standardised over the pool, shape (N,); the largest is
            labelled first. A case without a pair cannot differ, so it gets the smallest value of the pool.
        damage: Median difference over the places of a case, shape (N,): damage moves a whole case.
        mean_md: Modality difference by the mean over the foreground, shape (N,).
        md_nats: Mean of -PMI over pairs and seeds, shape (N,); NaN for a case without a pair.
        md_percentile: Share of the pool with a smaller modality difference, shape (N,), 0 to 100.
        lesion_proxy: Volume of the foreground that looks atypical in ml, shape (N,).
        salient: Number of places that are among the most conspicuous of the pool, shape (N,).
        saliency_features: Standardised appearance of these places, shape (N, L).
        aligned: Whether a place is the same part of the body in every case, as far as the place gate can
            tell.
        features: Features for clustering, shape (N, F).
        gates: Gates that judge whether to trust the scores.
    """

    pairs: tuple[str, ...]
    gaussian_nats: Array
    top_nats: Array
    critic_nats: Array
    places: NDArray[np.float16]
    counts: Shape
    pair_md: Array
    md: Array
    damage: Array
    mean_md: Array
    md_nats: Array
    md_percentile: Array
    lesion_proxy: Array
    salient: Array
    saliency_features: NDArray[np.float32]
    aligned: bool
    features: NDArray[np.float32]
    gates: tuple[Gate, ...]


def collect(
    folds: Sequence[FoldScores],
    places: Sequence[FoldPlaces],
    counts: Shape,
    held_out: NDArray[np.intp],
    views: PoolViews,
    properties: CaseProperties,
    modalities: Sequence[str],
    features: NDArray[np.float32],
) -> PoolScores:
    """Average the scores over the seeds, rank the cases and evaluate the gates.

    Args:
        folds: Scores of the folds of all repeats, one repeat after the other.
        places: PMI at each place by the folds of each repeat.
        counts: Number of places along D, H, W.
        held_out: Fold of each case in each repeat, shape (S, N).
        views: Views of the pool.
        properties: Label-free measurements of the N cases.
        modalities: Names of the M channels.
        features: Features for clustering, shape (N, F).

    Raises:
        ValueError: If no case could be scored.
    """
    gaussian, top, critic = (
        _in_pool_order(folds, name, held_out) for name in ("gaussian_nats", "top_nats", "critic_nats")
    )
    by_fold = [standardise_folds(gaussian[..., repeat], held_out[repeat]) for repeat in range(len(held_out))]
    mean_md = _mean_difference(np.mean(by_fold, axis=0))
    summed, by_seed = np.zeros(1, dtype=np.float32), []
    for repeat in places:
        of_seed = repeat.differences()
        by_seed.append(lowest_if_unknown(CaseDifferences.of(of_seed, counts).lesion))
        summed = summed + of_seed.astype(np.float32)
    of_places = (summed / len(places)).astype(np.float16)
    differences = CaseDifferences.of(of_places, counts)
    md = standardised(lowest_if_unknown(differences.lesion))
    md_nats = finite_mean(-gaussian, axis=(1, 2))
    saliency = salient_places(views)
    measured = {"foreground volume": properties.foreground_ml, "lesion proxy": saliency.volume_ml}
    for m, name in enumerate(modalities):
        measured[f"signal to noise of {name}"] = properties.signal_to_noise[:, m]
    in_sample, log_mean_ratio = (_of_folds(folds, name) for name in ("in_sample_nats", "log_mean_ratio"))
    gates = (
        retrieval_gate(*_matching(folds)),
        seeds_gate(by_seed),
        memory_gate(in_sample, float(finite_mean(gaussian)), float(np.nanstd(md_nats))),
        *(
            rise_gate(kind, np.concatenate([f.rise[:, k] for f in folds]))
            for k, kind in enumerate(PERTURBATIONS)
        ),
        nats_gate(log_mean_ratio),
        place := place_gate(saliency.explained),
        *follows_gates(md, measured),
        protocol_gate(md, properties.spacing),
    )
    return PoolScores(
        pair_names(tuple(modalities)),
        gaussian, top, critic, of_places, counts,
        standardised(differences.lesion_by_pair), md, lowest_if_unknown(differences.damage),
        mean_md, md_nats,
        percentiles(md),
        saliency.volume_ml, saliency.salient, saliency.saliency_features, place.passed is True,
        features, gates,
    )  # fmt: skip


def percentiles(values: Array) -> Array:
    """Share of the other cases with a smaller value, 0 to 100, shape (N,)."""
    return np.asarray(100.0 * (rankdata(values, method="min") - 1) / max(1, len(values) - 1))


def _in_pool_order(folds: Sequence[FoldScores], name: str, held_out: NDArray[np.intp]) -> Array:
    """Scores of all folds and repeats in the order of the pool, shape (N, P, S)."""
    repeats, count = held_out.shape
    shape = (count, *getattr(folds[0], name).shape[1:], repeats)
    scores = np.full(shape, math.nan)
    for number, fold in enumerate(folds):
        scores[fold.rows, ..., number * repeats // len(folds)] = getattr(fold, name)
    return scores


def _of_folds(folds: Sequence[FoldScores], name: str) -> float:
    """Mean of a figure over the folds that know it."""
    return float(finite_mean(np.array([getattr(fold, name) for fold in folds])))


def _matching(folds: Sequence[FoldScores]) -> tuple[float, float, str]:
    """Share matched, share by chance, and when and why the trainings ended."""
    matched, chance = (_of_folds(folds, name) for name in ("matched", "chance"))
    best, most = np.mean([fold.steps for fold in folds], axis=0)
    early = sum(bool(fold.ended_early) for fold in folds)
    ended = (
        f"The {len(folds)} trainings were at their best after {best:.0f} of at most {most:.0f} steps on "
        f"average; {early} of them ended early because the matching no longer rose"
    )
    return matched, chance, ended


def _mean_difference(pmi: Array) -> Array:
    """Modality difference by the mean over the foreground, shape (N,); a case without a pair comes last."""
    paired = np.isfinite(pmi).any(axis=1)
    if not paired.any():
        raise ValueError(
            "no case could be scored: too few have the same two modalities. Add complete studies."
        )
    md = np.full(len(pmi), math.nan)
    md[paired] = modality_difference(pmi[paired])
    return lowest_if_unknown(md)


def lowest_if_unknown(values: Array) -> Array:
    """The same values, with the smallest in place of NaN; 0 if none is known."""
    known = np.isfinite(values)
    return np.where(known, values, values[known].min() if known.any() else 0.0)
