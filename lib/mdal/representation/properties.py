"""Label-free measurements of a case, which show whether the modality difference follows something simpler."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lib.cases.preprocessing import PreparedCase

_SECOND_DIFFERENCE = math.sqrt(6.0)  # standard deviation of the second difference of unit white noise
_MAD = 1.4826  # standard deviation of a Gaussian over its median absolute deviation


@dataclass(frozen=True, eq=False)
class CaseProperties:
    """Label-free measurements of a prepared case, or of N cases with a leading axis N.

    Attributes:
        spacing: Voxel size of the reference along D, H, W in mm, shape (3,); distinguishes protocols.
        foreground_ml: Volume of the foreground in ml, shape ().
        signal_to_noise: Standard deviation of each modality in the foreground over its noise, shape (M,);
            NaN where the modality is absent.
    """

    spacing: NDArray[np.float64]
    foreground_ml: NDArray[np.float64]
    signal_to_noise: NDArray[np.float64]


def stack_properties(cases: Sequence[CaseProperties]) -> CaseProperties:
    """Measurements of N cases, stacked along a leading axis N."""
    stacked = {name: np.stack([vars(case)[name] for case in cases]) for name in vars(cases[0])}
    return CaseProperties(**stacked)


def measure_properties(prepared: PreparedCase) -> CaseProperties:
    """Measure a prepared case."""
    inside = np.asarray(prepared.foreground)
    if not inside.any():
        inside = np.ones_like(inside)
    return CaseProperties(
        np.asarray(prepared.grid.spacing, dtype=np.float64),
        np.asarray(inside.sum() * prepared.grid.voxel_ml, dtype=np.float64),
        np.array(
            [
                _signal_to_noise(prepared.array[m], inside) if here else math.nan
                for m, here in enumerate(prepared.present)
            ]
        ),
    )


def _signal_to_noise(array: NDArray[np.float16], inside: NDArray[np.bool_]) -> float:
    """Standard deviation over the noise, estimated from second differences along W; NaN if there is none."""
    values = np.asarray(array, np.float32)
    second = values[..., :-2] - 2 * values[..., 1:-1] + values[..., 2:]
    within = inside[..., 1:-1]
    noise = _MAD * float(np.median(np.abs(second[within]))) / _SECOND_DIFFERENCE if within.any() else 0.0
    return float(values[inside].std()) / noise if noise > 0 else math.nan
