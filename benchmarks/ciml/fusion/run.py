"""One run of the comparison: a training, and every outline that the trained network is judged by."""

from __future__ import annotations

import json
import os
import platform
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.ciml.fusion.protocol import Protocol, Trial
from benchmarks.ciml.fusion.rows import OUTLINES, RUNS, TRIALS, Outlined
from benchmarks.ciml.methods import build, multiply_accumulates, parameters
from benchmarks.common.divided_pool import DividedPool, by_hash
from benchmarks.common.growing_rows import Row
from benchmarks.common.outlines import dice_by_region
from benchmarks.common.protocols import digest_of
from benchmarks.common.revision import git_revision
from lib.ciml.decomposition.table import Decomposition
from lib.ciml.inference.predict import predict
from lib.ciml.training.patches import TrainingCase
from lib.ciml.training.train import train
from lib.ciml.training.validation import surface_distance_of
from lib.runtime.files import replacing


@dataclass(frozen=True)
class Study:
    """Settings that all runs share.

    Attributes:
        pool: Folder of the cases.
        protocol: Protocol of the comparison.
        work: Folder for prepared cases.
        revision: Revision of the code.
        device: Device on which networks are trained and used.
        keep: Folder for trained networks; None keeps none.
    """

    pool: Path
    protocol: Protocol
    work: Path
    revision: str
    device: str = "cpu"
    keep: Path | None = None

    def open(self, seed: int) -> DividedPool:
        """The pool in the division of a seed."""
        return DividedPool(self.pool, self.protocol, self.work, self.protocol.split_of(seed))

    def digest(self, opened: DividedPool, method: str, trial: Trial) -> str:
        """Hash of everything that a result depends on apart from the method, the labels and the seed."""
        return digest_of(
            [
                asdict(self.protocol.schedule(method, trial)),
                asdict(self.protocol.network),
                opened.workspace.decomposition.to_dict(),
                sorted(opened.contents.items()),
                opened.tested,
            ]
        )


@dataclass(frozen=True)
class Run:
    """A training and its test."""

    method: str
    labels: int
    seed: int


@dataclass(frozen=True, eq=False)
class Finished:
    """Rows of a run, by file; the file that says what is finished comes last."""

    rows: dict[str, list[Row]]
    said: str


def study_of(
    pool: Path, protocol: Path, *, work: Path, device: str = "cpu", keep: Path | None = None
) -> Study:
    """The study of a pool by a protocol; processes that start later compute on one thread."""
    os.environ["OMP_NUM_THREADS"] = "1"
    return Study(
        pool.resolve(),
        Protocol.read(protocol),
        work.resolve(),
        git_revision(),
        device,
        keep.resolve() if keep else None,
    )


def ciml_of(study: Study, seed: int) -> tuple[Any, DividedPool]:
    """CIML trained on the largest number of labels, or as it was kept, and the pool in its division."""
    torch.set_num_threads(1)
    opened, run = study.open(seed), Run("ciml", max(study.protocol.labels), seed)
    network, _ = trained(study, opened, run, trial_of(study.protocol, run.method))
    return network, opened


def runs_of(protocol: Protocol) -> list[Run]:
    """All runs, by seed and then by labels, methods interleaved, so that an interruption is fair to each."""
    return [
        Run(method, labels, seed)
        for seed in range(protocol.seeds)
        for labels in sorted(protocol.labels, key=lambda labels: labels != protocol.primary_labels)
        for method in protocol.methods
    ]


def labelled(candidates: Sequence[str], number: int, seed: int) -> list[str]:
    """Candidates that are labelled: the first of a random order, the same for every method."""
    order = np.random.default_rng(seed).permutation(sorted(candidates))
    return [str(id) for id in order[:number]]


def choices(modalities: Sequence[str]) -> Iterator[tuple[str, ...]]:
    """Every choice of at least one modality: all of them, then all but one, and so on."""
    for size in range(len(modalities), 0, -1):
        yield from combinations(modalities, size)


def carry_out(study: Study, run: Run) -> Finished:
    """Train a network and outline the test patients, who are opened after the end of training."""
    torch.set_num_threads(1)
    protocol, start, opened = study.protocol, time.monotonic(), study.open(run.seed)
    trial = trial_of(protocol, run.method)
    identity: Row = {"digest": study.digest(opened, run.method, trial), **asdict(run)}
    network, told = trained(study, opened, run, trial)
    every = protocol.every_choice if run.labels == protocol.primary_labels else 0
    first = set(by_hash(opened.tested)[:every])
    cases, few = opened.load(opened.tested), len(network.modalities) - 1
    found = [
        _outlines(network, run, opened.workspace.decomposition, asked, choice, study.device)
        for choice in choices(network.modalities)
        if (asked := [case for case in cases if len(choice) >= few or case.prepared.id in first])
    ]
    about = {
        **identity,
        **trial.model_dump(),
        **told,
        "candidates": len(opened.candidates),
        "parameters": parameters(network),
        "gmac": round(multiply_accumulates(network, protocol.roi_size) / 1e9, 3),
        "seconds": round(time.monotonic() - start, 1),
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
        "revision": study.revision,
        "software": json.dumps(
            {"python": platform.python_version(), **{name: version(name) for name in ("torch", "monai")}}
        ),
    }
    dice = np.mean([np.mean(scores) for scores in found[0].dice.values()])
    said = f"{run.method}, {run.labels} labels, seed {run.seed}: Dice {dice:.3f}, {about['seconds']:.0f} s"
    return Finished({OUTLINES: [each.row(identity) for each in found], RUNS: [about]}, said)


def try_out(study: Study, method: str, trial: Trial) -> Finished:
    """Train with a learning rate and a number of steps, and outline candidates that were not trained on."""
    torch.set_num_threads(1)
    tuning, start, opened = study.protocol.tuning, time.monotonic(), study.open(0)
    asked = by_hash(opened.candidates)[: tuning.ask]
    learn = labelled([id for id in opened.candidates if id not in asked], tuning.labels, seed=0)
    network = _network(study, opened, method, seed=0)
    train(
        network, opened.load(learn), [], study.protocol.schedule(method, trial), seed=0, device=study.device
    )
    cases, decomposition = opened.load(asked), opened.workspace.decomposition
    complete, *others = (
        choice for choice in choices(network.modalities) if len(choice) >= len(network.modalities) - 1
    )
    run = Run(method, tuning.labels, 0)
    means = [
        np.mean(list(_outlines(network, run, decomposition, cases, choice, study.device).dice.values()))
        for choice in (complete, *others)
    ]
    row = {
        "digest": study.digest(opened, method, trial),
        "method": method,
        **trial.model_dump(),
        "dice": round(float(means[0]), 4),
        "dice_without_one": round(float(np.mean(means[1:])), 4),
        "seconds": round(time.monotonic() - start, 1),
        "revision": study.revision,
    }
    said = f"{method}, {trial.steps} steps at {trial.learning_rate:g}: Dice {row['dice']:.3f}, without one "
    return Finished({TRIALS: [row]}, f"{said}{row['dice_without_one']:.3f}, {row['seconds']:.0f} s")


def trial_of(protocol: Protocol, method: str) -> Trial:
    """Learning rate and steps of a method.

    Raises:
        ValueError: If the protocol does not say them yet.
    """
    trial = protocol.methods[method]
    if trial is None:
        raise ValueError(
            f"the protocol must give {method} a learning rate and steps; it gives none. Run tune, and write "
            "the best of its trials into the protocol."
        )
    return trial


def trained(study: Study, opened: DividedPool, run: Run, trial: Trial) -> tuple[Any, Row]:
    """A network trained on the labelled candidates, or the one that was kept, and its cells of the row."""
    network = _network(study, opened, run.method, seed=run.seed)
    kept = None
    if study.keep:
        name = digest_of([study.digest(opened, run.method, trial), asdict(run)])
        kept = study.keep / f"{study.protocol.name}-{run.method}-{name}.pt"
        if kept.exists():
            content = torch.load(kept, weights_only=True)
            network.load_state_dict(content["weights"])
            return network.eval(), dict(content["told"])
    schedule, start = study.protocol.schedule(run.method, trial), time.monotonic()
    cases = opened.load(labelled(opened.candidates, run.labels, run.seed))
    result = train(network, cases, [], schedule, seed=run.seed, device=study.device)
    told = {
        "loss": round(result.reports[-1].loss, 4),
        "step_s": round((time.monotonic() - start) / schedule.steps, 4),
    }
    if kept:
        with replacing(kept) as part:
            torch.save({"weights": network.state_dict(), "told": told}, part)
    return network, told


def _network(study: Study, opened: DividedPool, method: str, *, seed: int) -> Any:
    workspace = opened.workspace
    return build(
        method, workspace.decomposition, workspace.preparation.modalities, study.protocol.network, seed=seed
    )


def _outlines(
    network: Any,
    run: Run,
    decomposition: Decomposition,
    cases: Sequence[TrainingCase],
    choice: tuple[str, ...],
    device: str,
) -> Outlined:
    """Scores of the outlines with a choice of modalities, in float32 on every machine."""
    present = np.array([name in choice for name in network.modalities])
    dice: dict[str, list[float]] = {}
    distance: dict[str, float] = {}
    for case in cases:
        probabilities = predict(network, case.prepared, present=present, device=device, precision="float32")
        scores = dice_by_region(probabilities, case, decomposition)
        dice[case.prepared.id] = [round(float(score), 4) for score in scores]
        if present.all():
            found = surface_distance_of(
                probabilities, case.label, decomposition=decomposition, spacing=case.prepared.grid.spacing
            )
            distance[case.prepared.id] = round(float(np.nanmean(found)), 2)
    return Outlined(run.method, run.labels, run.seed, choice, dice, distance)
