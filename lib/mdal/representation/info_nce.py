"""The contrastive loss between two modalities."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional


def info_nce(
    first: Tensor,
    second: Tensor,
    temperature: Tensor | float,
    *,
    groups: Tensor | None = None,
    valid: Tensor | None = None,
) -> Tensor:
    """Symmetric InfoNCE between two modalities of the same cases.

    L = mean over i of -1/2 [log softmax_j(x_i . y_j / tau)_i + log softmax_j(x_j . y_i / tau)_i]

    With a leading position axis this is the dense form: the loss contrasts the B cases at each position,
    and never contrasts one position with another.

    Args:
        first: Unit vectors of one modality, shape (B, K) or (P, B, K).
        second: Unit vectors of the other modality, same shape.
        temperature: Temperature tau, above 0.
        groups: Patient of each case, shape (B,); other cases of the same patient are not negatives.
        valid: Cases that have both modalities and foreground, shape (B,) or (P, B), bool; the others are
            neither anchors nor negatives.

    Returns:
        Scalar in nats; 0 if no case is valid.

    Raises:
        ValueError: If the shapes differ.

    Source: van den Oord et al. 2018 (arXiv 1807.03748); symmetric as in Radford et al. 2021.
    """
    if first.shape != second.shape or first.ndim not in (2, 3):
        raise ValueError(
            "first and second must both be (B, K) or (P, B, K); "
            f"got {tuple(first.shape)} and {tuple(second.shape)}."
        )
    if first.ndim == 2:
        first, second = first[None], second[None]
    count, batch = first.shape[:2]
    if valid is None:
        valid = torch.ones(count, batch, dtype=torch.bool, device=first.device)
    valid = valid.expand(count, batch)
    if not valid.any():
        return (first.sum() + second.sum()) * 0.0
    allowed = valid[:, None, :] & negatives_or_self(batch, groups, device=first.device)
    target = torch.arange(batch, device=first.device).expand(count, batch)[valid]
    losses = []
    for anchors, others in ((first, second), (second, first)):
        critic = (anchors @ others.mT / temperature).masked_fill(~allowed, -math.inf)  # (P, B, B)
        losses.append(functional.cross_entropy(critic[valid], target))
    return torch.stack(losses).mean()


def negatives_or_self(count: int, groups: Tensor | None, *, device: torch.device) -> Tensor:
    """Pairs (i, j) in which j is case i itself or a case of another patient, shape (B, B), bool."""
    own = torch.eye(count, dtype=torch.bool, device=device)
    return own | (groups[:, None] != groups[None, :] if groups is not None else ~own)
