"""What more labels are expected to bring: validation Dice of earlier versions over their labels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

LEAST_VERSIONS, LEAST_PATIENTS = 3, 5  # that were validated on the same patients
LEAST_GROWTH = 1.5  # labels of the last of these versions, as a multiple of those of the first
FLAT = 0.01  # gain of Dice that is not worth the next labels
_DRAWS = 2000  # of the bootstrap

Interval = tuple[float, float]  # 95 %


@dataclass(frozen=True)
class Judged:
    """A version of the model that was validated.

    Attributes:
        version: Number of the version.
        labels: Number of patients whose labels it learned from or was validated on.
        dice: Dice by validation patient.
    """

    version: int
    labels: int
    dice: Mapping[str, float]


@dataclass(frozen=True)
class LabelGain:
    """Expected change of Dice with more labels, by a line through Dice over the logarithm of the labels.

    Attributes:
        first: First version that the line was fitted to.
        last: Last one.
        patients: Number of validation patients that all of these versions were judged on.
        doubling: Change of Dice with twice as many labels, and its interval.
        coming: Change of Dice with the coming labels, and its interval.
    """

    first: Judged
    last: Judged
    patients: int
    doubling: tuple[float, Interval]
    coming: tuple[float, Interval]

    @property
    def is_flat(self) -> bool:
        """Whether the coming labels bring less than `FLAT`, even at the upper end of the interval."""
        return self.coming[1][1] < FLAT


def label_gain(judged: Sequence[Judged], *, coming: int) -> LabelGain | None:
    """Gain that is expected of more labels; None where too few versions or patients were judged.

    Dice is paired: only patients count whom all versions were judged on. The interval resamples them. It does
    not hold for another choice of labels or another seed of the trainings.

    Args:
        judged: Versions, oldest first.
        coming: Number of further labels.
    """
    taken, common = list[Judged](), set[str]()
    for version in reversed(judged):
        shared = common & version.dice.keys() if taken else set(version.dice)
        if len(shared) < LEAST_PATIENTS:
            break
        taken, common = [version, *taken], shared
    if len(taken) < LEAST_VERSIONS or taken[-1].labels < LEAST_GROWTH * taken[0].labels:
        return None
    labels = np.log2([version.labels for version in taken])
    dice = np.array([[version.dice[patient] for patient in sorted(common)] for version in taken])
    off = labels - labels.mean()
    slopes = off @ dice / (off @ off)  # Dice a doubling, of each patient
    doubling, (low, high) = float(slopes.mean()), mean_interval(slopes)
    ahead = float(np.log2(1.0 + coming / taken[-1].labels))
    return LabelGain(
        taken[0],
        taken[-1],
        len(common),
        (doubling, (low, high)),
        (doubling * ahead, (low * ahead, high * ahead)),
    )


def mean_interval(values: Sequence[float] | NDArray[np.float64]) -> Interval:
    """95 % interval of a mean by the percentile bootstrap; the same values give the same interval."""
    known = np.asarray(values, dtype=np.float64)
    drawn = np.random.default_rng(0).integers(known.size, size=(_DRAWS, known.size))
    low, high = np.percentile(known[drawn].mean(axis=1), [2.5, 97.5])
    return float(low), float(high)
