"""Tracking of a training's figures: in TensorBoard, and in MLflow where it is set up."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from lib.ciml.training.train import EpochReport
from lib.pipeline.secrets import masked
from lib.runtime.errors import UserError

logger = logging.getLogger(__name__)
EXPERIMENT = "mdal-ciml"
MLFLOW = "MLFLOW_TRACKING_URI"  # names MLflow's server or database, in the environment

Tracker = Callable[[EpochReport], None]
_Write = Callable[[int, dict[str, float]], None]


@contextmanager
def tracker(folder: Path, *, run: str, parameters: Mapping[str, Any]) -> Iterator[Tracker]:
    """Record each epoch of a training: always as TensorBoard events, and in MLflow where it is set up.

    Args:
        folder: Folder of the TensorBoard events.
        run: Name of the training run.
        parameters: Settings of the training.

    Raises:
        UserError: If MLFLOW_TRACKING_URI is set but MLflow is not installed or does not answer.
    """
    with ExitStack() as open_until_done:
        writers = [open_until_done.enter_context(_tensorboard(folder / run))]
        if address := os.environ.get(MLFLOW):
            writers.append(open_until_done.enter_context(_mlflow(address, run, parameters)))

        def record(report: EpochReport) -> None:
            for write in writers:
                write(report.epoch, figures(report))

        yield record


def figures(report: EpochReport) -> dict[str, float]:
    """Figures of an epoch by name, without those that were not measured."""
    found: dict[str, float | None] = {"train/loss": report.loss, "validation/dice": report.dice}
    found |= {f"train/kl_nats/level_{level}": kl for level, kl in report.kl_by_level.items()}
    found |= {f"validation/dice/{name}": dice for name, dice in report.dice_by_region.items()}
    distances = report.surface_distance_by_region.items()
    found |= {f"validation/surface_distance_mm/{name}": distance for name, distance in distances}
    return {name: value for name, value in found.items() if value is not None}


@contextmanager
def _tensorboard(folder: Path) -> Iterator[_Write]:
    from torch.utils.tensorboard import SummaryWriter  # takes a second to import

    with SummaryWriter(str(folder)) as events:

        def write(epoch: int, values: dict[str, float]) -> None:
            for name, value in values.items():
                events.add_scalar(name, value, epoch)
            events.flush()

        yield write


@contextmanager
def _mlflow(uri: str, run: str, parameters: Mapping[str, Any]) -> Iterator[_Write]:
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")  # no data leaves a hospital without consent
    try:
        from mlflow import MlflowClient
        from mlflow.entities import Metric, Param
        from mlflow.exceptions import MlflowException
    except ImportError as err:
        raise UserError(
            f"{MLFLOW} is set and needs MLflow; it is not installed. Run `pip install mlflow`, or unset it."
        ) from err
    try:
        client = MlflowClient(uri)
        experiment = client.get_experiment_by_name(EXPERIMENT)
        number = experiment.experiment_id if experiment else client.create_experiment(EXPERIMENT)
        id = client.create_run(number, run_name=run).info.run_id
        client.log_batch(id, params=[Param(name, str(value)) for name, value in parameters.items()])
    except MlflowException as err:
        sentence = (
            f"{MLFLOW} must name an MLflow server or database that answers; {uri!r} does not: {err}. "
            "Correct it or unset it."
        )
        raise UserError(masked(sentence)) from err

    def write(epoch: int, values: dict[str, float]) -> None:
        try:
            client.log_batch(id, metrics=[Metric(name, value, 0, epoch) for name, value in values.items()])
        except MlflowException as err:  # no reason to end a training of hours
            logger.warning("epoch %d was not recorded in MLflow: %s", epoch, masked(str(err)))

    state = "KILLED"
    try:
        yield write
        state = "FINISHED"
    finally:
        try:
            client.set_terminated(id, state)
        except MlflowException as err:
            logger.warning("the end of the training was not recorded in MLflow: %s", masked(str(err)))
