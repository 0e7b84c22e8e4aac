"""Who is held out where: decided once for a pool, kept with the models, extended by new cases."""

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
    """What identifies the cases of a pool, whatever they are called.

    Attributes:
        contents: Hash of what each of the N cases holds.
        patients: Of each case.
    """

    contents: tuple[str, ...]
    patients: tuple[str, ...]

    def groups(self) -> NDArray[np.intp]:
        """(N,) number of each case's patient, by first appearance: names do not matter."""
        numbers: dict[str, int] = {}
        return np.array(
            [numbers.setdefault(patient, len(numbers)) for patient in self.patients], dtype=np.intp
        )

    def digest(self) -> str:
        """Hash of the pool: its contents, and which of them are one patient's."""
        return _digest([self.contents, self.groups().tolist()])


@dataclass(frozen=True, eq=False)
class Folds:
    """In which fold of which repeat a patient is held out, and the folder of the models trained so.

    Attributes:
        folder: Where the models of these folds are kept.
        trained: Content of each case that was there when the folds were made -> its patient.
        of_patient: Patient -> fold (one for each repeat).
    """

    folder: Path
    trained: dict[str, str]
    of_patient: dict[str, list[int]]

    @property
    def count(self) -> int:
        """Folds of a repeat."""
        return 1 + max(max(folds) for folds in self.of_patient.values())

    def of(self, keys: PoolKeys) -> NDArray[np.intp]:
        """(repeats, N) fold in which each case of a pool is held out; a new patient joins the smallest.

        A patient unknown to every model may be held out anywhere; the choice is kept by the caller's pool
        order, so the same pool gives the same folds.
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
        """Share of a pool that the models have not been trained for; infinite where they do not fit.

        They do not where a patient was renamed, or where a fold lost so many that none is left to compare.
        """
        cases = zip(keys.contents, keys.patients, strict=True)
        if any(self.trained.get(content, patient) != patient for content, patient in cases):
            return math.inf  # a case that was trained on could be taken for a stranger's
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
    """Folds whose models still fit a pool, or new ones.

    Args:
        folder: Of all scorings of a site.
        keys: Of the pool.
        settings: Everything that a training depends on; JSON.
        folds: Parts of the pool.
        repeats: Assignments to folds.
        seed: Of the assignments.
        retrain_share: Share of the pool that may be new or changed before all is trained again.
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
    """Remove the models of other folds, and what these models say of other pools than `keep`."""
    for models in folder.iterdir():
        if models != keep.parent:
            shutil.rmtree(models, ignore_errors=True)
    for scores in keep.parent.iterdir():
        if scores.is_dir() and scores != keep:
            shutil.rmtree(scores, ignore_errors=True)
    for left in keep.parent.rglob(".part-*"):  # by a scoring that was killed
        left.unlink(missing_ok=True)


class _Kept(TypedDict):
    trained: dict[str, str]
    of_patient: dict[str, list[int]]


def _read(file: Path) -> Folds | None:
    kept = read_or_set_aside(file, _Kept, consequence="Its folds are trained again.")
    return Folds(file.parent, kept["trained"], kept["of_patient"]) if kept else None


def _digest(value: object) -> str:
    return hashlib.blake2b(json.dumps(value).encode(), digest_size=8).hexdigest()
