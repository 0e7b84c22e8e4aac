"""Training on labelled cases, with a report after each epoch and the best weights at the end."""

from __future__ import annotations

import copy
import json
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lib.cases.formats.voxels import IGNORED
from lib.ciml.checkpoint import UNREADABLE_CHECKPOINT
from lib.ciml.network.ciml_network import CimlNetwork
from lib.ciml.network.tuning import keep_freed_memory, lay_out
from lib.ciml.training.loss import Loss
from lib.ciml.training.optimisation import Optimisation, TrainingError
from lib.ciml.training.patches import TrainingCase
from lib.ciml.training.reliability import reliability_of
from lib.ciml.training.settings import TrainingSettings
from lib.ciml.training.validation import Validation, validate
from lib.runtime.distributed import broadcast
from lib.runtime.files import replacing

__all__ = [
    "EpochReport",
    "TrainingError",
    "TrainingResult",
    "TrainingSettings",
    "train",
    "validate",
]

logger = logging.getLogger(__name__)
COLLAPSED = 1e-3  # nats per channel and voxel; messages below this carry no information
_STATE_VERSION = 2


@dataclass(frozen=True)
class EpochReport:
    """Report of the training after an epoch.

    Attributes:
        epoch: Number of the epoch, from 1.
        epochs: Total number of epochs.
        loss: Mean loss of the steps of the epoch.
        kl_by_level: Mean KL in nats per channel and voxel; near zero means that the messages are ignored.
        dice_by_region: Mean Dice over the validation cases; empty if this epoch did not validate.
        surface_distance_by_region: Mean surface distance in mm; None if no case has the region.
        dice: Mean Dice over the regions; None if this epoch did not validate.
        seconds_left: Estimated remaining time in seconds.
        warnings: Problems, in sentences.
    """

    epoch: int
    epochs: int
    loss: float
    kl_by_level: dict[int, float]
    dice_by_region: dict[str, float]
    surface_distance_by_region: dict[str, float | None]
    dice: float | None
    seconds_left: float
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class TrainingResult:
    """Result of a training; the network holds the weights of `best_epoch`.

    Attributes:
        best_epoch: Epoch with the highest validation Dice, or the last epoch without validation; 0 if the
            training was stopped before.
        validation: Validation at the best epoch; None without validation cases.
        reports: Report of each epoch.
        stopped: Whether `stop` ended the training early.
    """

    best_epoch: int = 0
    validation: Validation | None = None
    reports: list[EpochReport] = field(default_factory=list)
    stopped: bool = False

    @property
    def dice(self) -> float | None:
        """Mean validation Dice over the regions at the best epoch."""
        return self.validation.dice if self.validation else None


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
    state_file: Path | None = None,
    together: bool = False,
) -> TrainingResult:
    """Train a network in place and load its best weights at the end.

    Args:
        network: 3-D network, new or from an earlier round.
        cases: Training cases.
        validation: Validation cases that choose the weights; without any the last weights are kept.
        settings: Settings of the training.
        seed: Seed of patches, augmentation, dropout and the messages' noise.
        device: Device to train on.
        on_epoch: Called with the report of each epoch.
        stop: Called before each step; true ends the training with the best weights so far.
        state_file: File of the training state, written atomically after each epoch. A call with the same
            file, cases and settings resumes from it, with the same result as without interruption. The caller
            names the file after cases and settings, and removes it after saving the weights.
        together: Train with the other ranks of torchrun, each on its own patches; only the first rank is
            given `validation`, `on_epoch` and `state_file`.

    Raises:
        ValueError: If there is no case, or a case does not fit the network.
        TrainingError: If the loss or a gradient is not finite; the network must then not be used.
    """
    _check(network, [*cases, *validation], settings)
    if not cases:
        raise ValueError("training needs at least one labelled case; got none.")
    device = torch.device(device)
    network.to(device)
    lay_out(network)
    keep_freed_memory()
    run = Optimisation(network, cases, settings, seed=seed, device=device, together=together)
    progress = _Progress.recalled(state_file, run) if state_file else _Progress()
    if together:
        run.go_on_from(broadcast(run.state()))
        progress.result = broadcast(progress.result)
    start, before = time.monotonic(), len(progress.result.reports)
    for epoch in range(before + 1, settings.epochs + 1):
        losses = run.epoch(epoch, stop)
        if losses is None:
            progress.result = replace(progress.result, stopped=True)
            break
        found = validate(network, validation, device=device) if _due(epoch, validation, settings) else None
        seconds = (time.monotonic() - start) / (epoch - before) * (settings.epochs - epoch)
        report = _report(epoch, losses, found, settings, seconds_left=seconds)
        progress.take(report, found, network, chosen=bool(validation))
        if state_file:
            progress.keep(state_file, run)
        on_epoch(report)
    if progress.weights is not None:
        network.load_state_dict(progress.weights)
    network.eval()
    if progress.result.validation and not progress.result.stopped:
        progress.result = _weighed(network, validation, progress.result, device=device)
    return progress.result


def _weighed(
    network: CimlNetwork,
    cases: Sequence[TrainingCase],
    result: TrainingResult,
    *,
    device: torch.device,
) -> TrainingResult:
    """Weigh the subtasks by their reliability, unless the validation cases are then outlined worse."""
    weights = reliability_of(network, cases, device=device)
    if weights is None:
        return result
    before = network.reliability.clone()
    network.reliability.copy_(weights)
    found = validate(network, cases, device=device)
    if result.dice is None or found.dice >= result.dice:
        return replace(result, validation=found)
    network.reliability.copy_(before)
    return result


class _Progress:
    """Result so far, and the best weights."""

    def __init__(self, result: TrainingResult | None = None, weights: dict[str, Tensor] | None = None):
        self.result, self.weights = result or TrainingResult(), weights

    def take(
        self, report: EpochReport, found: Validation | None, network: CimlNetwork, *, chosen: bool
    ) -> None:
        """Record an epoch; `chosen` means that validation chooses the weights."""
        improved = found is not None and (self.result.dice is None or found.dice > self.result.dice)
        if improved:
            self.weights = copy.deepcopy(network.state_dict())
        if improved or not chosen:
            self.result = replace(self.result, best_epoch=report.epoch, validation=found)
        self.result = replace(self.result, reports=[*self.result.reports, report])

    def keep(self, path: Path, run: Optimisation) -> None:
        """Save the state from which an identical training resumes."""
        document = json.dumps({"version": _STATE_VERSION, **asdict(self.result)}, allow_nan=False)
        with replacing(path) as part:
            torch.save({"document": document, "weights": self.weights, "run": run.state()}, part)

    @classmethod
    def recalled(cls, path: Path, run: Optimisation) -> _Progress:
        """Load the state saved by `keep` and restore the run; start anew without a usable file."""
        try:
            kept = torch.load(path, map_location=run.device, weights_only=True)
            document = json.loads(kept["document"])
            if document.pop("version") != _STATE_VERSION:
                raise ValueError("it is of another version")
            result = _result_from(document)
            run.go_on_from(kept["run"])
        except FileNotFoundError:
            return cls()
        except UNREADABLE_CHECKPOINT as err:
            logger.warning("training starts anew: cannot resume from %s (%s)", path.name, err)
            return cls()
        logger.info("training goes on after epoch %d", len(result.reports))
        return cls(result, kept["weights"])


def _result_from(document: dict[str, Any]) -> TrainingResult:
    validation = document["validation"]
    reports = [
        EpochReport(
            **{
                **report,
                "kl_by_level": {int(level): kl for level, kl in report["kl_by_level"].items()},
                "warnings": tuple(report["warnings"]),
            }
        )
        for report in document["reports"]
    ]
    return TrainingResult(document["best_epoch"], Validation(**validation) if validation else None, reports)


def _due(epoch: int, validation: Sequence[TrainingCase], settings: TrainingSettings) -> bool:
    return bool(validation) and (epoch % settings.validate_every == 0 or epoch == settings.epochs)


def _report(
    epoch: int,
    losses: Sequence[Loss],
    found: Validation | None,
    settings: TrainingSettings,
    *,
    seconds_left: float,
) -> EpochReport:
    levels = sorted({level for loss in losses for level in loss.kl_by_level})
    kl_by_level = {
        level: float(
            np.mean([float(loss.kl_by_level[level]) for loss in losses if level in loss.kl_by_level])
        )
        for level in levels
    }
    warm = epoch > settings.beta_warm_up * settings.epochs
    return EpochReport(
        epoch,
        settings.epochs,
        loss=float(torch.stack([loss.total for loss in losses]).mean()),
        kl_by_level=kl_by_level,
        dice_by_region=found.dice_by_region if found else {},
        surface_distance_by_region=found.surface_distance_by_region if found else {},
        dice=found.dice if found else None,
        seconds_left=seconds_left,
        warnings=tuple(
            f"The messages of level {level} carry no information ({kl:.1g} nats per channel and voxel): the "
            f"modalities do not help each other at this level. A beta below {settings.beta:g} may help."
            for level, kl in kl_by_level.items()
            if warm and kl < COLLAPSED
        ),
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
        if (found := int(case.label[case.label != IGNORED].max(initial=0))) > highest:
            raise ValueError(
                f"labels of {case.prepared.id} must be 0..{highest}; got {found}. "
                "Give the pool's label names, or correct the label."
            )
