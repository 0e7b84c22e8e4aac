"""What can be measured of a case without a label, to see what else its modality difference follows."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray
from skimage.metrics import normalized_mutual_information

from lib.cases.preprocessing import PreparedCase

_BINS = 32
_SAMPLED = 100_000  # voxels that a mutual information is estimated from; more do not change it
_SECOND_DIFFERENCE = math.sqrt(6.0)  # its deviation for white noise of deviation 1
_MAD = 1.4826  # deviation of a Gaussian over its median absolute deviation


@dataclass(frozen=True, eq=False)
class CaseProperties:
    """Label-free measurements of a prepared case, or of N cases with a leading N.

    Attributes:
        spacing: (3,) voxel size of the reference along D, H, W in mm; tells protocols apart.
        foreground_ml: () volume of the foreground.
        signal_to_noise: (M,) deviation of a modality in the foreground over its noise; NaN where absent.
        mutual_information: (P,) normalised mutual information of co-registered voxels, 1 (none) to 2;
            NaN where a modality is absent.
    """

    spacing: NDArray[np.float64]
    foreground_ml: NDArray[np.float64]
    signal_to_noise: NDArray[np.float64]
    mutual_information: NDArray[np.float64]


def stack_properties(cases: Sequence[CaseProperties]) -> CaseProperties:
    """Those of N cases as arrays with a leading N."""
    stacked = {name: np.stack([vars(case)[name] for case in cases]) for name in vars(cases[0])}
    return CaseProperties(**stacked)


def measure_properties(prepared: PreparedCase) -> CaseProperties:
    """Measure a prepared case.

    Source: Studholme et al. 1999 for the normalised mutual information.
    """
    inside = np.asarray(prepared.foreground)
    if not inside.any():
        inside = np.ones_like(inside)
    step = max(1, int(inside.sum()) // _SAMPLED)
    voxels = {
        m: np.asarray(prepared.array[m], np.float32)[inside][::step] for m in np.flatnonzero(prepared.present)
    }
    return CaseProperties(
        np.asarray(prepared.grid.spacing, dtype=np.float64),
        np.asarray(inside.sum() * prepared.grid.voxel_ml, dtype=np.float64),
        np.array(
            [
                _signal_to_noise(prepared.array[m], inside) if here else math.nan
                for m, here in enumerate(prepared.present)
            ]
        ),
        np.array(
            [
                _mutual_information(voxels[a], voxels[b]) if a in voxels and b in voxels else math.nan
                for a, b in combinations(range(len(prepared.present)), 2)
            ]
        ),
    )


def _signal_to_noise(array: NDArray[np.float16], inside: NDArray[np.bool_]) -> float:
    """Deviation over the noise that second differences along W show; NaN for a constant."""
    values = np.asarray(array, np.float32)
    second = values[..., :-2] - 2 * values[..., 1:-1] + values[..., 2:]
    within = inside[..., 1:-1]
    noise = _MAD * float(np.median(np.abs(second[within]))) / _SECOND_DIFFERENCE if within.any() else 0.0
    return float(values[inside].std()) / noise if noise > 0 else math.nan


def _mutual_information(first: NDArray[np.float32], second: NDArray[np.float32]) -> float:
    if not (np.ptp(first) and np.ptp(second)):
        return 1.0  # a constant shares nothing
    return float(normalized_mutual_information(first, second, bins=_BINS))  # type: ignore[no-untyped-call]
