"""The labelled cases that a training learns from, and those that validate it."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lib.cases.case import Case
from lib.cases.formats.image import Grid, Volume, resample
from lib.ciml.training.patches import TrainingCase
from lib.ciml.training.split import split_patients
from lib.pipeline.workspace import Workspace
from lib.runtime.errors import UserError
from lib.runtime.files import replacing
from lib.runtime.own_files import map_array
from lib.runtime.progress import OnCasesDone

LEAST_PATIENTS = 2  # labelled patients: one to learn from and one to validate with
VALIDATION_SHARE = 0.2  # share of the labelled patients


@dataclass(frozen=True)
class LabelledCases:
    """Training and validation cases, split by patient.

    Attributes:
        learn: Training cases; none of their patients is in `check`.
        check: Validation cases.
        folder: Folder of the labels, each on the grid of its case's array.
        digest: Hash of the cases and their labels.
        left_out: Why a labelled case is not learned from, in one sentence a case.
    """

    learn: tuple[Case, ...]
    check: tuple[Case, ...]
    folder: Path
    digest: str
    left_out: tuple[str, ...] = ()

    def read(self, workspace: Workspace, cases: Sequence[Case]) -> list[TrainingCase]:
        """Read some of the cases for training; images and labels are memory-mapped.

        Raises:
            UserError: If a case cannot be read.
        """
        return [
            TrainingCase(workspace.cache.get(case), map_array(_label_file(self.folder, case)))
            for case in cases
        ]


def labelled_cases(
    workspace: Workspace, *, on_progress: OnCasesDone = lambda done, of: None
) -> LabelledCases:
    """Split the labelled cases by patient, permanently, and resample every label to its case's grid.

    A case that cannot be read, or whose label cannot, is left out; it stops no other.

    Args:
        workspace: Workspace of the labelled cases.
        on_progress: Called with the number of cases done and the number of all.

    Raises:
        UserError: If there are too few labelled patients that can be read.
    """
    labelled = [case for case in workspace.verdicts.served if case.id in workspace.labels.labelled()]
    folder, left_out = workspace.folders.work / "training" / "labels", list[str]()
    read, hashes = list[Case](), dict[str, bytes]()
    for done, case in enumerate(labelled):
        on_progress(done, len(labelled))
        try:
            label = _on_grid(workspace.labels.read(case, with_ignored=True), workspace.cache.get(case).grid)
        except UserError as err:
            left_out.append(f"Case {case.id} is not learned from: {err}")
            continue
        read.append(case)
        hashes[case.id] = hashlib.blake2b(label.tobytes(), digest_size=16).digest()
        with replacing(_label_file(folder, case)) as part_file, part_file.open("wb") as stream:
            np.save(stream, label)
    learn, check = _split(workspace, read, left_out)
    digest = hashlib.blake2b(digest_size=16)
    for case in [*learn, *check]:
        for part in (case.id, workspace.cache.key(case), str(case in check)):
            digest.update(part.encode())
        digest.update(hashes[case.id])
    used = {_label_file(folder, case) for case in read}
    for file in folder.iterdir():
        if file not in used:
            file.unlink()
    return LabelledCases(tuple(learn), tuple(check), folder, digest.hexdigest(), tuple(left_out))


def _split(
    workspace: Workspace, cases: Sequence[Case], left_out: Sequence[str]
) -> tuple[list[Case], list[Case]]:
    patients, needed = {case.patient for case in cases}, LEAST_PATIENTS
    if len(patients) < needed:
        raise UserError(
            f"training needs final labels of at least {needed} patients; there are {len(patients)}. "
            + " ".join([f"Label {needed - len(patients)} more and submit them.", *left_out[:3]])
        )
    held_out = split_patients(
        workspace.folders.work / "model" / "split.json", patients, share=VALIDATION_SHARE
    )
    learn = [case for case in cases if case.patient not in held_out]
    check = [case for case in cases if case.patient in held_out]
    if not learn or not check:
        side = "validation" if not learn else "training"
        raise UserError(
            f"training needs labelled patients on both sides of the split; all {len(cases)} cases are on "
            f"the {side} side. Label more."
        )
    return learn, check


def _on_grid(label: Volume, grid: Grid) -> NDArray[np.uint8]:
    """Label on the grid of its case's array; one that vanishes there would teach that there is no lesion."""
    array: NDArray[np.uint8] = resample(label, grid, nearest=True).array
    if label.array.any() and not array.any():
        raise UserError(
            "its label must cover at least one voxel of the case's reference image; nothing is left of it on "
            "the grid of that image. Outline it on that image, or set --conf reference."
        )
    return array


def _label_file(folder: Path, case: Case) -> Path:
    return folder / f"{hashlib.blake2b(case.id.encode(), digest_size=16).hexdigest()}.npy"
