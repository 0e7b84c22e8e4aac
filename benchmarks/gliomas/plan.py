"""Who is in the generated pool: each patient's lesion, scanner and damage, drawn before any voxel.

Shares are quotas, not chances: of 300 cases as many are rare, damaged or of a scanner as the share says, in
the pool and in the test set alike, and each property is shuffled by itself, so that none tells of another.
The test set has the pool's shares of kinds, prototypes, scanners and unique parts, and no damaged scan: it
asks how good a segmentation is, not whether a scan can be used.
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
    """What is drawn of a patient.

    Attributes:
        case: Folder's name.
        split: pool or test.
        seed: Of everything that is drawn of this patient's voxels.
        prototype: Number of the common appearance, from 1; 0 for a rare one.
        lesion: What to grow.
        scanner: A key of `SCANNERS`.
        age: 0 to 1.
        unique: The modality that alone shows a part of the lesion; empty without one.
        damage: One of `DAMAGES`; empty for a sound case.
        damaged: The modality that is damaged.
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
    """The dials.

    Attributes:
        unique: Share of the cases with a part of the lesion that one modality alone shows.
        damaged: Share of the pool's cases with a damaged scan.
    """

    unique: float = UNIQUE
    damaged: float = DAMAGED

    def __post_init__(self) -> None:
        """Refuse what is no share."""
        for name in ("unique", "damaged"):
            if not 0.0 <= getattr(self, name) <= 1.0:
                raise ValueError(f"{name} must be between 0 and 1; got {getattr(self, name):g}.")


def draw_patients(cases: int, test: int, shares: Shares, *, seed: int) -> list[Patient]:
    """Everyone of a pool and of its test set, who share the common appearances and nothing else.

    Args:
        cases: Of the pool.
        test: Of the test set.
        shares: The dials.
        seed: The same seed and counts, the same patients.
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
    """An even part of the share for each name, the rest for none."""
    return {name: share / len(names) for name in names} | {"": 1.0 - share}
