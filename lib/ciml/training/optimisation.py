"""Optimisation steps of a training: each step draws patches and updates the weights."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from lib.ciml.network.ciml_network import CimlNetwork
from lib.ciml.network.precision import autocast
from lib.ciml.training.loss import Loss, beta_at, objective
from lib.ciml.training.patches import PatchSampler, TrainingCase, augment, drop_modalities
from lib.ciml.training.settings import TrainingSettings

if TYPE_CHECKING:
    from lib.ciml.training.ranks import Ranks

Batch = tuple[Tensor, Tensor, Tensor]


class TrainingError(ValueError):
    """Training cannot continue; the message says why and what to do."""


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
        ranks: Ranks | None = None,
    ) -> None:
        """Prepare the first step; the network must already be on `device`."""
        self.network, self.settings = network, settings
        self.seed, self.device, self.ranks = seed, device, ranks
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
        self.done = 0
        self.noise = torch.Generator(device)

    def epoch(self, number: int, stop: Callable[[], bool]) -> list[Loss] | None:
        """Losses of the steps of epoch `number`, counted from 1; None if the epoch was stopped."""
        rank = self.ranks.rank if self.ranks else 0
        random = np.random.default_rng([self.seed, rank, number])
        self.noise.manual_seed(int(random.integers(2**63)))
        self.network.train()
        losses = []
        with closing(self._batches(random)) as batches:
            for _ in range(self.settings.steps_per_epoch):
                if stop():
                    return None
                losses.append(self.step([next(batches) for _ in range(self.settings.accumulate)]))
        return losses

    def step(self, batches: Sequence[Batch]) -> Loss:
        """Update the weights by the mean gradient of some batches and return the loss of the last batch.

        Raises:
            TrainingError: If the loss or a gradient is not finite.
        """
        settings = self.settings
        for group in self.optimiser.param_groups:
            group["lr"] = settings.learning_rate_at(self.done)
        beta = beta_at(self.done, steps=settings.steps, beta=settings.beta, warm_up=settings.beta_warm_up)
        self.optimiser.zero_grad(set_to_none=True)
        for image, present, regions in batches:
            with autocast(self.device, settings.precision):
                output = self.network(image.to(self.device), present, generator=self.noise)
            loss = objective(
                output, regions.to(self.device), decomposition=self.network.decomposition, beta=beta
            )
            self.scaler.scale(loss.total / len(batches)).backward()
        self.scaler.unscale_(self.optimiser)
        if self.ranks:
            self.ranks.average(self.network.parameters())
        norm = nn.utils.clip_grad_norm_(self.network.parameters(), settings.gradient_norm)
        if not self.scaler.is_enabled() and not torch.isfinite(loss.total + norm):
            raise TrainingError(
                f"loss and gradient must be finite; got {float(loss.total.detach())} and "
                f"{float(norm)} at step {self.done + 1} of {settings.steps}. Lower the learning "
                "rate, or check the cases for values that are not finite."
            )
        self.scaler.step(self.optimiser)  # skips a step that overflowed in float16
        self.scaler.update()
        self.done += 1
        return loss.detached()

    def state(self) -> dict[str, Any]:
        """State from which an identical training resumes."""
        return {
            "network": self.network.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "scaler": self.scaler.state_dict(),
            "done": self.done,
        }

    def go_on_from(self, state: dict[str, Any]) -> None:
        """Restore a saved `state`."""
        self.network.load_state_dict(state["network"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.scaler.load_state_dict(state["scaler"])
        self.done = state["done"]

    def _batches(self, random: np.random.Generator) -> Generator[Batch]:
        """Batches of one epoch; the next batch is read during the computation of the current one."""
        count = self.settings.steps_per_epoch * self.settings.accumulate
        with ThreadPoolExecutor(1) as reader:
            coming = reader.submit(self._batch, random)
            for number in range(count):
                batch = coming.result()
                if number + 1 < count:
                    coming = reader.submit(self._batch, random)
                yield batch

    def _batch(self, random: np.random.Generator) -> Batch:
        """Images (B, M, D, H, W), present modalities (B, M) and region masks (B, R, D, H, W)."""
        settings = self.settings
        patches = [
            augment(self.sampler.draw(random), jitter=settings.jitter, generator=random)
            for _ in range(settings.batch_size)
        ]
        present = [
            drop_modalities(patch.present, probability=settings.modality_dropout, generator=random)
            for patch in patches
        ]
        regions = [self.network.decomposition.regions_of(patch.label) for patch in patches]
        image, here, masks = (
            torch.from_numpy(np.stack(parts))
            for parts in ([patch.image for patch in patches], present, regions)
        )
        return image, here, masks
