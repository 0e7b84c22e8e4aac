"""Multimodal contrastive learning at matched positions."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import combinations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Generator, Tensor
from torch.nn import functional

from lib.mdal.representation.augmentation import Jitter, augment
from lib.mdal.representation.encoder import Encoders, EncoderSettings, foreground_positions

Progress = Callable[[float], None]


@dataclass(frozen=True)
class ContrastiveSettings:
    """How encoders are trained.

    Attributes:
        steps: Optimiser steps; 150 learnt to match unseen patients in a feasibility run.
        batch: Cases in a step, all told apart from one another: the negatives.
        positions: Foreground positions drawn in a step; neighbours repeat one another, so few are enough.
        learning_rate: Peak, after a warm-up over a fifth of the steps; then half a cosine.
        jitter: Augmentation.
        encoder: Size of the networks.
    """

    steps: int = 150
    batch: int = 16
    positions: int = 48
    learning_rate: float = 3e-3
    jitter: Jitter = field(default_factory=Jitter)
    encoder: EncoderSettings = field(default_factory=EncoderSettings)

    def __post_init__(self) -> None:
        """Refuse a batch without negatives."""
        if self.batch < 2 or min(self.steps, self.positions) < 1:
            raise ValueError(
                "batch must be at least 2, steps and positions at least 1; "
                f"got {self.batch}, {self.steps} and {self.positions}."
            )


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

    With a leading position axis this is the dense form: at each position the B cases are told apart
    from one another, never one position from another.

    Args:
        first: Unit vectors of one modality, (B, K) or (P, B, K).
        second: The other modality, same shape.
        temperature: tau, above 0.
        groups: (B,) patient of each case; other cases of the same patient are no negatives.
        valid: (B,) or (P, B) bool; what lacks a modality or is background is neither anchor nor negative.

    Returns:
        Scalar in nats; 0 if nothing is valid.

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
    """(B, B) bool: True where j is case i itself or another patient's."""
    own = torch.eye(count, dtype=torch.bool, device=device)
    return own | (groups[:, None] != groups[None, :] if groups is not None else ~own)


def train_encoders(
    views: NDArray[np.float16],
    present: NDArray[np.bool_],
    foreground: NDArray[np.float16],
    groups: NDArray[np.intp],
    settings: ContrastiveSettings,
    generator: Generator,
    on_progress: Progress = lambda done: None,
    *,
    rows: NDArray[np.intp] | None = None,
    device: torch.device | str = "cpu",
) -> Encoders:
    """Train one encoder per modality to match the modalities of a case.

    Args:
        views: (N, M, D, H, W); read batch by batch, so it may be memory-mapped.
        present: (N, M) bool.
        foreground: (N, D, H, W), above 0.5 inside the body.
        groups: (N,) number of each case's patient.
        settings: Schedule, augmentation and size.
        generator: CPU generator; decides everything that is drawn.
        on_progress: Called with the share done, 0 to 1.
        rows: Train on these cases only; None for all. Keeps a memory-mapped pool unread.
        device: Where to train; bfloat16 on CUDA only.

    Returns:
        Encoders in evaluation mode, on `device`.

    Raises:
        ValueError: If there are fewer than two modalities or two patients.
    """
    rows = np.arange(len(views)) if rows is None else rows
    modalities, count = views.shape[1], np.unique(groups[rows]).size
    if modalities < 2 or count < 2:
        raise ValueError(
            "training must have at least 2 modalities and 2 patients; "
            f"got {modalities} and {count}. Add studies."
        )
    device = torch.device(device)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(int(torch.randint(2**62, (1,), generator=generator)))
        encoders = Encoders(modalities, settings.encoder).to(device)
    optimiser = torch.optim.AdamW(encoders.parameters(), lr=settings.learning_rate, weight_decay=1e-2)
    warm_up = max(1, settings.steps // 5)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimiser,
        lambda step: min(1.0, (step + 1) / warm_up) * (1 + math.cos(math.pi * step / settings.steps)) / 2,
    )
    for step, drawn in enumerate(_batches(rows, settings, generator)):
        batch, inside = (
            torch.from_numpy(np.asarray(part[drawn], np.float32)) for part in (views, foreground)
        )
        here = torch.from_numpy(present[drawn])
        augmented = augment(batch.to(device), inside.to(device), settings.jitter, generator)
        with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
            dense = encoders(augmented, here.to(device))
        usable = foreground_positions(inside)[:, None] & here[:, :, None]  # (B, M, P)
        loss = _dense_loss(
            dense,
            usable,
            torch.from_numpy(groups[drawn]),
            encoders.temperature,
            settings.positions,
            generator,
        )
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
        on_progress((step + 1) / settings.steps)
    return encoders.eval()


def _batches(
    rows: NDArray[np.intp], settings: ContrastiveSettings, generator: Generator
) -> Iterator[NDArray[np.intp]]:
    """Sorted rows of each step; every case comes once before any comes again."""
    size, waiting = min(settings.batch, len(rows)), np.empty(0, dtype=np.intp)
    for _ in range(settings.steps):
        if len(waiting) < size:
            waiting = rows[torch.randperm(len(rows), generator=generator).numpy()]
        drawn, waiting = waiting[:size], waiting[size:]
        yield np.sort(drawn)


def _dense_loss(
    dense: Tensor, usable: Tensor, groups: Tensor, temperature: Tensor, positions: int, generator: Generator
) -> Tensor:
    """Mean InfoNCE over all modality pairs, at positions where at least two cases can be told apart.

    Args:
        dense: Features of the cases at every position, (B, M, K, P).
        usable: (B, M, P) bool, on the CPU.
        groups: (B,) patient of each case, on the CPU.
        temperature: tau.
        positions: Most positions that are drawn.
        generator: Draws them.
    """
    losses, device = [], dense.device
    for a, b in combinations(range(dense.shape[1]), 2):
        weight = (usable[:, a] & usable[:, b]).sum(dim=0).float()  # (P,)
        weight[weight < 2] = 0
        count = min(positions, int(weight.count_nonzero()))
        if not count:
            continue
        drawn = torch.multinomial(weight, count, generator=generator)
        first, second = (dense[:, m][..., drawn.to(device)].permute(2, 0, 1) for m in (a, b))  # (P, B, K)
        valid = (usable[:, a] & usable[:, b])[:, drawn].T  # (P, B)
        losses.append(info_nce(first, second, temperature, groups=groups.to(device), valid=valid.to(device)))
    return torch.stack(losses).mean() if losses else dense.sum() * 0.0
