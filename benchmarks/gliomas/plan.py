"""Patients of the generated pool: the lesion, scanner and damage of each, drawn before any voxel.

Shares are quotas, not probabilities: in the pool and in the test set, the numbers of rare cases, of damaged
cases and of cases from each scanner follow the shares to within one. Each property is shuffled separately, so
that no property predicts another. The test set has the pool's shares of kinds, prototypes, scanners and
unique parts, but no damaged scans: it measures the quality of a segmentation, not whether a scan can be used.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from benchmarks.gliomas.lesions import (
    COMMON_SHARE,
    PROTOTYPES,
    RARE,
    UNIQUE_MODALITIES,
    Lesion,
    draw_lesion,
    draw_prototypes,
    near,
    quota,
)
from benchmarks.gliomas.scanner import DAMAGES, MODALITIES, SCANNERS

UNIQUE = 0.3  # share of the cases with a part that one modality alone shows
DAMAGED = 0.08  # share of the pool's cases with a damaged scan
SPLITS = ("pool", "test")


@dataclass(frozen=True)
class Patient:
    """Properties of a patient that are drawn before any voxel.

    Attributes:
        case: Name of the patient's folder.
        split: `pool` or `test`.
        seed: Seed of all random draws for this patient's voxels.
        prototype: Number of the common appearance, from 1; 0 for a rare one.
        lesion: Lesion to grow.
        scanner: Key of `SCANNERS`.
        age: Age from 0 (young) to 1 (old).
        unique: Modality that alone shows a part of the lesion; empty if there is no such part.
        damage: One of `DAMAGES`; empty for a sound case.
        damaged: Modality that is damaged; empty for a sound case.
    """

    case: str
    split: str
    seed: tuple[int, ...]
    prototype: int
    lesion: Lesion
    scanner: str
    age: float
    unique: str
    damage: str
    damaged: str


@dataclass(frozen=True)
class Shares:
    """The dials of a pool.

    Attributes:
        unique: Share of the cases with a part of the lesion that one modality alone shows.
        damaged: Share of the pool's cases with a damaged scan.
    """

    unique: float = UNIQUE
    damaged: float = DAMAGED

    def __post_init__(self) -> None:
        """Refuse values outside 0 to 1."""
        for name in ("unique", "damaged"):
            if not 0.0 <= getattr(self, name) <= 1.0:
                raise ValueError(f"{name} must be between 0 and 1; got {getattr(self, name):g}.")


def draw_patients(cases: int, test: int, shares: Shares, *, seed: int) -> list[Patient]:
    """Draw the patients of a pool and of its test set; the two share the common appearances and nothing else.

    Args:
        cases: Number of cases in the pool.
        test: Number of cases in the test set.
        shares: Dials of the pool.
        seed: Seed of all patients; the same seed and counts give the same patients.
    """
    prototypes = draw_prototypes(np.random.default_rng([seed, len(SPLITS)]))
    return [
        patient
        for number, (split, count) in enumerate(zip(SPLITS, (cases, test), strict=True))
        for patient in _of_split(split, count, shares, prototypes, (seed, number))
    ]


def _of_split(
    split: str, count: int, shares: Shares, prototypes: Sequence[Lesion], seed: tuple[int, int]
) -> list[Patient]:
    rng = np.random.default_rng(seed)
    tail = 1.0 / np.arange(1, PROTOTYPES + 1)
    appearances: dict[str, float] = {
        str(k + 1): COMMON_SHARE * float(share / tail.sum()) for k, share in enumerate(tail)
    } | {kind: (1.0 - COMMON_SHARE) / len(RARE) for kind in RARE}
    looks = quota(appearances, count, rng)
    scanners = quota({name: scanner.share for name, scanner in SCANNERS.items()}, count, rng)
    uniques = quota(_some(UNIQUE_MODALITIES, shares.unique), count, rng)
    damages = quota(_some(DAMAGES, shares.damaged if split == "pool" else 0.0), count, rng)
    width = len(str(count))
    return [
        Patient(
            case=f"{split}_{number + 1:0{width}d}",
            split=split,
            seed=(*seed, number),
            prototype=0 if look in RARE else int(look),
            lesion=draw_lesion(rng, look) if look in RARE else near(prototypes[int(look) - 1], rng),
            scanner=scanners[number],
            age=float(rng.beta(2.0, 2.0)),
            unique=uniques[number],
            damage=damages[number],
            damaged=str(rng.choice(MODALITIES)) if damages[number] else "",
        )
        for number, look in enumerate(looks)
    ]


def _some(names: Sequence[str], share: float) -> dict[str, float]:
    """Equal parts of the share for each name, and the rest for the empty name."""
    return {name: share / len(names) for name in names} | {"": 1.0 - share}
