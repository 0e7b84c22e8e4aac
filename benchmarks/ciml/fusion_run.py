"""One run of the comparison with fusion: a training, and every measurement of the trained network."""

from __future__ import annotations

import hashlib
import json
import platform
import time
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from benchmarks.ciml.fusion_rows import CONTRIBUTION, MISSING, RUNS, Finished, Row
from benchmarks.ciml.methods import build, multiply_accumulates, parameters
from benchmarks.ciml.silencing import ALL, dice_of_subsets, silenced
from benchmarks.common.patients import Patients, judge, oracle_threshold, outline
from benchmarks.common.revision import git_revision
from lib.ciml.inference.explanation import MEASURES, explain
from lib.ciml.network.settings import NetworkSettings
from lib.ciml.training.patches import TrainingCase
from lib.ciml.training.train import EpochReport, TrainingSettings, train
from lib.runtime.files import replacing

WITH_SUBSETS = ("ciml", "segresnet", "dynunet")
SAID = tuple(measure for measure in MEASURES if measure != "grad_cam")  # it takes ten times as long
ORACLE = "oracle PET threshold"
NETWORK = NetworkSettings.of_size("tiny")
SCHEDULE = TrainingSettings(
    epochs=8,
    steps_per_epoch=50,
    batch_size=2,
    roi_size=(32, 64, 64),
    learning_rate=3e-3,
    weight_decay=1e-2,
    beta=0.3,
)


@dataclass(frozen=True)
class Comparison:
    """Settings that all runs share.

    Attributes:
        pool: Folder of patients.
        work: Folder for prepared cases; beside the patients when None.
        without: Ids of the patients that are left out.
        split: `test` or `inner`.
        schedule: Schedule of every training.
        network: Settings of CIML's network; the other networks are equally large.
        keep: Folder for trained networks and the states of unfinished trainings; None keeps neither.
        revision: Revision of the code.
    """

    pool: Path
    work: Path | None
    without: tuple[str, ...]
    split: str
    schedule: TrainingSettings
    network: NetworkSettings
    keep: Path | None
    revision: str

    @property
    def settings(self) -> str:
        """Everything that a result depends on apart from its method, setting and seed, as JSON."""
        values = {"training": asdict(self.schedule), "network": asdict(self.network), "without": self.without}
        return json.dumps(values, sort_keys=True)

    def patients(self) -> Patients:
        """Open the pool."""
        return Patients(self.pool, work=self.work, without=self.without)


def comparison_of(pool: Path, *, work: Path | None, keep: Path | None, without: str) -> Comparison:
    """The comparison's settings for another judgement of the same trainings, on the test patients."""
    return Comparison(
        pool.resolve(), work.resolve() if work else None, tuple(filter(None, without.split(","))), "test",
        SCHEDULE, NETWORK, keep.resolve() if keep else None, git_revision(),
    )  # fmt: skip


@dataclass(frozen=True)
class Run:
    """One training and its test."""

    setting: str
    method: str
    seed: int

    def key(self, comparison: Comparison) -> tuple[str, ...]:
        """Key of the run in `Rows.done`."""
        return comparison.split, self.setting, self.method, str(self.seed), comparison.settings

    def identity(self, comparison: Comparison) -> Row:
        """Cells that every row of the run starts with."""
        names = ("split", "setting", "method", "seed", "settings")
        return dict(zip(names, self.key(comparison), strict=True))


def runs_of(methods: tuple[str, ...], settings: tuple[str, ...], seeds: int) -> list[Run]:
    """All runs, ordered by seed, then by method, then by setting."""
    return [Run(setting, method, seed) for seed in range(seeds) for method in methods for setting in settings]


def carry_out(comparison: Comparison, run: Run) -> Finished:
    """Train a network and test it."""
    torch.set_num_threads(1)
    patients, start = comparison.patients(), time.monotonic()
    split, modalities = patients.split(comparison.split), patients.modalities(run.setting)
    network = build(run.method, modalities, comparison.network, seed=run.seed)
    told = trained(network, comparison, run, patients.load(split.learn, run.setting))
    asked = patients.load(split.ask, run.setting)
    scores = {
        case.prepared.id: judge(outline(network, case), case, network.decomposition)
        for case in asked
    }  # fmt: skip
    by_measure = {
        measure: {id: round(each[measure], 5) for id, each in scores.items()}
        for measure in ("dice", "surface_distance", "hausdorff95")
    }
    identity = run.identity(comparison)
    rows: dict[str, list[Row]] = {}
    if run.method in WITH_SUBSETS:
        found = {"+".join(modalities): by_measure["dice"], **dice_of_subsets(network, asked)}
        rows[MISSING] = [{**identity, "modalities": names, "dice": dice} for names, dice in found.items()]
    if run.method == "ciml":
        rows[CONTRIBUTION] = [
            {**identity, **row} for case in asked for row in contribution_rows(network, case)
        ]
    rows[RUNS] = [
        {
            **identity,
            **by_measure,
            **told,
            "steps": comparison.schedule.steps,
            "parameters": parameters(network),
            "gmac": round(multiply_accumulates(network, comparison.schedule.roi_size) / 1e9, 3),
            "seconds": round(time.monotonic() - start, 1),
            **provenance(comparison),
        }
    ]
    _forget_state(comparison, run)
    return Finished(rows)


def contribution_rows(network: Any, case: TrainingCase) -> list[Row]:
    """One row per message and one per sender: the measured contributions, and the loss of Dice without it.

    A sender's contribution is the sum over its messages.
    """
    measured = explain(network, case.prepared, measures=SAID).contributions
    rows = []
    for (sender, subtask), lost in silenced(network, case).items():
        values = {
            measure: sum(
                value
                for (name, task), value in by_link.items()
                if name == sender and (task == subtask or (subtask == ALL and _sends(network, name, task)))
            )
            for measure, by_link in measured.items()
        }
        rows.append(
            {
                "patient": case.prepared.id,
                "sender": sender,
                "subtask": subtask,
                **lost,
                "contributions": values,
            }
        )
    return rows


def provenance(comparison: Comparison) -> Row:
    """Time, revision of the code and versions of the libraries."""
    names = ("torch", "monai", "numpy")
    return {
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
        "revision": comparison.revision,
        "versions": {"python": platform.python_version(), **{name: version(name) for name in names}},
    }


def oracle_row(comparison: Comparison) -> Finished:
    """Row with the Dice of the best PET threshold of each patient."""
    patients = comparison.patients()
    cases = patients.load(patients.split(comparison.split).ask, "CT+PET+MR")
    scores = {case.prepared.id: round(oracle_threshold(case), 5) for case in cases}
    identity = Run("", ORACLE, 0).identity(comparison)
    return Finished({RUNS: [{**identity, "dice": scores, **provenance(comparison)}]})


def trained(network: Any, comparison: Comparison, run: Run, cases: list[TrainingCase]) -> Row:
    """Train in place, or load the weights that were kept; return the training's cells of the row."""
    kept = _kept_file(comparison, run, ".pt")
    if kept and kept.exists():
        content = torch.load(kept, weights_only=True)
        network.load_state_dict(content["weights"])
        network.eval()
        return dict(content["told"])
    beta = 0.0 if run.method == "ciml_beta0" else comparison.schedule.beta
    settings = replace(comparison.schedule, beta=beta)
    epochs: list[EpochReport] = []
    start = time.monotonic()
    result = train(
        network, cases, [], settings, seed=run.seed, on_epoch=epochs.append,
        state_file=_kept_file(comparison, run, ".state"),
    )  # fmt: skip
    taken = time.monotonic() - start
    told = {
        "loss": round(result.reports[-1].loss, 4),
        "step_s": round(taken / max(1, len(epochs) * settings.steps_per_epoch), 4),
    }
    if kept:
        with replacing(kept) as part:
            content = {"weights": network.state_dict(), "told": told, **run.identity(comparison)}
            torch.save(content, part)
    return told


def _forget_state(comparison: Comparison, run: Run) -> None:
    state = _kept_file(comparison, run, ".state")
    if state:
        state.unlink(missing_ok=True)


def _kept_file(comparison: Comparison, run: Run, suffix: str) -> Path | None:
    """File named after everything that the weights depend on; None if nothing is kept."""
    if comparison.keep is None:
        return None
    digest = hashlib.blake2b(json.dumps(run.key(comparison)).encode(), digest_size=6).hexdigest()
    return comparison.keep / f"{comparison.split}-{run.setting}-{run.method}-{run.seed}-{digest}{suffix}"


def _sends(network: Any, name: str, task: str) -> bool:
    """Whether a modality sends messages to a subtask rather than being its primary."""
    return any(task == each.name and name in each.auxiliary for each in network.decomposition.subtasks)
