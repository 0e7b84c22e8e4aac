"""Training on labelled cases, with a report an epoch and the best weights at the end."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from torch import Tensor, nn

from lib.ciml.loss import Loss, beta_at, objective
from lib.ciml.network import CimlNetwork
from lib.ciml.patches import PatchSampler, TrainingCase, augment, drop_modalities
from lib.ciml.validation import validate as validate


class TrainingError(ValueError):
    """Training that cannot go on; the message says why and what to do."""


@dataclass(frozen=True)
class TrainingSettings:
    """How long and how; the defaults train `tiny` in about a minute on one CPU core.

    Attributes:
        epochs: The learning rate falls to zero over exactly these.
        steps_per_epoch: Optimiser steps in one.
        batch_size: Patches in a step.
        roi_size: Patch (D, H, W) in voxels, multiples of the network's divisor.
        learning_rate: Of AdamW, at its peak.
        weight_decay: Of AdamW.
        gradient_norm: Gradients are clipped to this.
        foreground_share: Probability that a patch is centred near a labelled voxel.
        jitter: Deviation of the random scale and shift of intensities, in units of the prepared array.
        modality_dropout: Probability that a patch lacks a modality it has; one always stays.
        beta: Price of a nat of message, see `lib.ciml.loss`.
        beta_warm_up: Share of the steps over which beta rises from 0.
        validate_every: Epochs between validations; the last epoch always validates.
    """

    epochs: int = 10
    steps_per_epoch: int = 12
    batch_size: int = 2
    roi_size: tuple[int, int, int] = (24, 64, 64)
    learning_rate: float = 1e-2
    weight_decay: float = 1e-4
    gradient_norm: float = 1.0
    foreground_share: float = 0.5
    jitter: float = 0.1
    modality_dropout: float = 0.15
    beta: float = 1e-3
    beta_warm_up: float = 0.2
    validate_every: int = 5

    def __post_init__(self) -> None:
        """Refuse what would not train."""
        for name in ("epochs", "steps_per_epoch", "batch_size", "validate_every"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1; got {getattr(self, name)}.")
        for name in ("foreground_share", "modality_dropout", "beta_warm_up"):
            if not 0.0 <= getattr(self, name) <= 1.0:
                raise ValueError(f"{name} must be between 0 and 1; got {getattr(self, name)}.")

    @property
    def steps(self) -> int:
        """Optimiser steps in all."""
        return self.epochs * self.steps_per_epoch


@dataclass(frozen=True)
class EpochReport:
    """Where training stands after an epoch.

    Attributes:
        epoch: From 1.
        epochs: In all.
        loss: Mean of the epoch's steps.
        kl_by_level: Nats a channel and voxel; near zero means that a level's messages are ignored.
        dice_by_region: Mean over the validation cases; empty where this epoch did not validate.
        dice: Mean of these; None where this epoch did not validate.
        seconds_left: Estimate from the epochs so far.
    """

    epoch: int
    epochs: int
    loss: float
    kl_by_level: dict[int, float]
    dice_by_region: dict[str, float]
    dice: float | None
    seconds_left: float


@dataclass(frozen=True)
class TrainingResult:
    """What training came to; the network holds the weights of `best_epoch`.

    Attributes:
        best_epoch: With the highest validation Dice, or the last where none was validated; 0 if
            stopped before.
        dice: At that epoch; None without validation.
        reports: One an epoch.
        stopped: Whether `stop` ended it early.
    """

    best_epoch: int
    dice: float | None
    dice_by_region: dict[str, float]
    reports: list[EpochReport] = field(default_factory=list)
    stopped: bool = False


def train(
    network: CimlNetwork,
    cases: Sequence[TrainingCase],
    validation: Sequence[TrainingCase],
    settings: TrainingSettings,
    *,
    seed: int = 0,
    device: torch.device | str = "cpu",
    on_epoch: Callable[[EpochReport], None] = lambda report: None,
    stop: Callable[[], bool] = lambda: False,
) -> TrainingResult:
    """Train in place and leave the best weights in the network.

    Args:
        network: 3-D; from scratch or from an earlier round.
        cases: To learn from.
        validation: To choose the weights by; without any the last weights stay.
        settings: How long and how.
        seed: Of patches, augmentation, dropout and the messages' noise.
        device: Where to compute; bfloat16 on a GPU.
        on_epoch: Told after each epoch.
        stop: Asked before each step; true ends training, with the best weights so far.

    Raises:
        ValueError: If there is no case, or one does not fit the network.
        TrainingError: If the loss or a gradient is not finite; the network is not to be used then.
    """
    _check(network, [*cases, *validation], settings)
    if not cases:
        raise ValueError("training needs at least one labelled case; got none.")
    device = torch.device(device)
    network.to(device)
    # A quarter faster on a CPU; torch's stubs do not know the argument.
    network.to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
    run = _Run(network, cases, settings, seed=seed, device=device)
    best = TrainingResult(0, None, {})
    best_weights: dict[str, Tensor] | None = None
    start = time.monotonic()
    for epoch in range(1, settings.epochs + 1):
        losses = run.epoch(stop)
        if losses is None:
            best = replace(best, stopped=True)
            break
        report = _report(epoch, losses, run, validation, start)
        improved = report.dice is not None and (best.dice is None or report.dice > best.dice)
        if improved:
            best_weights = copy.deepcopy(network.state_dict())
        if improved or not validation:
            best = replace(best, best_epoch=epoch, dice=report.dice, dice_by_region=report.dice_by_region)
        best = replace(best, reports=[*best.reports, report])
        on_epoch(report)
    if best_weights is not None:
        network.load_state_dict(best_weights)
    network.eval()
    return best


class _Run:
    """Optimiser, schedule, sampler and random state of one training."""

    def __init__(
        self,
        network: CimlNetwork,
        cases: Sequence[TrainingCase],
        settings: TrainingSettings,
        *,
        seed: int,
        device: torch.device,
    ) -> None:
        self.network, self.settings, self.device = network, settings, device
        self.random = np.random.default_rng(seed)
        self.noise = torch.Generator(device).manual_seed(seed)
        self.sampler = PatchSampler(
            cases,
            roi_size=settings.roi_size,
            foreground_share=settings.foreground_share,
            generator=self.random,
        )
        self.optimiser = torch.optim.AdamW(
            network.parameters(), lr=settings.learning_rate, weight_decay=settings.weight_decay
        )
        self.done = 0

    def epoch(self, stop: Callable[[], bool]) -> list[Loss] | None:
        """The losses of one epoch's steps; None if it was stopped."""
        self.network.train()
        losses = []
        for _ in range(self.settings.steps_per_epoch):
            if stop():
                return None
            losses.append(self.step())
        return losses

    def step(self) -> Loss:
        """One optimiser step on one batch."""
        settings = self.settings
        for group in self.optimiser.param_groups:
            group["lr"] = settings.learning_rate * learning_rate_factor(self.done, settings.steps)
        image, present, regions = self._batch()
        with torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self.device.type == "cuda"):
            output = self.network(image, present, generator=self.noise)
        beta = beta_at(self.done, steps=settings.steps, beta=settings.beta, warm_up=settings.beta_warm_up)
        loss = objective(output, regions, decomposition=self.network.decomposition, beta=beta)
        self.optimiser.zero_grad(set_to_none=True)
        loss.total.backward()
        norm = nn.utils.clip_grad_norm_(self.network.parameters(), settings.gradient_norm)
        if not torch.isfinite(loss.total + norm):
            raise TrainingError(
                f"loss and gradient must be finite; got {float(loss.total.detach())} and "
                f"{float(norm)} at step {self.done + 1} of {settings.steps}. Lower the learning "
                "rate, or check the cases for values that are not finite."
            )
        self.optimiser.step()
        self.done += 1
        return Loss(
            loss.total.detach(),
            loss.segmentation.detach(),
            loss.kl.detach(),
            {level: kl.detach() for level, kl in loss.kl_by_level.items()},
        )

    def _batch(self) -> tuple[Tensor, Tensor, Tensor]:
        """(B, M, D, H, W) images, (B, M) present, (B, R, D, H, W) region masks."""
        patches = [
            augment(self.sampler.draw(), jitter=self.settings.jitter, generator=self.random)
            for _ in range(self.settings.batch_size)
        ]
        present = [
            drop_modalities(patch.present, probability=self.settings.modality_dropout, generator=self.random)
            for patch in patches
        ]
        regions = [self.network.decomposition.regions_of(patch.label) for patch in patches]
        image, here, masks = (
            torch.from_numpy(np.stack(parts)).to(self.device)
            for parts in ([patch.image for patch in patches], present, regions)
        )
        return image, here, masks


def learning_rate_factor(step: int, steps: int, *, warm_up: float = 0.05) -> float:
    """Share of the peak learning rate: a line up over the first `warm_up`, then a cosine to 0."""
    ramp = max(1.0, warm_up * steps)
    if step < ramp:
        return (step + 1) / (ramp + 1)
    return 0.5 * (1.0 + math.cos(math.pi * (step - ramp) / max(1.0, steps - ramp)))


def _report(
    epoch: int, losses: Sequence[Loss], run: _Run, validation: Sequence[TrainingCase], start: float
) -> EpochReport:
    epochs = run.settings.epochs
    due = bool(validation) and (epoch % run.settings.validate_every == 0 or epoch == epochs)
    by_region = validate(run.network, validation, device=run.device) if due else {}
    levels = sorted({level for loss in losses for level in loss.kl_by_level})
    return EpochReport(
        epoch,
        epochs,
        loss=float(torch.stack([loss.total for loss in losses]).mean()),
        kl_by_level={
            level: float(
                np.mean([float(loss.kl_by_level[level]) for loss in losses if level in loss.kl_by_level])
            )
            for level in levels
        },
        dice_by_region=by_region,
        dice=float(np.mean(list(by_region.values()))) if due else None,
        seconds_left=(time.monotonic() - start) / epoch * (epochs - epoch),
    )


def _check(network: CimlNetwork, cases: Sequence[TrainingCase], settings: TrainingSettings) -> None:
    if network.settings.spatial_dims != 3:
        raise ValueError("training needs a 3-D network; got a 2-D one.")
    if any(size % step for size, step in zip(settings.roi_size, network.settings.divisor, strict=True)):
        raise ValueError(
            f"roi_size must be multiples of {network.settings.divisor}; got {settings.roi_size}."
        )
    highest = len(network.decomposition.labels)
    for case in cases:
        if case.prepared.modalities != network.modalities:
            raise ValueError(
                f"case {case.prepared.id} must have the channels {', '.join(network.modalities)}; got "
                f"{', '.join(case.prepared.modalities)}. Prepare it for this network."
            )
        if case.label.max(initial=0) > highest:
            raise ValueError(
                f"labels of {case.prepared.id} must be 0..{highest}; got {int(case.label.max())}. "
                "Give the pool's label names, or correct the label."
            )
