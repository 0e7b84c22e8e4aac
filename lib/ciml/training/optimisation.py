"""Optimisation steps of a training: each step draws patches and updates the weights."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import Any

import numpy as np
import torch
from monai.optimizers.lr_scheduler import WarmupCosineSchedule
from torch import Tensor, distributed, nn
from torch.nn.parallel import DistributedDataParallel

from lib.ciml.network.ciml_network import CimlNetwork
from lib.ciml.network.precision import autocast
from lib.ciml.training.loss import Loss, beta_at, objective
from lib.ciml.training.patches import (
    PatchSampler,
    TrainingCase,
    augment_patch,
    drop_modalities,
    targets_of,
)
from lib.ciml.training.settings import TrainingSettings

Batch = tuple[Tensor, Tensor, Tensor]


_WARM_UP = 0.05  # share of the steps over which the learning rate rises


class TrainingError(ValueError):
    """Training cannot continue; the message says why and what to do."""


def warm_up_then_cosine(optimiser: torch.optim.Optimizer, steps: int) -> WarmupCosineSchedule:
    """Learning rate that rises linearly over the first 5 % of the steps, then falls as a cosine to 0."""
    rise = max(1, round(_WARM_UP * steps))
    return WarmupCosineSchedule(optimiser, rise, steps, warmup_multiplier=1 / (rise + 1))


class Optimisation:
    """Optimiser, schedule, patches and random draws of one training.

    Every epoch has its own generators, seeded by (seed, rank, epoch). A resumed training therefore draws the
    same patches as an uninterrupted one.
    """

    def __init__(
        self,
        network: CimlNetwork,
        cases: Sequence[TrainingCase],
        settings: TrainingSettings,
        *,
        seed: int,
        device: torch.device,
        together: bool = False,
    ) -> None:
        """Prepare the first step; the network must already be on `device`.

        With `together`, the ranks of torchrun average their gradients. The modalities that a patch lacks
        leave weights without a gradient, and other weights in each rank and step.
        """
        self.network, self.settings = network, settings
        self.seed, self.device = seed, device
        self.rank = distributed.get_rank() if together else 0
        if together:  # a 1 x 1 x 1 convolution has no layout of its own, which torch takes for a mismatch
            warnings.filterwarnings("ignore", "Grad strides do not match bucket view strides")
        self.forward: nn.Module = (
            DistributedDataParallel(network, find_unused_parameters=True) if together else network
        )
        self.optimiser = torch.optim.AdamW(
            network.parameters(), lr=settings.learning_rate, weight_decay=settings.weight_decay, fused=True
        )
        self.scaler = torch.amp.GradScaler(device.type, enabled=settings.precision == "float16")
        self.sampler = PatchSampler(
            cases,
            roi_size=settings.roi_size,
            foreground_share=settings.foreground_share,
            generator=np.random.default_rng(seed),
        )
        self.schedule = warm_up_then_cosine(self.optimiser, settings.steps)
        self.noise = torch.Generator(device)

    def epoch(self, number: int, stop: Callable[[], bool]) -> list[Loss] | None:
        """Losses of the steps of epoch `number`, counted from 1; None if the epoch was stopped."""
        random = np.random.default_rng([self.seed, self.rank, number])
        self.noise.manual_seed(int(random.integers(2**63)))
        self.network.train()
        losses = []
        with closing(self._batches(random)) as batches:
            for _ in range(self.settings.steps_per_epoch):
                if stop():
                    return None
                losses.append(self.step(next(batches)))
        return losses

    def step(self, batch: Batch) -> Loss:
        """Update the weights by the gradient of a batch and return its loss.

        Raises:
            TrainingError: If the loss or a gradient is not finite.
        """
        settings, done = self.settings, self.schedule.last_epoch
        beta = beta_at(done, steps=settings.steps, beta=settings.beta, warm_up=settings.beta_warm_up)
        self.optimiser.zero_grad(set_to_none=True)
        image, present, regions = batch
        with autocast(self.device, settings.precision):
            output = self.forward(image.to(self.device), present, generator=self.noise)
        loss = objective(output, regions.to(self.device), decomposition=self.network.decomposition, beta=beta)
        self.scaler.scale(loss.total).backward()
        self.scaler.unscale_(self.optimiser)
        norm = nn.utils.clip_grad_norm_(self.network.parameters(), settings.gradient_norm)
        if not self.scaler.is_enabled() and not torch.isfinite(loss.total + norm):
            raise TrainingError(
                f"loss and gradient must be finite; got {float(loss.total.detach())} and "
                f"{float(norm)} at step {done + 1} of {settings.steps}. Lower the learning "
                "rate, or check the cases for values that are not finite."
            )
        self.scaler.step(self.optimiser)  # skips a step that overflowed in float16
        self.scaler.update()
        self.schedule.step()
        return loss.detached()

    def state(self) -> dict[str, Any]:
        """State from which an identical training resumes."""
        return {
            "network": self.network.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "scaler": self.scaler.state_dict(),
            "schedule": self.schedule.state_dict(),
        }

    def go_on_from(self, state: dict[str, Any]) -> None:
        """Restore a saved `state`."""
        self.network.load_state_dict(state["network"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.scaler.load_state_dict(state["scaler"])
        self.schedule.load_state_dict(state["schedule"])

    def _batches(self, random: np.random.Generator) -> Generator[Batch]:
        """Batches of one epoch; the next batch is read during the computation of the current one."""
        count = self.settings.steps_per_epoch
        with ThreadPoolExecutor(1) as reader:
            coming = reader.submit(self._batch, random)
            for number in range(count):
                batch = coming.result()
                if number + 1 < count:
                    coming = reader.submit(self._batch, random)
                yield batch

    def _batch(self, random: np.random.Generator) -> Batch:
        """Images (B, M, D, H, W), present modalities (B, M) and `targets_of` (B, R, D, H, W)."""
        settings = self.settings
        patches = [
            augment_patch(self.sampler.draw(random), jitter=settings.jitter, generator=random)
            for _ in range(settings.batch_size)
        ]
        present = [
            drop_modalities(patch.present, probability=settings.modality_dropout, generator=random)
            for patch in patches
        ]
        regions = [targets_of(patch.label, self.network.decomposition) for patch in patches]
        image, here, masks = (
            torch.from_numpy(np.stack(parts))
            for parts in ([patch.image for patch in patches], present, regions)
        )
        return image, here, masks
