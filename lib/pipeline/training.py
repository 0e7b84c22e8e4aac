"""From labels to a model: train, compare with the published model, publish what is not worse."""

from __future__ import annotations

import hashlib
import json
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Any

import torch

from lib import VERSION
from lib.cases.modalities import has_units
from lib.ciml.checkpoint import load
from lib.ciml.network.ciml_network import CimlNetwork
from lib.ciml.network.precision import precision_for
from lib.ciml.network.settings import NetworkSettings
from lib.ciml.training.train import EpochReport, TrainingResult, TrainingSettings
from lib.ciml.training.validation import Validation, validate
from lib.pipeline.distributed_training import SharedTraining, run_shared
from lib.pipeline.tracking import tracker
from lib.pipeline.training_data import LabelledCases, labelled_cases
from lib.pipeline.training_stats import TrainingStats
from lib.pipeline.workspace import Workspace
from lib.runtime.devices import device_of
from lib.runtime.distributed import rank_count
from lib.runtime.progress import OnProgress
from lib.runtime.words import counted

logger = logging.getLogger(__name__)
_READ = 0.1  # share of the work done after the reading


@dataclass(frozen=True, eq=False)
class StartingPoint:
    """The network that a training starts from, and the published model that it is compared with.

    Attributes:
        network: Network to train.
        version: Version of the published model that the network continues; 0 for a new network.
        previous: Version that the result is compared with; 0 where no published model fits the pool.
        validation: Validation of the previous version on the current validation cases.
        patients: Number of patients that the previous version learned from.
        why: Sentence on why the network is new although there was a model; empty otherwise.
        chosen: Version that a person had chosen to answer; 0 where the newest answers.
    """

    network: CimlNetwork
    version: int = 0
    previous: int = 0
    validation: Validation | None = None
    patients: int = 0
    why: str = ""
    chosen: int = 0


def train_workspace(
    workspace: Workspace,
    *,
    epochs: int = 0,
    on_progress: OnProgress = lambda done, message: None,
    stop: Callable[[], bool] = lambda: False,
) -> dict[str, Any]:
    """Train on every served case with a final label; publish the result unless the published model is better.

    A training that was killed resumes after its last complete epoch when it is started again.

    Args:
        workspace: Workspace of the cases; its work folder holds the model, the statistics and the state.
        epochs: Number of epochs; 0 takes the workspace's setting.
        on_progress: Called with the share done and a message.
        stop: Called before each step; true stops the training, which can be resumed later.

    Returns:
        The statistics, as `TrainingStats` stores them.

    Raises:
        UserError: If too few patients have labels that can be read, or another process is training.
        TrainingError: If the training produced values that are not finite.
    """
    stats = TrainingStats(workspace.folders.work / "model")
    with stats.training():
        settings = training_settings(workspace, epochs=epochs)
        begun = {"state": "running", "epoch": 0, "total_epochs": settings.epochs}
        begun |= {"best_metric": stats.read().get("best_metric", 0.0)}

        def report_read(done: int, of: int) -> None:
            message = f"read {done} of {counted(of)}"
            stats.write({**begun, "message": message})
            on_progress(_READ * done / of, message)

        cases = labelled_cases(workspace, on_progress=report_read)
        chosen = workspace.models.chosen()
        start = replace(_starting_point(workspace, cases), chosen=chosen)
        state_file = workspace.folders.work / "training" / f"{_digest(workspace, cases, settings, start)}.pt"
        for other in state_file.parent.glob("*.pt"):  # states of trainings with other labels or settings
            if other != state_file:
                other.unlink()
        said = [*([start.why] if start.why else []), *cases.left_out]
        for sentence in cases.left_out:
            logger.warning(sentence)
        progress = _TrainingProgress(stats, settings.epochs, start, said, on_progress)
        training = SharedTraining(workspace, cases, start.network, settings, state_file=state_file, stop=stop)
        result = _tracked(training, start, progress)
        if result.stopped:
            stats.end_early()
        else:
            progress.end(result, _publish(workspace, cases, settings, start, result))
            state_file.unlink(missing_ok=True)
        return stats.read()


def _tracked(training: SharedTraining, start: StartingPoint, progress: _TrainingProgress) -> TrainingResult:
    """Run a training; each epoch goes to the statistics and to the trackers."""
    conf, folder = training.workspace.settings, training.workspace.folders.work / "model" / "events"
    run = f"from-{start.version}-{training.state_file.stem[:8]}"
    parameters = {"seed": conf.seed, "size": conf.network, **asdict(training.settings)}
    with tracker(folder, run=run, parameters=parameters) as track:
        training.listeners += [track, progress]
        return run_shared(training, device_of(conf.device))


def training_settings(workspace: Workspace, *, epochs: int = 0) -> TrainingSettings:
    """Training settings of a workspace; `epochs` 0 takes the workspace's setting."""
    usual, device, size = workspace.settings, device_of(workspace.settings.device), network_size(workspace)
    asked = {"epochs": epochs or usual.train_epochs} if epochs or usual.train_epochs else {}
    return TrainingSettings.of_size(size, precision=precision_for(device), **asked)


def network_size(workspace: Workspace) -> str:
    """Size of the network that a workspace trains."""
    if workspace.settings.network != "auto":
        return workspace.settings.network
    return "base" if device_of(workspace.settings.device).type == "cuda" else "tiny"


class _TrainingProgress:
    """Writes the statistics while a training runs and when it ends."""

    def __init__(
        self,
        stats: TrainingStats,
        epochs: int,
        start: StartingPoint,
        said: Sequence[str],
        on_progress: OnProgress,
    ) -> None:
        self._stats, self._said, self._on_progress = stats, said, on_progress
        self._begun = time.monotonic()
        before = start.validation.dice if start.validation else 0.0
        self._last: dict[str, Any] = {
            "state": "running", "epoch": 0, "total_epochs": epochs, "best_metric": before,
            "train": {}, "eval": {"best_metric": before}, "warnings": list(said),
        }  # fmt: skip
        self._write({})

    def __call__(self, report: EpochReport) -> None:
        best, shown = max(self._last["best_metric"], report.dice or 0.0), self._last["eval"]
        if report.dice is not None:
            shown = _figures(report.dice, report.dice_by_region, report.surface_distance_by_region)
        warnings = [*self._said, *report.warnings]
        self._write(
            {
                "epoch": report.epoch,
                "best_metric": best,
                "train": {"loss": report.loss, "kl_by_level": report.kl_by_level},
                "eval": {**shown, "best_metric": best},
                "seconds_left": round(report.seconds_left, 1),
                "warnings": warnings,
            }
        )
        dice = "" if report.dice is None else f", validation Dice {report.dice:.3f}"
        self._on_progress(
            _READ + (1.0 - _READ) * report.epoch / report.epochs,
            f"epoch {report.epoch} of {report.epochs}: loss {report.loss:.3f}{dice}, "
            f"{report.seconds_left:.0f} s left",
        )

    def end(self, result: TrainingResult, outcome: dict[str, Any]) -> None:
        """Record the result."""
        passed = {"total_time": round(time.monotonic() - self._begun, 1) or 0.1, "seconds_left": 0.0}
        best = max(self._last["best_metric"], result.dice or 0.0)
        shown = {**self._last["eval"], "best_metric": best, "best_metric_epoch": result.best_epoch}
        if result.validation:
            found = result.validation
            shown |= _figures(found.dice, found.dice_by_region, found.surface_distance_by_region)
        epochs = {"epoch": self._last["total_epochs"], "best_metric": best, "eval": shown}
        self._write({"state": "done", **passed, **epochs, **outcome})

    def _write(self, news: dict[str, Any]) -> None:
        self._last |= {**news, "current_time": round(time.monotonic() - self._begun, 1)}
        self._stats.write(self._last)


def _starting_point(workspace: Workspace, cases: LabelledCases) -> StartingPoint:
    """The published network if it fits this pool, otherwise a new one."""
    modalities, decomposition = workspace.preparation.modalities, workspace.decomposition
    device, size = device_of(workspace.settings.device), workspace.settings.network
    file = workspace.models.current()
    with torch.random.fork_rng():
        torch.manual_seed(workspace.settings.seed)
        new = CimlNetwork(decomposition, modalities, NetworkSettings.of_size(network_size(workspace)))
    if file is None:
        return StartingPoint(new)
    try:
        network, about = load(file, device)
    except ValueError as err:
        return StartingPoint(new, why=f"Training started from scratch: {err}")
    if network.modalities != modalities or network.decomposition != decomposition:
        return StartingPoint(
            new, why="Training started from scratch: the published model is for other modalities or labels."
        )
    known = {case.id: case.patient for case in workspace.pool.cases}
    learned = {known.get(id, id) for id in about.get("trained_on", [])}
    number = int(about.get("version", 1))
    found = validate(network, cases.read(workspace, cases.check), device=device)
    if leaked := sorted(learned & {case.patient for case in cases.check}):
        why = (
            f"Training started from scratch: the published model learned from {', '.join(leaked)}, "
            "now on the validation side."
        )
        return StartingPoint(new, 0, number, found, len(learned), why)
    if why := _outgrown(network, new, size):
        why = f"Training started from scratch: the published model {why}."
        return StartingPoint(new, 0, number, found, len(learned), why)
    return StartingPoint(network, number, number, found, len(learned))


def _outgrown(network: CimlNetwork, new: CimlNetwork, size: str) -> str:
    """Why a published network is not trained further although it fits the pool; empty if it is."""
    now = network.settings
    if size != "auto" and replace(now, absolute_values=new.settings.absolute_values) != new.settings:
        return f"is not of the size {size}"
    if not now.absolute_values and (blind := list(filter(has_units, network.modalities))):
        return f"was made before CIML could see the values of {' and '.join(blind)} themselves"
    return ""


def _publish(
    workspace: Workspace,
    cases: LabelledCases,
    settings: TrainingSettings,
    start: StartingPoint,
    result: TrainingResult,
) -> dict[str, Any]:
    """Publish the result if it is not worse; the outcome, as the statistics hold it."""
    learned = {case.patient for case in cases.learn}
    published, why = _judge(start, result, more=len(learned) > start.patients)
    outcome: dict[str, Any] = {
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "training_cases": len(cases.learn),
        "validation_cases": len(cases.check),
        "trained_on": [case.id for case in cases.learn],
        "validated_on": [case.id for case in cases.check],
        "dice": result.dice,
        "dice_by_region": result.validation.dice_by_region if result.validation else {},
        "surface_distance_by_region": (
            result.validation.surface_distance_by_region if result.validation else {}
        ),
        "dice_by_case": result.validation.dice_by_case if result.validation else {},
        "previous_version": start.previous or None,
        "previous_dice": start.validation.dice if start.validation else None,
        "went_on_from": start.version or None,
        "seed": workspace.settings.seed,
    }
    number = start.previous
    if published:
        provenance = {
            "settings": asdict(settings),
            "software": {
                "mdal-ciml": VERSION,
                **{name: version(name) for name in ("torch", "monai", "monailabel")},
            },
        }
        number = workspace.models.publish(start.network, {**outcome, **provenance}, after=start.chosen)
        if kept := workspace.models.chosen():
            why += f" Version {kept} still answers: it was chosen after this training began."
    logger.info("model %s: %s", f"version {number} published" if published else "not published", why)
    return {**outcome, "published": published, "version": number, "message": why}


def _judge(start: StartingPoint, result: TrainingResult, *, more: bool) -> tuple[bool, str]:
    """Decide whether to publish the result, and why.

    At equal Dice the result is published if it learned from more patients. Otherwise the published model
    stays, and the segmentations made with it stay valid.
    """
    if result.dice is None:
        return False, "There was no validation. Label more patients."
    if start.validation is None:
        return True, start.why or "It is the first model."
    after, before = result.dice, start.validation.dice
    compared = f"validation Dice {after:.3f}; version {start.previous} has {before:.3f} on the same cases."
    if after > before or (after == before and more):
        return True, f"Not worse: {compared}"
    return False, (
        f"Not better: {compared} Label more cases, train longer or use another seed (--conf train_epochs, "
        "seed); the same training gives the same result."
    )


def _figures(dice: float, by_region: dict[str, float], distances: dict[str, float | None]) -> dict[str, Any]:
    return {"dice": dice, "dice_by_region": by_region, "surface_distance_by_region": distances}


def _digest(
    workspace: Workspace, cases: LabelledCases, settings: TrainingSettings, start: StartingPoint
) -> str:
    """Hash that names a training: trainings with the same hash give the same weights."""
    parts = [cases.digest, asdict(settings), start.version, workspace.settings.seed, torch.__version__]
    parts += [rank_count()]
    parts += [start.network.settings.to_dict(), start.network.decomposition.to_dict()]
    return hashlib.blake2b(json.dumps(parts).encode(), digest_size=16).hexdigest()
