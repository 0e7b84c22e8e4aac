"""Folds of a pool: assigned once, kept with the models, and extended when new cases arrive."""

from __future__ import annotations

import hashlib
import json
import math
import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from typing_extensions import TypedDict

from lib.mdal.scoring.pmi import assign_folds
from lib.runtime.files import replacing
from lib.runtime.own_files import read_or_set_aside

_FILE = "folds.json"


@dataclass(frozen=True)
class PoolKeys:
    """Keys that identify the cases of a pool independently of their names.

    Attributes:
        contents: Content hash of each of the N cases.
        patients: Patient of each case.
    """

    contents: tuple[str, ...]
    patients: tuple[str, ...]

    def groups(self) -> NDArray[np.intp]:
        """Patient number of each case by first appearance, shape (N,); names do not matter."""
        numbers: dict[str, int] = {}
        return np.array(
            [numbers.setdefault(patient, len(numbers)) for patient in self.patients], dtype=np.intp
        )

    def digest(self) -> str:
        """Hash of the contents of the pool and of which cases share a patient."""
        return _digest([self.contents, self.groups().tolist()])


@dataclass(frozen=True, eq=False)
class Folds:
    """Fold in which each patient is held out in each repeat, and the folder of the models.

    Attributes:
        folder: Folder of the models of these folds.
        trained: Content hash -> patient, for each case that was in the pool when the folds were made.
        of_patient: Patient -> fold in each repeat.
    """

    folder: Path
    trained: dict[str, str]
    of_patient: dict[str, list[int]]

    @property
    def count(self) -> int:
        """Number of folds in a repeat."""
        return 1 + max(max(folds) for folds in self.of_patient.values())

    def of(self, keys: PoolKeys) -> NDArray[np.intp]:
        """Fold in which each case of a pool is held out, shape (repeats, N).

        A new patient is unknown to every model, so any fold can hold the patient out; the smallest fold does.
        New patients are assigned in pool order, so the same pool gives the same folds.
        """
        of_patient = dict(self.of_patient)
        sizes = np.zeros((len(next(iter(of_patient.values()))), self.count), dtype=np.intp)
        for folds in of_patient.values():
            sizes[np.arange(len(sizes)), folds] += 1
        for patient in keys.patients:
            if patient not in of_patient:
                smallest = sizes.argmin(axis=1)
                of_patient[patient] = smallest.tolist()
                sizes[np.arange(len(sizes)), smallest] += 1
        return np.array([of_patient[patient] for patient in keys.patients], dtype=np.intp).T

    def stale_share(self, keys: PoolKeys) -> float:
        """Share of a pool that is new to the models; infinite if the models do not fit the pool.

        The models do not fit if a patient was renamed, or if a fold is left with fewer than two patients.
        """
        cases = zip(keys.contents, keys.patients, strict=True)
        if any(self.trained.get(content, patient) != patient for content, patient in cases):
            return math.inf  # a renamed patient of the training would look new
        held_out, groups = self.of(keys), keys.groups()
        patients = [len(set(groups[row == fold])) for row in held_out for fold in range(self.count)]
        if min(patients) < 2:
            return math.inf
        return sum(content not in self.trained for content in keys.contents) / len(keys.contents)


def open_folds(
    folder: Path,
    keys: PoolKeys,
    *,
    settings: object,
    folds: int,
    repeats: int,
    seed: int,
    retrain_share: float,
) -> Folds:
    """Open folds whose models still fit a pool, or make new ones.

    Args:
        folder: Folder of all scorings of a site.
        keys: Contents and patients of the pool.
        settings: JSON value of everything that a training depends on.
        folds: Number of folds.
        repeats: Number of independent assignments to folds.
        seed: Seed of the assignments.
        retrain_share: Share of the pool that may be new or changed before all models are trained again.
    """
    of_settings = _digest([settings, folds, repeats, seed])
    found = (_read(file) for file in sorted(folder.glob(f"{of_settings}-*/{_FILE}")))
    known = [folds for folds in found if folds]
    best = min(known, key=lambda folds: folds.stale_share(keys), default=None)
    if best is not None and best.stale_share(keys) <= retrain_share:
        return best
    new = folder / f"{of_settings}-{keys.digest()}"
    numbers = np.random.SeedSequence([seed, 0]).generate_state(repeats).tolist()
    assigned = np.stack([assign_folds(keys.groups(), folds=folds, seed=number) for number in numbers])
    content = {
        "trained": dict(zip(keys.contents, keys.patients, strict=True)),
        "of_patient": {patient: assigned[:, row].tolist() for row, patient in enumerate(keys.patients)},
    }
    with replacing(new / _FILE) as part:
        part.write_text(json.dumps(content))
    return Folds(new, **content)


def forget_others(folder: Path, *, keep: Path) -> None:
    """Remove the models of other folds, and the scores by these models outside the folder `keep`."""
    for models in folder.iterdir():
        if models != keep.parent:
            shutil.rmtree(models, ignore_errors=True)
    for scores in keep.parent.iterdir():
        if scores.is_dir() and scores != keep:
            shutil.rmtree(scores, ignore_errors=True)
    for left in keep.parent.rglob(".part-*"):  # left by a killed scoring
        left.unlink(missing_ok=True)


class _Kept(TypedDict):
    trained: dict[str, str]
    of_patient: dict[str, list[int]]


def _read(file: Path) -> Folds | None:
    kept = read_or_set_aside(file, _Kept, consequence="Its folds are trained again.")
    return Folds(file.parent, kept["trained"], kept["of_patient"]) if kept else None


def _digest(value: object) -> str:
    return hashlib.blake2b(json.dumps(value).encode(), digest_size=8).hexdigest()
