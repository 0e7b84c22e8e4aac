"""One run: train on the chosen cases and outline the test patients."""

from __future__ import annotations

import json
import platform
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.ciml.methods import build
from benchmarks.common.outlines import Scores, judge
from benchmarks.label_efficiency.evidence.cells import Training
from benchmarks.label_efficiency.evidence.pool import LabelledPool
from benchmarks.label_efficiency.evidence.protocol import Protocol
from benchmarks.label_efficiency.evidence.rows import Row
from lib.ciml.decomposition.table import decomposition_for
from lib.ciml.inference.predict import predict
from lib.ciml.training.train import train

MEASURES = ("dice", "surface_distance", "hausdorff95")


@dataclass(frozen=True)
class Study:
    """Settings that all runs share.

    Attributes:
        pool: Folder of the cases.
        protocol: Protocol of the comparison.
        work: Folder for prepared cases.
        digests: For each split, hash of everything that a result depends on apart from the chosen cases and
            the seed.
        revision: Revision of the code.
        device: Device on which networks are trained and used.
    """

    pool: Path
    protocol: Protocol
    work: Path
    digests: tuple[str, ...]
    revision: str
    device: str = "cpu"

    def key(self, training: Training) -> tuple[str, str, str]:
        """Key of a training in the rows."""
        return self.digests[training.split], training.subset, str(training.seed)


@dataclass(frozen=True, eq=False)
class Finished:
    """The rows of a run.

    Attributes:
        run: Row of the run.
        patients: One row per test patient.
    """

    run: Row
    patients: list[Row]


def carry_out(study: Study, training: Training) -> Finished:
    """Train and test; the test patients are opened after the end of training.

    If one of the two outlines of a patient is empty, Dice is 0 and the distances are the diagonal of the
    volume.
    """
    torch.set_num_threads(1)
    start = time.monotonic()
    pool = LabelledPool(study.pool, study.protocol, study.work, training.split)
    network, loss = trained(pool, training.cases, seed=training.seed, device=study.device)
    scores, empty = judged(network, pool, pool.tested, device=study.device)
    digest, subset, seed = study.key(training)
    identity = {"digest": digest, "subset": subset, "seed": seed}
    means = {
        name: round(float(np.mean([each[name] for each in scores.values()])), 5)
        for name in ("dice", "surface_distance")
    }
    software = {name: version(name) for name in ("torch", "monai", "numpy")}
    run = {
        **identity,
        "cases": len(training.cases),
        **means,
        "empty": empty,
        "loss": round(loss, 4),
        "seconds": round(time.monotonic() - start, 1),
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
        "revision": study.revision,
        "software": json.dumps({"python": platform.python_version(), **software, "device": study.device}),
        "segmenter": study.protocol.segmenter.model_dump_json(),
    }
    patients = [
        {**identity, "patient": id, **{name: round(each[name], 5) for name in MEASURES}}
        for id, each in scores.items()
    ]
    return Finished(run, patients)


def trained(pool: LabelledPool, ids: tuple[str, ...], *, seed: int, device: str = "cpu") -> tuple[Any, float]:
    """A network trained on these cases, and the loss of its last epoch."""
    segmenter = pool.protocol.segmenter
    modalities = pool.workspace.pool.modalities
    lesion = decomposition_for(modalities, labels=("lesion",))
    network = build(segmenter.method, lesion, modalities, segmenter.network, seed=seed)
    result = train(network, pool.load(ids), [], segmenter.schedule, seed=seed, device=device)
    return network, result.reports[-1].loss


def judged(
    network: Any, pool: LabelledPool, ids: tuple[str, ...], *, device: str = "cpu"
) -> tuple[dict[str, Scores], int]:
    """Scores of each of these cases by id, and the number of empty outlines."""
    scores, empty = {}, 0
    for id in ids:
        (case,) = pool.load([id])
        probabilities = predict(network, case.prepared, device=device, precision="float32")
        scores[id] = judge(probabilities, case, network.decomposition)
        empty += not (probabilities >= 0.5).any()
    return scores, empty
