"""Settings of the training of a network."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from lib.ciml.network.precision import Precision

# Changes of the defaults for each size of the network. The values for `base` and `large`, which need a GPU,
# follow common practice and were not measured here.
_OF_SIZE: dict[str, dict[str, Any]] = {
    "tiny": {},
    "base": {"epochs": 60, "steps_per_epoch": 50, "roi_size": (64, 128, 128), "learning_rate": 1e-3},
    "large": {"epochs": 100, "steps_per_epoch": 50, "roi_size": (96, 128, 128), "learning_rate": 1e-3},
}


@dataclass(frozen=True)
class TrainingSettings:
    """Settings of a training; the defaults train `tiny` in about a minute on one CPU core.

    Attributes:
        epochs: Number of epochs, over which the learning rate falls to zero.
        steps_per_epoch: Optimiser steps in an epoch.
        batch_size: Patches in a forward pass.
        roi_size: Patch size (D, H, W) in voxels, multiples of the network's divisor.
        learning_rate: Peak learning rate of AdamW.
        weight_decay: Weight decay of AdamW.
        gradient_norm: Largest norm of the gradient; a larger gradient is clipped.
        precision: Number format of the forward pass; the loss is always computed in float32.
        foreground_share: Probability that a patch is centred near a labelled voxel.
        jitter: Deviation of the random scale and shift of intensities, in units of the prepared array.
        modality_dropout: Probability that a patch lacks a modality it has; one always stays.
        beta: Weight of the KL of the messages per nat, see `lib.ciml.training.loss`.
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
    precision: Precision = "float32"
    foreground_share: float = 0.5
    jitter: float = 0.1
    modality_dropout: float = 0.15
    beta: float = 0.3
    beta_warm_up: float = 0.2
    validate_every: int = 5

    def __post_init__(self) -> None:
        """Refuse settings that cannot train."""
        for name in ("epochs", "steps_per_epoch", "batch_size", "validate_every"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1; got {getattr(self, name)}.")
        for name in ("foreground_share", "modality_dropout", "beta_warm_up"):
            if not 0.0 <= getattr(self, name) <= 1.0:
                raise ValueError(f"{name} must be between 0 and 1; got {getattr(self, name)}.")

    @classmethod
    def of_size(cls, size: str, **changes: Any) -> TrainingSettings:
        """Defaults for a size of the network, with some settings changed."""
        return cls(**{**_OF_SIZE[size], **changes})

    @property
    def steps(self) -> int:
        """Total number of optimiser steps."""
        return self.epochs * self.steps_per_epoch
