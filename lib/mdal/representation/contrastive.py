"""Contrastive learning between the modalities of a case, at matched positions."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import combinations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Generator, Tensor

from lib.mdal.representation.augmentation import Jitter, augment_views
from lib.mdal.representation.encoder import Encoders, EncoderSettings, foreground_positions
from lib.mdal.representation.info_nce import info_nce
from lib.mdal.representation.matching import matched_share
from lib.mdal.representation.views import PatientViews
from lib.runtime.progress import OnShareDone

PATIENCE = 3  # checks without a better one after which a training ends


@dataclass(frozen=True)
class ContrastiveSettings:
    """Settings of the training of the encoders.

    Attributes:
        steps: Largest number of optimiser steps, over which the learning rate falls to zero.
        batch: Cases per step; each case has the others as its negatives.
        positions: Foreground positions drawn per step; neighbours are redundant, so a few are enough.
        learning_rate: Peak learning rate, reached after a fifth of the steps; then a cosine decay.
        checks: Times that the held-out patients are matched during a training, evenly spaced; 0 for none.
        jitter: Largest random changes of the augmentation.
        encoder: Size of the encoders.
    """

    steps: int = 150
    batch: int = 14
    positions: int = 512
    learning_rate: float = 1e-2
    checks: int = 6
    jitter: Jitter = field(default_factory=Jitter)
    encoder: EncoderSettings = field(default_factory=EncoderSettings)

    def __post_init__(self) -> None:
        """Refuse a batch without negatives."""
        if self.batch < 2 or min(self.steps, self.positions) < 1:
            raise ValueError(
                "batch must be at least 2, steps and positions at least 1; "
                f"got {self.batch}, {self.steps} and {self.positions}."
            )


@dataclass(frozen=True)
class TrainingCourse:
    """How well held-out patients were matched in the course of a training.

    Attributes:
        matched: Share of the held-out places that was matched after each number of steps.
        chance: Share that chance would match; NaN without held-out patients.
        best_steps: Number of steps of the weights that are kept.
        most_steps: Number of steps after which the training would have ended in any case.
    """

    matched: dict[int, float]
    chance: float
    best_steps: int
    most_steps: int

    @property
    def ended_early(self) -> bool:
        """Whether the training ended because the matching no longer rose."""
        return 0 < max(self.matched, default=0) < self.most_steps

    @property
    def best(self) -> float:
        """Share matched by the weights that are kept; NaN without a check."""
        return self.matched.get(self.best_steps, math.nan)


@dataclass(frozen=True, eq=False)
class TrainedEncoders:
    """Encoders after their training.

    Attributes:
        encoders: Encoders in evaluation mode, with the weights that matched the held-out patients best, or
            the last weights without held-out patients.
        course: How well they matched the held-out patients.
    """

    encoders: Encoders
    course: TrainingCourse


def train_encoders(
    cases: PatientViews,
    settings: ContrastiveSettings,
    generator: Generator,
    on_progress: OnShareDone = lambda done: None,
    *,
    rows: NDArray[np.intp] | None = None,
    held_out: NDArray[np.intp] | None = None,
    device: torch.device | str = "cpu",
) -> TrainedEncoders:
    """Train one encoder per modality to match the modalities of a case.

    The training ends early when three checks in a row matched the held-out patients no better than an
    earlier check. No label is used for that.

    Args:
        cases: Views of all cases and their patients.
        settings: Schedule, augmentation and network size.
        generator: CPU generator of all random draws.
        on_progress: Called with the share of the steps done, 0 to 1.
        rows: Cases to train on; None for all. Other cases of a memory-mapped pool are not read, but for
            the checks.
        held_out: Cases of other patients, which the checks match; None for no checks.
        device: Device to train on; CUDA computes in bfloat16.

    Returns:
        Trained encoders, on `device`.

    Raises:
        ValueError: If there are fewer than two modalities or two patients.
    """
    rows = np.arange(len(cases.views)) if rows is None else rows
    modalities, count = cases.views.shape[1], np.unique(cases.groups[rows]).size
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
    progress = _Checks(settings.steps)
    for step, drawn in enumerate(_batches(rows, settings, generator), start=1):
        _step(encoders, optimiser, cases, drawn, settings, generator)
        schedule.step()
        on_progress(step / settings.steps)
        if held_out is not None and settings.checks and _is_due(step, settings):
            share, chance = matched_share(encoders, cases, held_out)
            if progress.take(step, share, chance, encoders):
                on_progress(1.0)
                break
    return progress.best(encoders)


def _step(
    encoders: Encoders,
    optimiser: torch.optim.Optimizer,
    cases: PatientViews,
    drawn: NDArray[np.intp],
    settings: ContrastiveSettings,
    generator: Generator,
) -> None:
    """One optimiser step on the drawn cases; a function of its own, so that its tensors do not outlive it."""
    batch, here, inside = cases.batch(drawn)
    device = encoders.log_excess.device
    augmented = augment_views(batch.to(device), inside.to(device), settings.jitter, generator)
    del batch
    with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
        dense = encoders(augmented, here.to(device))
    usable = foreground_positions(inside, settings.encoder.stride)[:, None] & here[:, :, None]  # (B, M, P)
    loss = _dense_loss(
        dense,
        usable,
        torch.from_numpy(cases.groups[drawn]),
        encoders.temperature,
        settings.positions,
        generator,
    )
    del augmented, dense
    optimiser.zero_grad()
    loss.backward()
    optimiser.step()


class _Checks:
    """Shares matched at the checks so far, and the weights of the best."""

    def __init__(self, steps: int) -> None:
        self.matched: dict[int, float] = {}
        self.chance, self.best_steps, self.most_steps = math.nan, steps, steps
        self._weights: dict[str, Tensor] | None = None

    def take(self, step: int, share: float, chance: float, encoders: Encoders) -> bool:
        """Record a check; true if the training should end. NaN, without a held-out pair, decides nothing."""
        if math.isnan(share):
            return False
        if not self.matched or share > max(self.matched.values()):
            self.best_steps = step
            self._weights = {name: value.clone() for name, value in encoders.state_dict().items()}
        self.matched[step], self.chance = share, chance
        return sum(done > self.best_steps for done in self.matched) >= PATIENCE

    def best(self, encoders: Encoders) -> TrainedEncoders:
        """The encoders with their best weights."""
        if self._weights is not None:
            encoders.load_state_dict(self._weights)
        course = TrainingCourse(self.matched, self.chance, self.best_steps, self.most_steps)
        return TrainedEncoders(encoders.eval(), course)


def _is_due(step: int, settings: ContrastiveSettings) -> bool:
    """Whether a step is followed by a check; the last one is."""
    return step * settings.checks // settings.steps > (step - 1) * settings.checks // settings.steps


def _batches(
    rows: NDArray[np.intp], settings: ContrastiveSettings, generator: Generator
) -> Iterator[NDArray[np.intp]]:
    """Sorted rows of each step; every case is drawn once before any case is drawn again."""
    size, waiting = min(settings.batch, len(rows)), np.empty(0, dtype=np.intp)
    for _ in range(settings.steps):
        if len(waiting) < size:
            waiting = rows[torch.randperm(len(rows), generator=generator).numpy()]
        drawn, waiting = waiting[:size], waiting[size:]
        yield np.sort(drawn)


def _dense_loss(
    dense: Tensor, usable: Tensor, groups: Tensor, temperature: Tensor, positions: int, generator: Generator
) -> Tensor:
    """Mean InfoNCE over all modality pairs, at positions that at least two cases share.

    Args:
        dense: Features of the cases at every position, shape (B, M, K, P).
        usable: Foreground positions of the modalities that a case has, shape (B, M, P), bool, on the CPU.
        groups: Patient of each case, shape (B,), on the CPU.
        temperature: Temperature tau.
        positions: Largest number of positions to draw.
        generator: Generator that draws the positions.
    """
    losses, device = [], dense.device
    for a, b in combinations(range(dense.shape[1]), 2):
        weight = (usable[:, a] & usable[:, b]).sum(dim=0).float()  # (P,)
        weight[weight < 2] = 0
        count = min(positions, int(weight.count_nonzero()))
        if not count:
            continue
        drawn = torch.multinomial(weight, count, generator=generator)
        first, second = (
            dense[:, m][..., drawn.to(device)].permute(2, 0, 1).contiguous() for m in (a, b)
        )  # (P, B, K)
        valid = (usable[:, a] & usable[:, b])[:, drawn].T  # (P, B)
        losses.append(info_nce(first, second, temperature, groups=groups.to(device), valid=valid.to(device)))
    return torch.stack(losses).mean() if losses else dense.sum() * 0.0
