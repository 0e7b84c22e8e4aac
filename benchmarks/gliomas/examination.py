"""A patient's images and label, made from the patient's drawn properties."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from benchmarks.gliomas.anatomy import Array, draw_head
from benchmarks.gliomas.lesions import RARE, VOXEL_ML, Grown, draw_lesion, grow
from benchmarks.gliomas.plan import Patient
from benchmarks.gliomas.scanner import MODALITIES, SCANNERS, STORED, damage, scan, signals

COLUMNS = (
    "case", "split", "kind", "rare", "prototype", "scanner", "age", "contrast", "volume_ml",
    "unique_modality", "unique_ml", "damage", "damaged_modality",
)  # fmt: skip


@dataclass(frozen=True, eq=False)
class Made:
    """A patient's images and their truth.

    Attributes:
        images: Images in the order of `MODALITIES`, int16, shape (M, D, H, W).
        label: Lesion as 1, uint8, shape (D, H, W).
        regions: Regions of the lesion as 1 to 3, uint8, shape (D, H, W).
        unique: Part of the lesion that only one modality shows, bool, shape (D, H, W).
        truth: Row of `truth.csv`.
    """

    images: NDArray[np.int16]
    label: NDArray[np.uint8]
    regions: NDArray[np.uint8]
    unique: NDArray[np.bool_]
    truth: dict[str, object]


def make(patient: Patient) -> Made:
    """Make a patient's images and label from the patient's drawn properties."""
    rng = np.random.default_rng(patient.seed)
    images, lesion = _examined(patient, rng)
    if patient.damage:
        channel = MODALITIES.index(patient.damaged)
        images[channel] = damage(patient.damage, images[channel], _stranger(patient)[channel], rng)
    stored = np.rint(np.clip(STORED * images, 0, np.iinfo(np.int16).max)).astype(np.int16)
    return Made(
        stored, lesion.label.astype(np.uint8), lesion.regions, lesion.unique_label, _truth(patient, lesion)
    )


def _examined(patient: Patient, rng: np.random.Generator) -> tuple[Array, Grown]:
    """Images as the scanner makes them, shape (M, D, H, W), and the lesion."""
    head = draw_head(rng, age=patient.age)
    lesion = grow(patient.lesion, head, rng, unique=patient.unique)
    seen = signals(head, lesion, contrast=patient.lesion.contrast, unique=patient.unique, rng=rng)
    return scan(seen, SCANNERS[patient.scanner], rng), lesion


def _stranger(patient: Patient) -> Array:
    """Images of a patient outside the pool from the same scanner, shape (M, D, H, W)."""
    rng = np.random.default_rng([*patient.seed, 1])
    head = draw_head(rng, age=float(rng.beta(2.0, 2.0)))
    lesion = grow(draw_lesion(rng, "ring"), head, rng, unique="")
    seen = signals(head, lesion, contrast=1.0, unique="", rng=rng)
    return scan(seen, SCANNERS[patient.scanner], rng)


def _truth(patient: Patient, lesion: Grown) -> dict[str, object]:
    values = (
        patient.case, patient.split, patient.lesion.kind, int(patient.lesion.kind in RARE), patient.prototype,
        patient.scanner, round(patient.age, 3), round(patient.lesion.contrast, 3),
        round(float(lesion.label.sum()) * VOXEL_ML, 2), patient.unique,
        round(float(lesion.unique_label.sum()) * VOXEL_ML, 2), patient.damage, patient.damaged,
    )  # fmt: skip
    return dict(zip(COLUMNS, values, strict=True))
