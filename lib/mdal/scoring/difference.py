"""Modality difference: one number per case, computed from its pointwise mutual information."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.stats import median_abs_deviation
from torch import Tensor

from lib.mdal.scoring.pmi import Array, finite_mean

EXTREME = 2.5  # robust standard deviations above the median


def standardised(values: Array) -> Array:
    """Each column with mean 0 and standard deviation 1 over its finite values.

    Args:
        values: Values of N cases, shape (N,) or (N, P); NaN where unknown.

    Returns:
        Same shape; NaN stays NaN, and a column that does not vary becomes 0.
    """
    centred = values - finite_mean(values, axis=0)
    deviation = np.sqrt(finite_mean(centred**2, axis=0))
    return np.asarray(centred / np.where(deviation > 0, deviation, 1.0))


def modality_difference(pmi: Array) -> Array:
    """Mean standardised modality difference of each case.

    MD_i = -mean over pairs of (PMI_ip - mean_p) / std_p

    Pairs differ in level, so one pair would dominate a raw sum.

    Args:
        pmi: Out-of-fold pointwise mutual information in nats, shape (N, P); NaN where a
            case lacks a modality of the pair.

    Returns:
        Modality difference, shape (N,); the largest is labelled first.

    Raises:
        ValueError: If a case has no finite pair.

    Source: Wang et al. 2025, as reconstructed from its abstract; the mean over pairs is ours.
    """
    if pmi.ndim != 2:
        raise ValueError(f"pmi must be (N, P), cases by pairs; got shape {pmi.shape}.")
    lone = np.flatnonzero(~np.isfinite(pmi).any(axis=1)).tolist()
    if lone:
        raise ValueError(
            f"every case must have a finite pair of modalities; rows {lone[:10]} have none. "
            "Leave out cases with fewer than two modalities."
        )
    return -finite_mean(standardised(pmi), axis=1)


def extreme(difference: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Cases that differ so much more than the pool that a damaged scan is likelier than an informative one.

    (MD_i - median) / (1.4826 median |MD - median|) > 2.5

    Args:
        difference: Modality difference of each case as a whole, shape (N,).

    Returns:
        Extreme cases, shape (N,), bool.

    Source: Leys et al. 2013 for the limit.
    """
    spread = float(median_abs_deviation(difference, scale="normal"))
    return np.asarray((difference - np.median(difference) > EXTREME * spread) & (spread > 0.0))


def pool_patches(values: Tensor, inside: Tensor, *, share: float = 1.0) -> Tensor:
    """Mean of the largest patch values of each case; not a sum, because neighbours are correlated.

    Args:
        values: Value at each position, shape (N, P).
        inside: Positions that count, shape (N, P), bool.
        share: Share of the positions to average: 1 for the whole foreground, 0.1 for the top 10 %; at least
            one position.

    Returns:
        Mean of each case, shape (N,); NaN for a case without a position inside.

    Raises:
        ValueError: If the share is not above 0 and at most 1.
    """
    if not 0 < share <= 1:
        raise ValueError(f"share must be above 0 and at most 1; got {share}.")
    ordered = values.masked_fill(~inside, -torch.inf).sort(dim=1, descending=True).values
    kept = (inside.sum(dim=1) * share).ceil()  # (N,)
    first = torch.arange(values.shape[1], device=values.device) < kept[:, None]
    return ordered.where(first, 0.0).sum(dim=1) / kept
