"""Labelled patients of a pool: the split, the prepared cases, and the scores of an outline."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.metrics.hausdorff_distance import compute_hausdorff_distance
from numpy.typing import NDArray

from lib.cases.case import Case, Source
from lib.cases.formats.image import MAX_VOXELS, read_volume, resample
from lib.cases.modalities import default_reference, kind
from lib.cases.preprocessing import Preparation, VolumeCache
from lib.ciml.decomposition.table import Decomposition
from lib.ciml.inference.predict import predict
from lib.ciml.training.patches import TrainingCase
from lib.ciml.training.validation import dice_of, surface_distance_of
from lib.pipeline.disk import disk_bytes
from lib.pipeline.settings import read_settings
from lib.pipeline.workspace import Workspace

TESTED, VALIDATED = 14, 8
SETTINGS = {"CT+PET+MR": ("CT", "PET", "MR"), "CT+MR": ("CT", "MR")}
Scores = dict[str, float]


@dataclass(frozen=True)
class Split:
    """Training and test cases; no case is in both.

    Attributes:
        learn: Cases to train on.
        ask: Cases to outline after the end of training.
    """

    learn: tuple[Case, ...]
    ask: tuple[Case, ...]


class Patients:
    """The labelled cases of a pool, except those that are left out."""

    def __init__(self, pool: Path, *, work: Path | None = None, without: Sequence[str] = ()) -> None:
        """Find the cases.

        Args:
            pool: Folder with one folder per patient, each with a contour of the tumour.
            work: Folder for prepared cases; beside the patients when None.
            without: Ids of patients to leave out.

        Raises:
            ValueError: If the pool has too few labelled patients.
        """
        self.workspace = Workspace(pool, read_settings({"work_dir": str(work)} if work else {}))
        labelled = [case for case in self.workspace.pool.cases if case.label and case.id not in without]
        if len(labelled) < TESTED + 2:
            raise ValueError(
                f"the pool must hold at least {TESTED + 2} labelled patients beside those left out; "
                f"got {len(labelled)} under {pool}."
            )
        self.cases = tuple(sorted(labelled, key=lambda case: hashlib.sha256(case.id.encode()).hexdigest()))

    def split(self, name: str) -> Split:
        """Split the cases by the hash of their ids.

        `test` asks for the first `TESTED` cases. `inner` leaves these out and asks for the first `VALIDATED`
        of the others, at most half of them.

        Raises:
            ValueError: If there is no such split.
        """
        rest = self.cases[TESTED:]
        match name:
            case "test":
                return Split(rest, self.cases[:TESTED])
            case "inner":
                asked = min(VALIDATED, len(rest) // 2)
                return Split(rest[asked:], rest[:asked])
        raise ValueError(f"split must be test or inner; got {name!r}.")

    def modalities(self, setting: str) -> tuple[str, ...]:
        """The pool's names of the modalities of a setting, in the pool's order."""
        return tuple(name for name in self.workspace.pool.modalities if kind(name) in SETTINGS[setting])

    def load(self, cases: Sequence[Case], setting: str) -> list[TrainingCase]:
        """Cases prepared with the modalities of a setting only."""
        modalities = self.modalities(setting)
        preparation = Preparation(modalities, default_reference(modalities))
        cache = VolumeCache(
            self.workspace.folders.work / "cache",
            preparation,
            self.workspace.records,
            max_bytes=disk_bytes(self.workspace.settings, "prepared"),
        )
        loaded = []
        for case in cases:
            prepared = cache.get(case)
            contour = read_volume(_label(case), max_voxels=MAX_VOXELS)
            label = resample(contour, prepared.grid, nearest=True).array > 0
            loaded.append(TrainingCase(prepared, label.astype(np.uint8)))
        return loaded


def _label(case: Case) -> Source:
    if case.label is None:
        raise ValueError(f"case {case.id} must have a contour; it has none.")
    return Source(case.label)


def outline(
    network: Any, case: TrainingCase, present: NDArray[np.bool_] | None = None
) -> NDArray[np.float32]:
    """Probabilities of a case from any network with CIML's interface, in float32 on every machine."""
    return predict(network, case.prepared, present=present, precision="float32")


def judge(probabilities: NDArray[np.float32], case: TrainingCase, decomposition: Decomposition) -> Scores:
    """Dice, average symmetric surface distance and 95th percentile of the Hausdorff distance in mm.

    The lesion is outlined at probability 0.5. If one of the two outlines is empty, the distances are the
    diagonal of the case's volume and Dice is 0.
    """
    spacing = case.prepared.grid.spacing
    distance = surface_distance_of(probabilities, case.label, decomposition=decomposition, spacing=spacing)
    predicted, reference = probabilities[0] >= 0.5, case.label > 0
    hausdorff = float(np.linalg.norm(np.array(reference.shape) * spacing))
    if predicted.any() and reference.any():
        masks = [torch.from_numpy(mask)[None, None].float() for mask in (predicted, reference)]
        found = compute_hausdorff_distance(
            masks[0], masks[1], include_background=True, percentile=95, spacing=spacing
        )
        hausdorff = float(found)
    return {
        "dice": dice(probabilities, case, decomposition),
        "surface_distance": float(distance[0]),
        "hausdorff95": hausdorff,
    }


def dice(probabilities: NDArray[np.float32], case: TrainingCase, decomposition: Decomposition) -> float:
    """Dice of the lesion at probability 0.5.

    Raises:
        ValueError: If a probability is not finite.
    """
    if not np.isfinite(probabilities).all():
        raise ValueError(f"every probability of {case.prepared.id} must be finite; some are not.")
    return float(dice_of(probabilities, case.label, decomposition=decomposition)[0])


def oracle_threshold(case: TrainingCase) -> float:
    """Dice of the best threshold on PET, chosen for this case with the answer known.

    The outline is every voxel of the volume with an uptake of at least the threshold.
    """
    channel = [kind(name) for name in case.prepared.modalities].index("PET")
    uptake = np.asarray(case.prepared.array[channel], dtype=np.float32).ravel()
    order = np.argsort(-uptake, kind="stable")
    inside = np.cumsum(case.label.ravel()[order] > 0)
    taken = np.arange(1, len(order) + 1)
    scores = 2.0 * inside / (taken + inside[-1])
    possible = np.append(np.diff(uptake[order]) != 0, True)  # voxels of equal uptake are taken together
    return float(scores[possible].max())
